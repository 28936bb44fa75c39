"""Exit codes and the one place where an error becomes a line on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from orchestrator.adapters.brokers import BrokerUnavailableError
from schemas.errors import FleetError


class Exit(IntEnum):
    """What a shell script can tell from ``$?``; 2 is the command line's own."""

    OK = 0
    FAILED = 1
    WAITING = 3
    NOT_FOUND = 4
    UNREACHABLE = 5
    TIMEOUT = 6


@contextmanager
def reported() -> Iterator[None]:
    """Turn the project's errors into one line and an exit code; defects keep their traceback."""
    try:
        yield
    except BrokerUnavailableError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(Exit.UNREACHABLE) from error
    except FleetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(Exit.FAILED) from error

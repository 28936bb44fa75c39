"""Exit codes and the one place where an error becomes a line on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from orchestrator.adapters.broker_url import BrokerUnavailableError
from schemas.errors import FleetError


class Exit(IntEnum):
    """What a shell script can tell from ``$?``; 2 is the command line's own, for a command that was typed wrong."""

    OK = 0
    FAILED = 1
    WAITING = 3
    """It waits for a person."""
    NOT_FOUND = 4
    UNREACHABLE = 5
    TIMEOUT = 6
    CHANGES = 10
    """``plan --exit-code``: there is something to do."""


class NoAnswerError(FleetError, TimeoutError):
    """Nobody answered in time; the text says what is known of the orchestrator and what to do."""


@contextmanager
def reported() -> Iterator[None]:
    """Turn the project's errors into one line and an exit code; defects keep their traceback."""
    try:
        yield
    except FleetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(_code_of(error)) from error


def _code_of(error: FleetError) -> Exit:
    match error:
        case BrokerUnavailableError():
            return Exit.UNREACHABLE
        case NoAnswerError():
            return Exit.TIMEOUT
        case _:
            return Exit.FAILED

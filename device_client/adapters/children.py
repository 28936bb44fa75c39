"""Whose a child of ours is: somebody's who waits for it, or an orphan that we adopted; imports nothing but Python.

Operators' commands bear a mark, which whatever they put into the background keeps: a soft limit of resident memory.
Linux hands it on through fork and exec, shows it to everybody, and has not acted upon it since 2.4.30. Variables would
not do: programs that set their title, as nginx does, overwrite them.
"""

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

MARK_BYTES: Final = 2**32 - 2**16 - 1
"""Nobody's limit by accident, and not unlimited where a number has 32 bits."""

_starting: Final = threading.Lock()
_commands: Final[set[int]] = set()


@contextmanager
def settled() -> Iterator[set[int]]:
    """Let nobody start a child meanwhile; gives the ids of operators' commands that somebody waits for.

    Who starts one does it in here until it stands among those that are waited for, so that a child that ended at once
    is not buried as an orphan, and its exit code with it.
    """
    with _starting:
        yield _commands


@contextmanager
def marking() -> Iterator[set[int]]:
    """Mark what is started meanwhile as an operator's command; otherwise as ``settled``."""
    with _starting:
        soft, hard = resource.getrlimit(resource.RLIMIT_RSS)
        _limit(MARK_BYTES, hard)
        try:
            yield _commands
        finally:
            _limit(soft, hard)


def bear_no_mark() -> None:
    """Shed the mark if an operator's command has started this process; its applications would have it, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_RSS)
    if soft == MARK_BYTES:
        _limit(hard, hard)


def _limit(soft: int, hard: int) -> None:
    with suppress(OSError, ValueError):  # beyond a hard limit; the variables must do then
        resource.setrlimit(resource.RLIMIT_RSS, (soft, hard))

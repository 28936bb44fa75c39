"""Running the command lines of systemd and container engines; imports nothing but Python."""

import subprocess
from collections.abc import Sequence
from typing import Final

ANSWER_SECONDS: Final = 30.0


class ProgramError(OSError):
    """The world's fault: a program refused, or did not answer in time. The text is what it said."""


def run(command: Sequence[str], timeout_seconds: float = ANSWER_SECONDS, *, merged: bool = False) -> str:
    """Run a program and return what it prints; with ``merged`` also what it says about errors.

    Raises:
        OSError: It is not there; as ``ProgramError`` when it fails or takes too long.
    """
    try:
        done = subprocess.run(  # noqa: S603 - no shell is involved
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE, text=True, errors="replace",
            timeout=timeout_seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{command[0]} {command[1]} did not answer within {timeout_seconds:.0f} s") from None
    if done.returncode != 0:
        said = ((done.stderr or "").strip() or done.stdout.strip()).splitlines()
        raise ProgramError(f"{command[0]} {command[1]}: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout

"""Becomes another program that ends when the program that started it does, however that ends.

``python -m orchestrator.adapters.child PARENT_PID PROGRAM [ARGUMENT...]`` asks Linux to send it SIGTERM when its parent
dies, and then is replaced by PROGRAM, which inherits that. For programs that cannot be told to watch their parent.

Source:
    prctl(2), PR_SET_PDEATHSIG: kept across execve, and lost if PROGRAM changes its user.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1


def main(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by ``arguments[1:]``, which ends when its parent ``arguments[0]`` does."""
    parent, program = int(arguments[0]), list(arguments[1:])
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent died before it could be watched")
    os.execv(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])

"""A step that failed, with the code that the core understands."""

import errno

from device_client.core.codes import RETRYABLE, ErrorCode
from schemas.errors import FleetError


class StepError(FleetError):
    """The world's fault: a step cannot be done. The text names the place.

    Args:
        code: What is reported.
        message: Place and reason.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def retryable(self) -> bool:
        """It may pass by itself."""
        return self.code in RETRYABLE


class RestartError(FleetError):
    """Nobody's fault: the agent ends because it is to begin anew. The text says why."""


class CancelledError(Exception):
    """Nobody wants the step any more."""


class WindowClosedError(CancelledError):
    """The hours are over in which the order lets it fetch; what is there stays.

    Args:
        message: Which hours.
        opens_in_seconds: How long until the next.
    """

    def __init__(self, message: str, opens_in_seconds: float) -> None:
        super().__init__(message)
        self.opens_in_seconds = opens_in_seconds


def from_os_error(error: OSError) -> StepError:
    """Return what a failed system call means for a step."""
    code = ErrorCode.NO_SPACE if error.errno in (errno.ENOSPC, errno.EDQUOT) else ErrorCode.IO_ERROR
    return StepError(code, f"{error.filename or 'device'}: {error.strerror or error}")

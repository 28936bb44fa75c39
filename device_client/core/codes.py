"""Why a step failed: one closed list, and which of it is worth another attempt."""

from enum import StrEnum
from typing import Final

from schemas.messages import ErrorReport

MESSAGE_LENGTH_MAX: Final = 512


class ErrorCode(StrEnum):
    """The codes of ``reported.error``."""

    AGENT_SILENT = "agent_silent"
    ARCHIVE_INVALID = "archive_invalid"
    ARCH_MISMATCH = "arch_mismatch"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    CONSENT_MISSING = "consent_missing"
    CRASH_LOOP = "crash_loop"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    DEVICE_TYPE_MISMATCH = "device_type_mismatch"
    DOWNGRADE = "downgrade"
    DOWNLOAD_FAILED = "download_failed"
    EXPIRED = "expired"
    FORMAT_UNSUPPORTED = "format_unsupported"
    HOOK_FAILED = "hook_failed"
    HOOK_WAITS = "hook_waits"
    INTEGRITY_FAILED = "integrity_failed"
    INTERRUPTED = "interrupted"
    INVALID_ORDER = "invalid_order"
    IO_ERROR = "io_error"
    MANIFEST_INVALID = "manifest_invalid"
    MEDIA_MISSING = "media_missing"
    MEDIA_STALE = "media_stale"
    NOT_ALLOWED_FROM = "not_allowed_from"
    NO_SAFE_ROLLBACK = "no_safe_rollback"
    NO_SPACE = "no_space"
    OUTSIDE_WINDOW = "outside_window"
    REFUSED_RELEASE = "refused_release"
    REVOKED = "revoked"
    ROLLBACK_FAILED = "rollback_failed"
    ROOT_EXPIRED = "root_expired"
    ROUTER_FAILED = "router_failed"
    SIGNATURE_INVALID = "signature_invalid"
    SIZE_MISMATCH = "size_mismatch"
    SMOKE_TEST_FAILED = "smoke_test_failed"
    START_FAILED = "start_failed"
    UNHEALTHY = "unhealthy"
    VERSION_MISMATCH = "version_mismatch"
    WRONG_DEVICE = "wrong_device"
    WRONG_VERSION = "wrong_version"


RETRYABLE: Final = frozenset(
    {
        ErrorCode.CHECKSUM_MISMATCH,  # damaged on the way; a forged release fails the same way until attempts run out
        ErrorCode.DOWNLOAD_FAILED,
        ErrorCode.HOOK_WAITS,
        ErrorCode.IO_ERROR,
        ErrorCode.MEDIA_MISSING,
        ErrorCode.NO_SPACE,
        ErrorCode.SIZE_MISMATCH,
    }
)
"""Failures that may pass by themselves."""

WAITED_FOR: Final = frozenset({ErrorCode.CONSENT_MISSING, ErrorCode.HOOK_WAITS, ErrorCode.OUTSIDE_WINDOW})
"""What a device that does not ask yet waits for."""


def describe(code: ErrorCode, step: str, message: str, *, retryable: bool = False) -> ErrorReport:
    """Return the error as it is reported; the message is cut to what the wire allows."""
    return ErrorReport(code=code.value, step=step, message=message[:MESSAGE_LENGTH_MAX], retryable=retryable)

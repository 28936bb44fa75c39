"""Identifiers: what may stand in a topic, and which shard a device belongs to.

An id enters through inventory, enrolment or a command and is checked there with ``fullmatch``; it is checked again
by the one function that builds topics. A slash, a wildcard, a control character or a dot never reaches the bus.
"""

import re
from typing import Annotated, Final
from zlib import crc32

from pydantic import Field

from schemas.errors import TopicError

ID_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}"
SHARD_COUNT: Final = 64
SHARDS: Final = {f"{number:02d}": number for number in range(SHARD_COUNT)}
"""Shards by their names in topics."""

_ID: Final = re.compile(ID_PATTERN)
_NAME: Final = re.compile(NAME_PATTERN)

Id = Annotated[str, Field(pattern=f"^{ID_PATTERN}$")]
"""A device, rollout, wave, actor, group or worker: it may stand in a topic."""

Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
"""A release or a version: may hold dots, so it lives in payloads and never in a topic."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""A SHA-256 digest in lower-case hex."""

Nonce = Annotated[str, Field(pattern="^[0-9a-f]{32,128}$")]
"""16 or more random bytes in lower-case hex, new for every request."""


def is_id(text: str) -> bool:
    """Say whether ``text`` may stand in a topic."""
    return _ID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Say whether ``text`` may name a release or a version."""
    return _NAME.fullmatch(text) is not None


def check_id(text: str) -> str:
    """Return ``text`` if it may stand in a topic.

    Raises:
        TopicError: It may not; the caller's fault.
    """
    if not is_id(text):
        raise TopicError(f"{text[:80]!r} is no id: 1 to 64 of A-Z a-z 0-9 _ -, first a letter or digit")
    return text


def shard_of(device: str) -> str:
    """Return the two-digit shard, 00 to 63, in whose topic ``device`` publishes its health."""
    return f"{crc32(device.encode()) % SHARD_COUNT:02d}"

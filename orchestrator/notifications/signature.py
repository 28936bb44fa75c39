"""How a receiver knows that a webhook is ours and is not an old one: HMAC-SHA256 over timestamp and body."""

import hashlib
import hmac
from typing import Final

SIGNATURE_HEADER: Final = "X-Tidegate-Signature"
TIMESTAMP_HEADER: Final = "X-Tidegate-Timestamp"
ID_HEADER: Final = "Idempotency-Key"
AGE_MAX_SECONDS: Final = 300


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the signature header's value: the timestamp, a full stop and the body, as they are sent, are covered."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def is_genuine(secret: bytes, timestamp: str, body: bytes, signature: str, now: float) -> bool:
    """Say whether a request is ours and at most five minutes old; compared in constant time."""
    if not timestamp.isascii() or not timestamp.isdecimal() or abs(now - int(timestamp)) > AGE_MAX_SECONDS:
        return False
    return hmac.compare_digest(sign(secret, timestamp, body).encode(), signature.encode("utf-8", "replace"))

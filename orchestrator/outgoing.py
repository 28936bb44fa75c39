"""One message on its way out: what the engine wants published, and what connections carry."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish."""

    topic: str
    payload: bytes
    retain: bool = False
    qos: int = 1
    correlation: bytes | None = None
    expiry_seconds: int | None = None
    """After so long nobody wants it any more."""

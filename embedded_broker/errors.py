"""What can go wrong, by whose fault."""

from embedded_broker.reasons import Reason
from schemas.errors import DecodeError, FleetError


class PacketError(DecodeError):
    """The peer's fault: bytes or packets that MQTT does not allow. Its connection is closed.

    Attributes:
        reason: What an MQTT 5 peer is told in DISCONNECT or CONNACK.
    """

    def __init__(self, message: str, reason: Reason = Reason.MALFORMED_PACKET) -> None:
        super().__init__(message)
        self.reason = reason


class ConfigurationError(FleetError):
    """The operator's fault: an ACL, password file or option that cannot be used. The text holds place and remedy."""


class StoreError(FleetError):
    """The world's fault: a database that is corrupt, newer than this program, in use or not writable."""

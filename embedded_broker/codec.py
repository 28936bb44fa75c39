"""Framing: a stream of bytes to packets, and back.

The size of a packet is known after at most five bytes and is checked before anything of it is kept, so a connection
never holds more than one packet of the allowed size.
"""

from collections.abc import Iterator
from typing import Final

from embedded_broker.decode import decode
from embedded_broker.encode import encode
from embedded_broker.errors import PacketError
from embedded_broker.packets import Connect, Packet, Version
from embedded_broker.reasons import Reason

__all__ = ["PACKET_SIZE_MAX_BYTES", "Parser", "decode", "encode"]

PACKET_SIZE_MAX_BYTES: Final = 256 * 1024
_LENGTH_BYTES_MAX: Final = 4


class Parser:
    """Cuts one connection's stream into packets.

    Attributes:
        version: What the peer speaks: as given, and from its CONNECT on as that says.
    """

    def __init__(self, version: Version = Version.V5, *, size_max_bytes: int = PACKET_SIZE_MAX_BYTES) -> None:
        self.version = version
        self._size_max_bytes = size_max_bytes
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that are complete with these bytes, decoding each when it is asked for.

        Exhaust the iterator before feeding again. After an error the stream cannot be read on.

        Raises:
            PacketError: The bytes are not MQTT, or a packet is larger than allowed. The packets before it
                have been yielded.
        """
        data = self._rest + data if self._rest else data
        at = 0
        while (frame := self._frame(data, at)) is not None:
            body_at, end = frame
            packet = decode(data[at], data[body_at:end], self.version)
            if isinstance(packet, Connect):
                self.version = packet.version
            at = end
            yield packet
        self._rest = data[at:]

    def _frame(self, data: bytes, at: int) -> tuple[int, int] | None:
        """Where the body of the packet at ``at`` begins and ends, once all of it is there."""
        length = 0
        for index in range(_LENGTH_BYTES_MAX):
            position = at + 1 + index
            if position >= len(data):
                return None
            byte = data[position]
            length |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:  # noqa: PLR2004 - the continuation bit
                break
        else:
            raise PacketError("a remaining length is longer than four bytes")
        end = position + 1 + length
        if end - at > self._size_max_bytes:
            raise PacketError(
                f"a packet of {end - at} bytes is larger than the {self._size_max_bytes} allowed",
                Reason.PACKET_TOO_LARGE,
            )
        return (position + 1, end) if end <= len(data) else None

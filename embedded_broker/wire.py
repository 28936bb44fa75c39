"""MQTT's data types over bytes: integers, variable byte integers, strings, binary data."""

import re
from typing import Final

from embedded_broker.errors import PacketError
from embedded_broker.reasons import Reason

VARINT_MAX: Final = 268_435_455
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


def check_text(text: str) -> str:
    """Return the text, which holds no control character and no non-character; mosquitto draws the same line.

    Raises:
        PacketError: The peer sent such a character.

    Source:
        MQTT 5.0, section 1.5.4 (U+0000 must not, the others should not be sent).
    """
    if not text.isprintable() and _FORBIDDEN.search(text):
        raise PacketError("a string holds a control character; send printable text")
    return text


def varint(value: int) -> bytes:
    """Encode a variable byte integer, 0..268435455."""
    assert 0 <= value <= VARINT_MAX, value
    if value < 0x80:  # noqa: PLR2004 - seven bits to a byte is the format itself
        return bytes((value,))
    encoded = bytearray()
    while value:
        value, digit = divmod(value, 0x80)
        encoded.append(digit | 0x80 if value else digit)
    return bytes(encoded)


def u16(value: int) -> bytes:
    """Encode a two byte integer."""
    return value.to_bytes(2, "big")


def binary(value: bytes) -> bytes:
    """Encode binary data with its length in front; at most 65535 bytes."""
    return len(value).to_bytes(2, "big") + value


def text(value: str) -> bytes:
    """Encode a string as UTF-8 with its length in front; at most 65535 bytes."""
    return binary(value.encode())


class Reader:
    """Reads one packet's body from the front; running over its end is the peer's fault."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)

    @property
    def left_bytes(self) -> int:
        """How many bytes are not read yet."""
        return self._end - self._at

    def take(self, count: int) -> bytes:
        """Read so many bytes.

        Raises:
            PacketError: The packet ends before; so do all other methods.
        """
        at = self._at
        if at + count > self._end:
            raise PacketError("the packet ends in the middle of a field")
        self._at = at + count
        return self._data[at : at + count]

    def rest(self) -> bytes:
        """Read all that is left."""
        return self.take(self._end - self._at)

    def u8(self) -> int:
        """Read one byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Read a two byte integer."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Read a four byte integer."""
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        """Read a variable byte integer of at most four bytes, in its shortest form."""
        value = 0
        for index in range(4):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:  # noqa: PLR2004 - the continuation bit
                if index and not byte:
                    raise PacketError("a variable byte integer is longer than it must be")
                return value
        raise PacketError("a variable byte integer is longer than four bytes")

    def binary(self) -> bytes:
        """Read binary data with its length in front."""
        return self.take(self.u16())

    def text(self) -> str:
        """Read a string: valid UTF-8 without control characters."""
        return decode_text(self.binary())

    def packet_id(self) -> int:
        """Read a packet identifier, which is never 0."""
        value = self.u16()
        if not value:
            raise PacketError("a packet identifier is 0", Reason.PROTOCOL_ERROR)
        return value

    def end(self) -> None:
        """Refuse a packet that goes on after its last field."""
        if self._at != self._end:
            raise PacketError("the packet goes on after its last field")


def decode_text(data: bytes) -> str:
    """Decode a string.

    Raises:
        PacketError: It is not UTF-8 or holds a control character.
    """
    try:
        return check_text(data.decode())
    except UnicodeDecodeError as error:
        raise PacketError("a string is not UTF-8") from error

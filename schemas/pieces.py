"""Pieces over the bus: how an order names that way, and how a piece travels.

A device asks with a ``PieceRequest``, and hears a piece or a ``PieceRefusal``. A piece is binary, because base64 would
make it a third larger: eight letters, then the digest that was asked for, where the piece stands and how long the whole
is (8 bytes each, big-endian), then its bytes. The first byte tells a piece from a refusal, which is a JSON object.

Nobody believes a piece: what is put together from pieces is proven by its digest, like everything that is fetched.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final, cast, get_args

from schemas.codec import decode
from schemas.errors import DecodeError
from schemas.messages import PIECE_BYTES_MAX, PieceFolder, PieceRefusal

MQTT_BASE: Final = "mqtt:"
"""Stands in an order where the base address of a registry would."""
_MAGIC: Final = b"tgpiece1"
_HEAD: Final = struct.Struct(">8s32sQQ")
HEAD_BYTES: Final = _HEAD.size
"""Before the bytes of each piece."""
_ADDRESS: Final = re.compile(rf"{MQTT_BASE}/({'|'.join(get_args(PieceFolder))})/([0-9a-f]{{64}})")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of something that is addressed by its digest.

    Attributes:
        sha256: What it is a part of, as its sender says.
        offset_bytes: Where it stands in that.
        total_bytes: How long that is.
        data: 1 to ``PIECE_BYTES_MAX`` bytes.
    """

    sha256: str
    offset_bytes: int
    total_bytes: int
    data: bytes


def is_on_bus(url: str) -> bool:
    """Say whether an address of an order is to be asked over the bus."""
    return url.startswith(f"{MQTT_BASE}/")


def read_address(url: str) -> tuple[PieceFolder, str] | None:
    """Return folder and digest of an address on the bus; None if it is none."""
    match = _ADDRESS.fullmatch(url)
    return None if match is None else (cast("PieceFolder", match[1]), match[2])


def write_piece(piece: Piece) -> bytes:
    """Return a piece as it travels."""
    assert 0 < len(piece.data) <= PIECE_BYTES_MAX, "a piece has bytes, and not too many"
    return _HEAD.pack(_MAGIC, bytes.fromhex(piece.sha256), piece.offset_bytes, piece.total_bytes) + piece.data


def read_piece(payload: bytes) -> Piece | PieceRefusal:
    """Read what a device hears when it has asked.

    Raises:
        DecodeError: It is neither a piece nor a refusal; the sender's fault.
    """
    if not payload.startswith(_MAGIC):
        return decode(PieceRefusal, payload)
    data_bytes = len(payload) - _HEAD.size
    if not 0 < data_bytes <= PIECE_BYTES_MAX:
        raise DecodeError(f"a piece of {data_bytes} bytes, from 1 to {PIECE_BYTES_MAX} are allowed")
    _, digest, offset_bytes, total_bytes = _HEAD.unpack_from(payload)
    if offset_bytes + data_bytes > total_bytes:
        raise DecodeError(f"a piece that ends behind the {total_bytes} bytes that it is a part of")
    return Piece(digest.hex(), offset_bytes, total_bytes, payload[_HEAD.size :])

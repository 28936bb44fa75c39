"""How pieces are named in an order and how they travel."""

import pytest

from schemas.codec import decode, encode
from schemas.errors import DecodeError
from schemas.messages import PIECE_BYTES_MAX, PieceRefusal, PieceRequest
from schemas.pieces import HEAD_BYTES, Piece, is_on_bus, read_address, read_piece, write_piece

SHA256 = "ab" * 32
WHOLE = Piece(SHA256, 32_768, 70_000, bytes(range(256)))


def test_a_piece_is_read_as_it_was_written_and_its_head_is_all_that_is_added() -> None:
    written = write_piece(WHOLE)

    assert read_piece(written) == WHOLE
    assert len(written) == len(WHOLE.data) + HEAD_BYTES
    assert written[:8] == b"tgpiece1"
    assert written[8:40].hex() == SHA256
    assert [int.from_bytes(written[at : at + 8], "big") for at in (40, 48)] == [32_768, 70_000]


def test_a_refusal_is_told_from_a_piece_by_its_first_byte() -> None:
    refusal = PieceRefusal(code="busy", sha256=SHA256, offset_bytes=0, retry_after_seconds=15.0)

    assert read_piece(encode(refusal)) == refusal


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"tgpiece1",
        write_piece(WHOLE)[:HEAD_BYTES],
        write_piece(Piece(SHA256, 0, PIECE_BYTES_MAX, bytes(PIECE_BYTES_MAX))) + b"x",
        write_piece(Piece(SHA256, 0, 99, bytes(100))),
        write_piece(Piece(SHA256, 2**64 - 1, 2**64 - 1, b"x")),
        b'{"code": 7}',
    ],
)
def test_what_is_no_piece_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        read_piece(payload)


@pytest.mark.parametrize(
    "question",
    [
        {"folder": "keys", "sha256": SHA256},
        {"folder": "../keys", "sha256": SHA256},
        {"folder": "chunks", "sha256": "../" + "a" * 61},
        {"folder": "chunks", "sha256": SHA256, "offset_bytes": -1},
        {"folder": "chunks", "sha256": SHA256, "length_bytes": 0},
        {"folder": "chunks", "sha256": SHA256, "length_bytes": PIECE_BYTES_MAX + 1},
    ],
)
def test_a_question_for_what_no_store_has_or_for_too_much_is_refused(question: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        decode(PieceRequest, str(question).replace("'", '"').encode())


def test_an_address_on_the_bus_names_folder_and_digest_and_nothing_else_is_one() -> None:
    assert read_address(f"mqtt:/chunks/{SHA256}") == ("chunks", SHA256)
    for url in (f"mqtt:/keys/{SHA256}", f"mqtt://broker/chunks/{SHA256}", "mqtt:/chunks/..", f"mqtt:/chunks/{SHA256}/"):
        assert read_address(url) is None
    assert is_on_bus(f"mqtt:/manifests/{SHA256}")
    assert not is_on_bus(f"http://registry/manifests/{SHA256}")

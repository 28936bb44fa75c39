"""Payloads to values and back: JSON or msgpack by the first byte, bounded before anything is parsed.

Hostile input is the normal case. Size comes first; then a parser that refuses duplicate keys, NaN, infinities,
extension types, non-text keys and large containers; then a depth bound; then the strict model. Whatever is wrong ends
in one ``DecodeError``. JSON costs a small multiple of its own size; msgpack announces lengths before it delivers, so
there nested headers can cost up to ``ARRAY_LENGTH_MAX`` pointers each, a few megabytes in all.
"""

import json
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Never, TypeVar

import msgpack
from pydantic import BaseModel, ValidationError

from schemas.errors import DecodeError

DEPTH_MAX: Final = 16
MAP_LENGTH_MAX: Final = 256
ARRAY_LENGTH_MAX: Final = 1024
INTEGER_MAX: Final = 2**53 - 1
_MSGPACK_MAPS: Final = frozenset({*range(0x80, 0x90), 0xDE, 0xDF})
"""First bytes of fixmap, map 16 and map 32."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a payload may cost.

    Attributes:
        is_walked: Whether every value is looked at before the model is. Without it the model alone bounds its fields,
            and what it does not know is dropped unread: for small payloads whose model has no free-form field.
    """

    bytes_max: int
    array_length_max: int = ARRAY_LENGTH_MAX
    text_length_max: int = 16 * 1024
    is_walked: bool = True


MESSAGE: Final = Bounds(64 * 1024)
"""Anything on the bus."""
RETAINED: Final = Bounds(16 * 1024)
"""State that a broker keeps for every device."""
TRUST: Final = Bounds(64 * 1024, text_length_max=64 * 1024)
"""A trust root, or as many of them as fit into one message."""
HEALTH: Final = Bounds(4 * 1024, is_walked=False)
"""One health sample."""
MANIFEST: Final = Bounds(8 * 1024 * 1024, array_length_max=20_000, text_length_max=8 * 1024 * 1024)
"""A manifest, fetched by digest and never sent over the bus."""

Model = TypeVar("Model", bound=BaseModel)


def encode(message: BaseModel) -> bytes:
    """Encode ``message`` as a JSON object in UTF-8, the same bytes for the same value."""
    return message.model_dump_json().encode()


def encode_msgpack(message: BaseModel) -> bytes:
    """Encode ``message`` as a msgpack map without its unknown (null) fields."""
    return bytes(msgpack.packb(message.model_dump(mode="json", exclude_none=True)))


def decode(model: type[Model], payload: bytes, bounds: Bounds = MESSAGE) -> Model:
    """Parse ``payload`` into ``model``.

    Args:
        model: What the topic promises.
        payload: As received.
        bounds: What it may cost; the size is checked before parsing.

    Raises:
        DecodeError: Too large, undecodable, out of bounds or not a ``model``; the peer's fault. The text names the
        field.
    """
    tree = decode_object(payload, bounds)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # A key may be anything; in a log it must not start a new line.
        place = ".".join(map(str, first["loc"])).encode("unicode_escape").decode() or "payload"
        raise DecodeError(f"{place}: {first['msg']}", place) from error


def decode_object(payload: bytes, bounds: Bounds = MESSAGE) -> dict[str, Any]:
    """Parse ``payload`` into a map of plain values within all bounds of this module.

    Raises:
        DecodeError: As for ``decode``.
    """
    if len(payload) > bounds.bytes_max:
        raise DecodeError(f"{len(payload)} bytes, at most {bounds.bytes_max} are allowed")
    if not payload:
        raise DecodeError("empty payload, expected an object")
    try:
        tree = _parse_msgpack(payload, bounds) if is_msgpack_map(payload[0]) else _parse_json(payload)
    except DecodeError:
        raise
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise DecodeError(f"undecodable: {error or type(error).__name__}") from error
    if not isinstance(tree, dict):
        raise DecodeError(f"expected an object, got {type(tree).__name__}")
    if bounds.is_walked:
        _check_bounds(tree, bounds)
    return tree


def is_msgpack_map(first: int) -> bool:
    """Say whether a payload that begins so is a map in msgpack; otherwise it is JSON, or nothing."""
    return first in _MSGPACK_MAPS


def _parse_json(payload: bytes) -> object:
    return _JSON.decode(payload.decode())


def _parse_msgpack(payload: bytes, bounds: Bounds) -> object:
    return msgpack.unpackb(
        payload,
        raw=False,
        strict_map_key=True,
        object_pairs_hook=_unique,
        ext_hook=_refuse_extension,
        max_array_len=ARRAY_LENGTH_MAX,  # It is allocated when announced; nothing larger travels as msgpack.
        max_map_len=MAP_LENGTH_MAX,
        max_str_len=bounds.text_length_max,
        max_bin_len=0,
        max_ext_len=0,
    )


def _unique(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise DecodeError("a key stands twice in one object")
    return tree


def _refuse_constant(text: str) -> Never:
    raise DecodeError(f"{text} is no number")


_JSON: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _refuse_extension(code: int, _data: bytes) -> Never:
    raise DecodeError(f"msgpack extension {code} is not allowed")


def _check_bounds(tree: object, bounds: Bounds) -> None:
    """Walk without recursion, so that depth cannot exhaust the stack; each kind of value stands for itself alone."""
    level: list[object] = [tree]
    text_length_max = bounds.text_length_max
    for _ in range(DEPTH_MAX):
        below: list[object] = []
        for value in level:
            if type(value) is str:  # most values are texts, and most texts are plain
                if len(value) > text_length_max or not value.isascii():
                    _check_text(value, bounds)
            elif type(value) is dict:
                _check_map(value)
                below += value.keys()
                below += value.values()
            elif type(value) is list:
                if len(value) > bounds.array_length_max:
                    raise DecodeError(f"an array of {len(value)} items, at most {bounds.array_length_max}")
                below += value
            elif value is not None and type(value) is not bool:
                _check_number(value)
        if not below:
            return
        level = below
    raise DecodeError(f"nested deeper than {DEPTH_MAX}")


def _check_map(value: dict[object, object]) -> None:
    if len(value) > MAP_LENGTH_MAX:
        raise DecodeError(f"an object of {len(value)} keys, at most {MAP_LENGTH_MAX}")
    for key in value:
        if type(key) is not str:
            raise DecodeError("a key that is no text")


def _check_number(value: object) -> None:
    match value:
        case float():
            if not isfinite(value):
                raise DecodeError("NaN and infinities are no numbers")
        case int():
            if abs(value) > INTEGER_MAX:
                raise DecodeError(f"an integer beyond {INTEGER_MAX}")
        case _:
            raise DecodeError(f"{type(value).__name__} is not allowed")


def _check_text(text: str, bounds: Bounds) -> None:
    if len(text) > bounds.text_length_max:
        raise DecodeError(f"a text of {len(text)} characters, at most {bounds.text_length_max}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DecodeError("a lone surrogate in a text") from None

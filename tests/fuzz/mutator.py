"""Makes payloads out of seeds: damaged bytes, and documents and packets that are whole and say what nobody should.

A payload is a function of the campaign's seed and its number, so each can be made again by itself.
"""

import json
import re
from collections.abc import Callable, Sequence
from itertools import chain
from random import Random
from typing import Any, Final

import msgpack

Tree = Any
"""What a document of JSON may be."""
Shape = Callable[[Random], bytes]
"""Makes a payload that is whole in its own form."""

BYTES_MAX: Final = 96 * 1024
"""Larger than what any decoder takes, but for those of files."""
_TOKENS_MAX: Final = 400
_SMALL_LENGTH: Final = 40
_WORD: Final = re.compile(rb"[A-Za-z_][\w.-]{1,30}|[0-9]{1,20}|[^\w\s]{1,2}")
TOKENS: Final = (
    b"\0", b"\xff\xff\xff\xff", b"\x80\x80\x80\x80\x01", b"\n", b"\r\n", b"\t", b" " * 40, b'"', b"'", b"\\",
    b"\\ud800",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\xc2\x85", b"\xf4\x90\x80\x80", b"NaN", b"-Infinity", b"1e999",
    b"-0", b"5e-324", b"1.7e308", b"0x1F", b"1_0", b"07", b"1:30", b"9" * 20, b"9" * 400, b"9" * 5000,
    b"18446744073709551616",
    b"[" * 20, b"{" * 20, b"[" * 3000, b'{"a":' * 40, b"(" * 70, b"- " * 60, b"? " * 30, b"%s%n", b"{}", b"null",
    b"true",
    b"<<: *a", b"&a ", b"*a", b"!!binary ", b"!!timestamp ", b"!!set ", b"!!omap ", b"! ", b"--- ", b"|\n", b">-\n",
    b"# ",
    b"2026-02-30", b"0000-00-00", b"9999-12-31T23:59:59Z", b"2026-11-23 10:57:04 +99:99",
    b"\xdf\xff\xff\xff\xff", b"\xdd\x00\x00\x04\x00", b"\xdc\x04\x00", b"\xc7\xff\x01", b"\xd4\x01\x00", b"\xc1",
    b"\x81\xa1a",
    b"\x91" * 40, b"\x81\xa1a" * 40, b"\xcb\x7f\xf0\0\0\0\0\0\0", b"\xcb\x7f\xf8\0\0\0\0\0\0", b"\xcf" + b"\xff" * 8,
    b"\xd9\x02\xc3\x28",
)  # fmt: skip
"""What decoders of text, JSON, YAML, msgpack and MQTT have stumbled over elsewhere."""
_NASTY: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 255, 65_536, 2**31, 2**32, 2**53 - 1, 2**53, 2**63, 2**64 - 1, -(2**63), 10**400,
    0.1, -0.0,
    5e-324, 1e308, -1e308, 1e9, float("nan"), float("inf"), float("-inf"), "", " ", "\0", "\ud800", "a\nb", "é",
    "\u202e",
    "x" * 129, "x" * 1025, "x" * 17_000, "../../etc/passwd", "0", "1e5", "true", "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00+14:00", "2026-02-30T00:00:00Z", [], {}, [[]], [None], {"": None}, [0] * 1025,
    {"a": {"b": [{}]}},
)  # fmt: skip


class Mutator:
    """An endless supply of payloads.

    Args:
        seeds: What they are made of; the shortest documents that say everything are the best.
        shapes: Make payloads that are whole; a third of them is damaged afterwards.
    """

    def __init__(self, seeds: Sequence[bytes], shapes: Sequence[Shape] = ()) -> None:
        self._seeds = seeds
        self._shapes = shapes
        words = dict.fromkeys(chain.from_iterable(_WORD.findall(seed[:4096]) for seed in seeds))
        self._tokens = (*TOKENS, *list(words)[:_TOKENS_MAX])

    def payload(self, seed: int, number: int) -> bytes:
        """Return payload ``number`` of the campaign ``seed``; the seeds come first."""
        if number < len(self._seeds):
            return self._seeds[number]
        rng = Random(seed << 32 | number)
        if self._shapes and rng.random() < 0.6:
            data = rng.choice(self._shapes)(rng)
            if rng.random() < 0.66:
                return data[:BYTES_MAX]
        else:
            data = rng.choice(self._seeds)
        return self.damaged(rng, data)

    def damaged(self, rng: Random, data: bytes) -> bytes:
        """Return data that is damaged in a place or some."""
        out = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 8))):
            self._damage(rng, out)
        return bytes(out[:BYTES_MAX])

    def _damage(self, rng: Random, out: bytearray) -> None:
        size = len(out)
        at, length = rng.randint(0, size), rng.choice((1, 1, 2, 4, 8, 32, 256))
        match rng.randrange(9):
            case 0 if size:
                out[at % size] ^= 1 << rng.randrange(8)
            case 1 if size:
                out[at % size] = rng.choice((0, 1, 9, 10, 13, 0x20, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                del out[at : at + length]
            case 3:
                del out[at:]
            case 4:
                out[at:at] = out[at : at + length] * rng.choice((1, 1, 2, 20, 200))
            case 5:
                out[at:at] = rng.randbytes(length)
            case 6:
                other = rng.choice(self._seeds)
                start = rng.randint(0, len(other))
                out[at:] = other[start:]
            case 7:
                token = rng.choice(self._tokens)
                out[at : at + len(token) * rng.randrange(2)] = token
            case _:
                token = rng.choice(self._tokens)
                out[at:at] = token * (rng.choice((2, 3, 17, 300)) if len(token) < 40 else 2)


def trees(seeds: Sequence[bytes], *, prefix_bytes: int = 0, packed: bool = False) -> Shape:
    """Make JSON and msgpack documents whose values, keys and nesting are not what they were in the seeds.

    Args:
        seeds: Those that are JSON are used, or with ``packed`` those that are msgpack.
        prefix_bytes: So many bytes before each document are kept as they are.
        packed: Make msgpack alone.
    """
    read = _unpacked if packed else _tree_of
    known = [(seed[:prefix_bytes], tree) for seed in seeds if (tree := read(seed[prefix_bytes:])) is not None]
    assert known, "no seed is a document"
    keys = sorted({key for _, tree in known for key in _keys(tree)})

    def shape(rng: Random) -> bytes:
        prefix, tree = rng.choice(known)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
            tree = _changed(rng, tree, keys)
        return prefix + _written(rng, tree, packed=packed)

    return shape


def _unpacked(data: bytes) -> Tree:
    try:
        tree = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException):
        return None
    return tree if isinstance(tree, dict | list) else None


def _tree_of(data: bytes) -> Tree:
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict | list) else None


def _keys(tree: Tree) -> list[str]:
    match tree:
        case dict():
            return [*tree, *chain.from_iterable(map(_keys, tree.values()))]
        case list():
            return list(chain.from_iterable(map(_keys, tree)))
        case _:
            return []


def _changed(rng: Random, tree: Tree, keys: Sequence[str]) -> Tree:
    """Return a tree that differs from ``tree`` in one place; what is the same is shared with it."""
    if isinstance(tree, dict) and tree and rng.random() < 0.85:
        key = rng.choice(list(tree))
        if rng.random() < 0.7:
            return {**tree, key: _changed(rng, tree[key], keys)}
        if rng.random() < 0.5:
            return {name: value for name, value in tree.items() if name != key}
        return {**tree, rng.choice((*keys, "", "\ud800", "a" * 300)): rng.choice((tree[key], *_NASTY))}
    if isinstance(tree, list) and tree and rng.random() < 0.85:
        at = rng.randrange(len(tree))
        if rng.random() < 0.6:
            return [*tree[:at], _changed(rng, tree[at], keys), *tree[at + 1 :]]
        is_small = not isinstance(tree[at], dict | list) and len(str(tree[at])) < _SMALL_LENGTH
        times = rng.choice((0, 2, 2, 8, 1100 if is_small else 8))
        return tree[:at] + tree[at : at + 1] * times + tree[at + 1 :]
    match rng.randrange(8):
        case 0:
            for _ in range(rng.choice((1, 3, 17, 90))):
                tree = [tree] if rng.random() < 0.5 else {"a": tree}
            return tree
        case 1 if isinstance(tree, str):
            return tree + rng.choice(("", "x", "\n", "\0", "é", "%", " ", tree * 40))
        case 2 if isinstance(tree, int | float) and abs(tree) < 2**64:
            return tree + rng.choice((1, -1, 0.5, 1e6, -1e6))
        case _:
            return rng.choice(_NASTY)


def _written(rng: Random, tree: Tree, *, packed: bool) -> bytes:
    kind = rng.randrange(5)
    if kind < 2 or packed:
        try:
            return bytes(msgpack.packb(tree, unicode_errors="surrogatepass", use_single_float=kind == 1))
        except (OverflowError, ValueError):
            pass  # msgpack has no such numbers, or does not nest so deep
    text = json.dumps(tree, ensure_ascii=kind != 2, separators=(",", ":"), default=repr)
    if kind == 3 and text.startswith('{"'):
        key = text[1 : text.index('"', 2) + 1]
        text = "{" + key + ":1," + text[1:]  # twice
    return text.encode(errors="surrogatepass")


def packets(seeds: Sequence[bytes]) -> Shape:
    """Make streams of MQTT packets whose lengths are right again after their bodies were damaged; each seed is one."""
    mutator = Mutator([seed[1:] for seed in seeds])

    def shape(rng: Random) -> bytes:
        return b"".join(packet(rng, rng.choice(seeds), mutator) for _ in range(rng.choice((1, 1, 2, 3, 8))))

    return shape


def packet(rng: Random, seed: bytes, mutator: Mutator) -> bytes:
    """Return one MQTT packet like ``seed``."""
    start = next(at for at in range(1, 5) if seed[at] < 0x80) + 1
    head, body = seed[0], seed[start:]
    if rng.random() < 0.1:
        head = rng.randrange(256)
    if rng.random() < 0.6:
        body = mutator.damaged(rng, body)
    size, length = len(body), bytearray()
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes((head,)) + bytes(length) + body

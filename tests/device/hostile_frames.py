"""Hostile archives without compression and in zstd, beside those of ``hostile_archives.py``."""

from functools import partial
from typing import Final

import zstandard

from schemas.manifest import Format
from tests.device.hostile_archives import (
    GZIP,
    HONEST,
    HONEST_GZ,
    MEGABYTE,
    TAR,
    Make,
    cut,
    entry,
    flipped,
    gzipped,
    pack,
)


def framed(raw: bytes, **options: int) -> bytes:
    """One frame, with a checksum unless ``options`` say otherwise."""
    settings = zstandard.ZstdCompressionParameters(**{"compression_level": 3, "write_checksum": 1, **options})
    return zstandard.ZstdCompressor(compression_params=settings).compress(raw)


HONEST_ZST: Final = framed(HONEST)
_HEADER_BYTES: Final = zstandard.frame_header_size(HONEST_ZST)
_SKIPPED: Final = b"\x50\x2a\x4d\x18" + (6).to_bytes(4, "little") + b"hidden"


def block(kind: int, size: int, body: bytes, *, is_last: bool = False) -> bytes:
    return (size << 3 | kind << 1 | is_last).to_bytes(3, "little") + body


def frame(*blocks: bytes, descriptor: int = 0, window: int = 0x58) -> bytes:
    """A frame by hand, of unknown size, with a window of 2 MiB."""
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor, window]) + b"".join(blocks)


def with_dictionary() -> bytes:
    samples: list[bytes | bytearray | memoryview] = [b"tidegate %d " % number * 20 for number in range(200)]
    dictionary = zstandard.train_dictionary(1024, samples)
    return zstandard.ZstdCompressor(dict_data=dictionary, write_checksum=True).compress(HONEST)


RUN: Final = 128 * 1024
ZSTD: Final[dict[str, Make]] = {
    **{f"cut_after_{n}": partial(cut, HONEST_ZST, n) for n in (0, 1, 3, 4, 5, 6, 9, 10, 100)},
    **{f"cut_{n}_before_its_end": partial(cut, HONEST_ZST, -n) for n in (1, 4, 5, 8)},
    **{f"one_bit_{seed}": partial(flipped, HONEST_ZST, seed, _HEADER_BYTES) for seed in range(8)},
    "byte_behind": lambda: HONEST_ZST + b"!",
    "skippable_frame_first": lambda: _SKIPPED + HONEST_ZST,
    "skippable_frame_behind": lambda: HONEST_ZST + _SKIPPED,
    "only_a_skippable_frame": lambda: _SKIPPED,
    "second_frame": lambda: HONEST_ZST + framed(b"more"),
    "empty_second_frame": lambda: HONEST_ZST + framed(b""),
    "empty_frame_first": lambda: framed(b"") + HONEST_ZST,
    "in_two_frames": lambda: framed(HONEST[:1536]) + framed(HONEST[1536:]),
    "wrong_checksum": lambda: HONEST_ZST[:-4] + b"\0" * 4,
    "window_of_16_mib": lambda: frame(block(0, 512, HONEST[:512]), window=14 << 3),
    "window_of_128_mib": lambda: frame(block(0, 512, HONEST[:512]), window=17 << 3),
    "largest_window": lambda: frame(block(0, 512, HONEST[:512]), window=0xFF),
    "one_segment_of_4_gib": lambda: b"\x28\xb5\x2f\xfd\xa0" + b"\xff" * 4 + block(0, 512, HONEST[:512]),
    "reserved_bit": lambda: frame(block(0, 512, HONEST[:512]), descriptor=0x08),
    "dictionary": with_dictionary,
    "reserved_block": lambda: frame(block(3, 512, HONEST[:512])),
    "block_larger_than_blocks_are": lambda: frame(block(0, RUN + 1, HONEST)),
    "run_longer_than_blocks_are": lambda: frame(block(1, 2**21 - 1, b"\0")),
    "gibibyte_of_zeros": lambda: frame(block(1, RUN, b"\0") * 8192),
    "gibibyte_after_the_end": lambda: frame(block(0, len(HONEST), HONEST), block(1, RUN, b"\0") * 8192),
    "million_empty_blocks": lambda: frame(block(0, 0, b"") * 1_000_000),
    "smaller_than_it_says": lambda: HONEST_ZST.replace((len(HONEST) - 256).to_bytes(2, "little"), b"\xff\xff", 1),
    "magic_of_an_old_version": lambda: b"\x27\xb5\x2f\xfd" + HONEST_ZST[4:],
    "twice_compressed": lambda: framed(HONEST_ZST),
    "gzip": lambda: HONEST_GZ,
    "not_compressed": lambda: HONEST,
    "traversal": lambda: framed(pack([entry("../evil", b"x")])),
}
PLAIN: Final[dict[str, Make]] = {
    **{
        f"cut_after_{n}": partial(cut, HONEST, n)
        for n in (0, 1, 100, 511, 512, 513, 1412, 1536, 4607, 4608, 5120, 5631)
    },
    "byte_behind": lambda: HONEST + b"!",
    "zeros_behind": lambda: HONEST + MEGABYTE,
    "gzip": lambda: HONEST_GZ,
    "zstd": lambda: HONEST_ZST,
    "traversal": lambda: pack([entry("../evil", b"x")]),
}


def gzipped_from(make: Make) -> bytes:
    return gzipped(make())


HOSTILE: Final[dict[str, tuple[Format, Make]]] = {
    **{name: ("tar.gz", partial(gzipped_from, make)) for name, make in TAR.items()},
    **{f"gzip_{name}": ("tar.gz", make) for name, make in GZIP.items()},
    **{f"zstd_{name}": ("tar.zst", make) for name, make in ZSTD.items()},
    **{f"plain_{name}": ("tar", make) for name, make in PLAIN.items()},
}
"""Every one of them, with the form that its manifest says."""

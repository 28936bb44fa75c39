"""Hostile archives, each made anew from a recipe that never changes.

The manifest is always the same and honest: ``FILES``. What an archive has instead is its name in ``HOSTILE``.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import random
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from schemas.manifest import Artifact, FileEntry, Format, Manifest

FILES: Final = {"app/main.py": b"print(1)\n" * 100, "config/app.json": b"{}", "models/m.bin": bytes(range(256)) * 5}
FIRST: Final = "app/main.py"
Entry = tuple[tarfile.TarInfo, bytes]
Make = Callable[[], bytes]


def make_manifest(archive: bytes = b"", form: Format = "tar.gz", files: dict[str, bytes] | None = None) -> Manifest:
    """Return what an honest signer says about ``files``, and about whatever archive he was given."""
    return Manifest(
        release="app-1",
        target_version="1",
        release_counter=1,
        artifact=Artifact(
            sha256=hashlib.sha256(archive).hexdigest(), size_bytes=max(1, len(archive)), arch="noarch", format=form
        ),
        files=tuple(
            FileEntry(path=path, size_bytes=len(data), mode=0o644, sha256=hashlib.sha256(data).hexdigest())
            for path, data in (FILES if files is None else files).items()
        ),
        command=("x",),
    )


def entry(name: str, data: bytes = b"", **fields: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def honest() -> list[Entry]:
    return [entry(path, data) for path, data in FILES.items()]


def pack(entries: Iterable[Entry], form: int = tarfile.USTAR_FORMAT, headers: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(mode="w", fileobj=buffer, format=form, pax_headers=headers) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


HONEST: Final = pack(honest())


def first(*new: Entry, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """The honest archive with something else in the place of its first file."""
    return pack([*new, *honest()[1:]], form)


def before(*new: Entry, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """The honest archive with something before it."""
    return pack([*new, *honest()], form)


def sealed(raw: bytearray) -> bytes:
    """Make the checksum of the first header right again."""
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return bytes(raw)


def header(start: int, data: bytes, *, length: int | None = None) -> bytes:
    """The honest archive with another field in its first header, and the right checksum."""
    raw = bytearray(HONEST)
    raw[start : start + (length or len(data))] = data.ljust(length or 0, b"\0")
    return sealed(raw)


def patched(start: int, data: bytes) -> bytes:
    return HONEST[:start] + data + HONEST[start + len(data) :]


NAMES: Final[tuple[bytes, ...]] = (
    b"../evil", b"../../../../../../etc/passwd", b"app/../../evil", b"app/../app/main.py", b"app/..", b"..", b".",
    b"", b"/", b"/tmp/evil", b"/app/main.py", b"//app/main.py", b"./app/main.py", b"app//main.py", b"app/./main.py",
    b"app/main.py/", b"app/main.py/.", b"app", b"app/", b"APP/main.py", b"app/Main.py", b"app/main.py ",
    b" app/main.py", b"app/main.py.", b"app\\main.py", b"..\\evil", b"C:\\evil", b"C:/evil", b"\\\\host\\share",
    b"~/evil", b"app/main\n.py", b"app/main.py\n", b"app/main\r.py", b"app/main\t.py", b"app/\x1b[2Jmain.py",
    b"app/\x07main.py", b"app/main\x7f.py", "app/m\u00e4in.py".encode(), "app/ma\u0308in.py".encode(),
    "app/\u202emain.py".encode(), "app/\uff4dain.py".encode(), "app/\u200bmain.py".encode(), b"app/m\xe4in.py",
    b"app/\xff", b"\xc0\xae\xc0\xae/evil", b"app/\xed\xa0\x80", b"app/main.py\0../evil", b"\0app/main.py",
    b"$(reboot)", b"app/main.py;reboot", b"-rf", b"--checkpoint-action=exec=sh", b"CON", b".verified", b".version",
    b"app/.verified", b"../blue/.verified", b"../green/app/main.py", b"../active", b"../state/record.json", b"a" *
    100, b"app/" + b"a" * 96, b"app/" + b"b/" * 47, b"app/main.py" + b"\0" * 80 + b"x", b"proc/self/mem", b"dev/sda",
)  # fmt: skip
PREFIXES: Final = (b"..", b"/etc", b"app", b".", b"\0evil", b"a" * 155, b"evil\n")
TYPES: Final = {
    "character_device": tarfile.CHRTYPE, "block_device": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE,
    "folder": tarfile.DIRTYPE, "contiguous_file": tarfile.CONTTYPE, "sparse_file": tarfile.GNUTYPE_SPARSE,
    "continued_volume": b"M", "volume_label": b"V", "listed_folder": b"D", "long_link": b"K", "long_name": b"L",
    "pax_of_solaris": b"X", "access_list": b"A", "extended_attribute": b"E", "inode": b"I", "unknown_type": b"Z",
    "high_type": b"\xff", "line_feed_as_type": b"\n",
}  # fmt: skip
LINKS: Final = (
    "/etc/passwd",
    "../../etc/passwd",
    "../green",
    "config/app.json",
    "main.py",
    "nowhere",
    "/proc/self/fd/0",
)
MODES: Final = (0o4644, 0o2644, 0o1644, 0o7777, 0o4755, 0o755, 0o600, 0o666, 0o777, 0, 0o100644, 0o120777)
NUMBERS: Final = {
    "negative": b"-0000000001\0", "base256": b"\x80" + b"\0" * 10 + b"\x01", "base256_negative": b"\xff" * 12,
    "base256_huge": b"\x80" + b"\xff" * 11, "largest_octal": b"77777777777\0", "without_terminator": b"777777777777",
    "no_digit": b" " * 11 + b"\0", "all_zero_bytes": b"\0" * 12, "not_octal": b"00000000888\0",
    "hexadecimal": b"0x384".ljust(12, b"\0"),
    "with_sign": b"+0000001604\0", "with_exponent": b"9e2".ljust(12, b"\0"),
    "divided": b"1604\0001604".ljust(12, b"\0"),
    "arabic_digits": "\u0661\u0662".encode().ljust(12, b"\0"), "too_small": b"00000000001\0", "zero": b"00000000000\0",
    "wrapped_at_33_bits": b"40000001604\0",
}  # fmt: skip
MAGICS: Final = {
    "gnu": b"ustar  \0", "none": b"\0" * 8, "other_version": b"ustar\00001", "upper_case": b"USTAR\00000",
    "without_zero": b"ustar 00", "spaces_as_version": b"ustar\0  ", "cut_off": b"usta\0000 ",
    "star": b"tar\0".rjust(8, b"\0"),
}  # fmt: skip


def links() -> dict[str, Make]:
    made: dict[str, Make] = {}
    for kind, name in ((tarfile.SYMTYPE, "symlink"), (tarfile.LNKTYPE, "hard_link")):
        for target in LINKS:
            made[f"{name}_to_{target}"] = partial(first, entry(FIRST, type=kind, linkname=target))
            made[f"{name}_to_{target}_first"] = partial(before, entry("app/x", type=kind, linkname=target))
    for folder in ("app", "models", "config"):
        made[f"symlink_instead_of_{folder}"] = partial(before, entry(folder, type=tarfile.SYMTYPE, linkname="/tmp"))
    made["link_name_of_a_plain_file"] = lambda: header(157, b"/etc/passwd")
    made["data_behind_a_symlink"] = lambda: first(entry(FIRST, b"x" * 600, type=tarfile.SYMTYPE, linkname="m"))
    made["chain_of_symlinks_longer_than_a_path"] = chain_of_symlinks
    made["symlink_and_hard_link_to_it"] = lambda: before(
        entry("app/a", type=tarfile.SYMTYPE, linkname="/etc"),
        entry("app/b", type=tarfile.LNKTYPE, linkname="app/a/passwd"),
    )
    made["hard_link_out_of_a_renamed_folder"] = lambda: before(
        entry("a/b/up", type=tarfile.SYMTYPE, linkname="../../.."),
        entry("app/x", type=tarfile.LNKTYPE, linkname="a/b/up/x"),
    )
    made["mode_change_outside_by_an_empty_name"] = lambda: before(
        entry("app/a", type=tarfile.SYMTYPE, linkname=".."), entry("app/a/", type=tarfile.DIRTYPE, mode=0o777)
    )
    return made


def chain_of_symlinks() -> bytes:
    """After CVE-2025-4517: links to long folders until the resolved path is longer than the system takes."""
    long, step, made = "d" * 90, "", []
    for letter in "abcdefghijklmnop":
        made += [entry(f"{step}{long}"[-99:], type=tarfile.DIRTYPE), entry(letter, type=tarfile.SYMTYPE, linkname=long)]
        step += f"{letter}/"
    return before(*made, entry("l", type=tarfile.SYMTYPE, linkname=step + "../" * 16), entry("l/evil", b"x"))


def pax(**headers: str) -> Make:
    return lambda: first(entry(FIRST, FILES[FIRST], pax_headers=headers), form=tarfile.PAX_FORMAT)


def pax_record(record: bytes, kind: bytes = tarfile.XHDTYPE) -> Make:
    return lambda: before(entry("app/pax", record, type=kind))


EXTENSIONS: Final[dict[str, Make]] = {
    "pax_path": pax(path="../evil"),
    "pax_size": pax(size="1"),
    "pax_huge_size": pax(size="9" * 40),
    "pax_link": pax(linkpath="/etc/passwd"),
    "pax_comment": pax(comment="nothing else"),
    "pax_attribute": pax(**{"SCHILY.xattr.security.capability": "x"}),
    "pax_sparse_0.1": pax(**{"GNU.sparse.map": "0,1", "GNU.sparse.size": "99999999999", "GNU.sparse.name": "../evil"}),
    "pax_sparse_1.0": pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99999999999"}),
    "pax_for_all_files": lambda: pack(honest(), tarfile.PAX_FORMAT, {"path": "../evil"}),
    "pax_record_of_length_0": pax_record(b"0 path=x\n"),
    "pax_record_of_negative_length": pax_record(b"-9 path=x\n"),
    "pax_record_beyond_its_end": pax_record(b"999999999 path=x\n"),
    "pax_record_without_end": pax_record(b"1" * 2000),
    "pax_record_of_a_megabyte": pax_record(b"1048590 path=" + b"a" * 1048575 + b"\n"),
    "pax_for_all_files_by_hand": pax_record(b"16 path=../evil\n", tarfile.XGLTYPE),
    "pax_name_that_is_not_ascii": lambda: before(entry("app/" + "\u00e4" * 60, b"x"), form=tarfile.PAX_FORMAT),
    "gnu_long_name": lambda: before(entry("app/" + "a" * 200, b"x"), form=tarfile.GNU_FORMAT),
    "gnu_very_long_name": lambda: before(entry("app/" + "a" * 100_000, b"x"), form=tarfile.GNU_FORMAT),
    "gnu_long_link": lambda: before(entry("app/x", type=tarfile.SYMTYPE, linkname="a" * 300), form=tarfile.GNU_FORMAT),
    "gnu_long_name_of_the_right_file": lambda: first(
        entry("././@LongLink", FIRST.encode() + b"\0", type=b"L"), entry("app/short", FILES[FIRST])
    ),
}


def replaced(path: str, data: bytes) -> Make:
    return lambda: pack([entry(name, data if name == path else kept) for name, kept in FILES.items()])


def without(path: str) -> Make:
    return lambda: pack([entry(name, kept) for name, kept in FILES.items() if name != path])


def signed_checksum() -> bytes:
    raw = bytearray(HONEST)
    raw[265:267] = b"\xe4\xff"  # in the owner's name
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(byte - 256 if byte > 127 else byte for byte in raw[:512])
    return bytes(raw)


CONTENTS: Final[dict[str, Make]] = {
    **{f"one_bit_of_{p}": replaced(p, bytes([d[0] ^ 1]) + d[1:]) for p, d in FILES.items()},
    **{f"last_byte_of_{p}": replaced(p, d[:-1] + b"!") for p, d in FILES.items()},
    **{f"{p}_shorter": replaced(p, d[:-1]) for p, d in FILES.items()},
    **{f"{p}_longer": replaced(p, d + b"!") for p, d in FILES.items()},
    **{f"{p}_empty": replaced(p, b"") for p in FILES},
    **{f"{p}_missing": without(p) for p in FILES},
    **{f"{p}_twice": partial(before, entry(p, d)) for p, d in FILES.items()},
    "archive_in_the_place_of_a_file": replaced(FIRST, HONEST),
    "contents_exchanged": lambda: pack([entry(p, FILES[q]) for p, q in zip(FILES, reversed(FILES), strict=True)]),
    "twice_with_other_contents": lambda: pack([*honest(), entry(FIRST, b"import os")]),
    "names_that_differ_in_case": lambda: pack([*honest(), entry("app/MAIN.py", FILES[FIRST])]),
    "extra_file_last": lambda: pack([*honest(), entry("app/extra.py", b"import os")]),
    "extra_file_first": lambda: before(entry("app/extra.py", b"import os")),
    "extra_empty_file": lambda: before(entry("app/__init__.py")),
    "folder_entries": lambda: before(entry("app", type=tarfile.DIRTYPE)),
    "other_order": lambda: pack(honest()[::-1]),
    "first_two_exchanged": lambda: pack([honest()[1], honest()[0], honest()[2]]),
    "only_zeros": lambda: b"\0" * 10240,
    "block_of_zeros_first": lambda: b"\0" * 512 + HONEST,
    "block_of_zeros_between": lambda: HONEST[:1536] + b"\0" * 512 + HONEST[1536:],
    "one_block_at_the_end": lambda: HONEST[: 512 * 9 + 512],
    "no_block_at_the_end": lambda: HONEST[: 512 * 9],
    "cut_in_its_last_block": lambda: HONEST[:-1][: 512 * 9 + 1023],
    "byte_in_the_last_block": lambda: HONEST[:-1] + b"!",
    "byte_in_the_first_padding": lambda: patched(512 + 900, b"!"),
    "byte_at_the_end_of_a_padding": lambda: patched(1535, b"!"),
    "data_after_the_end": lambda: HONEST + b"hidden" * 100,
    "archive_after_the_end": lambda: HONEST + pack([entry("../evil", b"x")]),
    "millions_of_zeros_after_the_end": lambda: HONEST + b"\0" * 50_000_000,
    "checksum_of_other_bytes": lambda: b"X" + HONEST[1:],
    "checksum_off_by_one": lambda: patched(148, b"%06o" % (int(HONEST[148:154], 8) + 1)),
    "checksum_without_digits": lambda: patched(148, b" " * 8),
    "checksum_in_base256": lambda: patched(148, b"\x80" + b"\0" * 5 + HONEST[148:150]),
    "checksum_of_signed_bytes": signed_checksum,
    "text_instead_of_a_header": lambda: b"#!/bin/sh\nreboot\n".ljust(512) + HONEST[512:],
    "header_of_ones": lambda: b"\xff" * 512 + HONEST[512:],
}


TAR: Final[dict[str, Make]] = {
    **{f"name_{name!a}"[:60]: partial(header, 0, name, length=100) for name in NAMES},
    **{f"prefix_{prefix!a}"[:40]: partial(header, 345, prefix, length=155) for prefix in PREFIXES},
    **{name: partial(header, 156, kind) for name, kind in TYPES.items()},
    **{f"{name}_without_data": partial(before, entry("app/x", type=kind)) for name, kind in TYPES.items()},
    **{f"mode_{mode:o}": partial(header, 100, b"%07o\0" % mode) for mode in MODES},
    **{f"size_{name}": partial(header, 124, number) for name, number in NUMBERS.items()},
    **{f"magic_{name}": partial(header, 257, magic) for name, magic in MAGICS.items()},
    **links(),
    **EXTENSIONS,
    **CONTENTS,
}


def gzipped(raw: bytes) -> bytes:
    return gzip.compress(raw, 1, mtime=0)


HONEST_GZ: Final = gzipped(HONEST)
STORED_GZ: Final = gzip.compress(HONEST, 0, mtime=0)
"""Without compression, where every bit means something."""


def repeated(block: bytes, times: int, *, start: bytes = b"") -> bytes:
    """A gzip stream of ``start`` and then ``block`` many times, made without unpacking it; its end is missing."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    begun = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return begun + one * times


def cut(raw: bytes, end: int) -> bytes:
    return raw[:end]


def flipped(raw: bytes, seed: int, start: int) -> bytes:
    """One bit of ``raw`` behind ``start`` is another."""
    generator = random.Random(seed)
    changed = bytearray(raw)
    changed[generator.randrange(start, len(raw))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("../evil"), b"x")
    return buffer.getvalue()


MEGABYTE: Final = bytes(1024 * 1024)
GZIP: Final[dict[str, Make]] = {
    **{f"cut_after_{n}": partial(cut, HONEST_GZ, n) for n in (0, 1, 2, 3, 9, 10, 11, 18, 100)},
    **{f"cut_{n}_before_its_end": partial(cut, HONEST_GZ, -n) for n in (1, 4, 5, 8, 9)},
    **{f"one_bit_{seed}": partial(flipped, STORED_GZ, seed, 20) for seed in range(8)},
    "byte_behind": lambda: HONEST_GZ + b"!",
    "zeros_behind": lambda: HONEST_GZ + b"\0" * 512,
    "second_member": lambda: HONEST_GZ + gzipped(b"more"),
    "empty_second_member": lambda: HONEST_GZ + gzipped(b""),
    "same_member_twice": lambda: HONEST_GZ * 2,
    "in_two_members": lambda: gzipped(HONEST[:1536]) + gzipped(HONEST[1536:]),
    "empty_member_first": lambda: gzipped(b"") + HONEST_GZ,
    "wrong_checksum": lambda: HONEST_GZ[:-8] + b"\0" * 4 + HONEST_GZ[-4:],
    "wrong_length": lambda: HONEST_GZ[:-4] + b"\0" * 4,
    "unknown_method": lambda: HONEST_GZ[:2] + b"\x07" + HONEST_GZ[3:],
    "reserved_flags": lambda: HONEST_GZ[:3] + b"\xe0" + HONEST_GZ[4:],
    "endless_name": lambda: HONEST_GZ[:3] + b"\x08" + HONEST_GZ[4:10] + b"a" * 100_000,
    "endless_extra_field": lambda: HONEST_GZ[:3] + b"\x04" + HONEST_GZ[4:10] + b"\xff\xff" + b"a" * 1000,
    "twice_compressed": lambda: gzipped(HONEST_GZ),
    "bare_deflate": lambda: zlib.compress(HONEST)[2:-4],
    "zlib": lambda: zlib.compress(HONEST),
    "bzip2": lambda: bz2.compress(HONEST),
    "xz": lambda: lzma.compress(HONEST),
    "zip": zipped,
    "not_compressed": lambda: HONEST,
    "zero_byte": lambda: b"\0",
    "error_page": lambda: b"<html><body>404 Not Found</body></html>",
    "random_bytes": lambda: random.Random(7).randbytes(5000),
    "gibibyte_of_zeros": lambda: repeated(MEGABYTE, 1024),
    "gibibyte_in_the_last_file": lambda: repeated(MEGABYTE, 1024, start=first(entry(FIRST, FILES[FIRST]))[:3072]),
    "gibibyte_after_the_end": lambda: repeated(MEGABYTE, 1024, start=HONEST),
    "million_headers": lambda: repeated(pack([entry("app/x")])[:512] * 1000, 1000),
    "million_files_after_the_last": lambda: repeated(pack([entry("app/x")])[:512] * 1000, 1000, start=HONEST[:4608]),
    "million_empty_blocks": lambda: repeated(b"", 100_000),
    "bomb_in_a_bomb": lambda: gzipped(first(entry(FIRST, repeated(MEGABYTE, 64)))),
}

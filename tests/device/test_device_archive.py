"""Hostile archives: whatever differs from the manifest is refused, and nothing outside the slot changes."""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from device_client.adapters.archive import unpack
from device_client.adapters.failure import StepError
from schemas.manifest import Artifact, FileEntry, Manifest

FILES = {"app/main.py": b"print(1)\n" * 100, "config/app.json": b"{}", "models/m.bin": bytes(range(256)) * 5}


def make_manifest(**changes: object) -> Manifest:
    entries = tuple(
        FileEntry(path=path, size_bytes=len(data), mode=0o644, sha256=hashlib.sha256(data).hexdigest())
        for path, data in FILES.items()
    )
    manifest = Manifest(
        release="app-1",
        target_version="1",
        release_counter=1,
        artifact=Artifact(sha256="0" * 64, size_bytes=1, arch="noarch"),
        files=entries,
        command=("x",),
    )
    return manifest.model_copy(update=changes)


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def honest() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [entry(path, data) for path, data in FILES.items()]


def pack(entries: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(mode="w", fileobj=buffer, format=form) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def replaced(position: int, *new: tuple[tarfile.TarInfo, bytes]) -> bytes:
    entries = honest()
    entries[position : position + 1] = new
    return pack(entries)


def with_header(change: Callable[[bytearray], None]) -> bytes:
    """The honest archive with a changed first header, its checksum made right again."""
    raw = bytearray(pack(honest()))
    change(raw)
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return bytes(raw)


def set_bytes(start: int, data: bytes) -> Callable[[bytearray], None]:
    def change(raw: bytearray) -> None:
        raw[start : start + len(data)] = data

    return change


HOSTILE: dict[str, bytes] = {
    "traversal": replaced(0, entry("../evil", FILES["app/main.py"])),
    "traversal_inside": replaced(0, entry("app/../../evil", FILES["app/main.py"])),
    "absolute_path": replaced(0, entry("/tmp/evil", FILES["app/main.py"])),
    "symlink": replaced(0, entry("app/main.py", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "symlink_then_write_through": replaced(
        0, entry("app", type=tarfile.SYMTYPE, linkname="/tmp"), entry("app/main.py", FILES["app/main.py"])
    ),
    "hard_link": replaced(0, entry("app/main.py", type=tarfile.LNKTYPE, linkname="config/app.json")),
    "character_device": replaced(0, entry("app/main.py", type=tarfile.CHRTYPE)),
    "block_device": replaced(0, entry("app/main.py", type=tarfile.BLKTYPE)),
    "fifo": replaced(0, entry("app/main.py", type=tarfile.FIFOTYPE)),
    "folder": replaced(0, entry("app", type=tarfile.DIRTYPE), entry("app/main.py", FILES["app/main.py"])),
    "sparse_file": replaced(0, entry("app/main.py", type=tarfile.GNUTYPE_SPARSE)),
    "setuid": replaced(0, entry("app/main.py", FILES["app/main.py"], mode=0o4755)),
    "executable_where_it_was_not": replaced(0, entry("app/main.py", FILES["app/main.py"], mode=0o755)),
    "extra_file": pack([*honest(), entry("app/extra.py", b"import os")]),
    "extra_file_first": pack([entry("app/extra.py", b"x"), *honest()]),
    "missing_file": pack(honest()[:-1]),
    "other_order": pack(honest()[::-1]),
    "duplicate": pack([*honest()[:1], *honest()]),
    "other_case": replaced(0, entry("app/Main.py", FILES["app/main.py"])),
    "other_contents": replaced(0, entry("app/main.py", FILES["app/main.py"][:-1] + b"!")),
    "shorter_file": replaced(0, entry("app/main.py", FILES["app/main.py"][:-1])),
    "longer_file": replaced(0, entry("app/main.py", FILES["app/main.py"] + b"!")),
    "control_characters": replaced(0, entry("app/main\n.py", FILES["app/main.py"])),
    "long_name_gnu": pack([entry("app/" + "a" * 200, b"x"), *honest()], tarfile.GNU_FORMAT),
    "pax_header": pack([entry("app/" + "ä" * 60, b"x"), *honest()], tarfile.PAX_FORMAT),
    "gnu_magic": pack(honest(), tarfile.GNU_FORMAT),
    "damaged_checksum": b"X" + pack(honest())[1:],
    "negative_size": with_header(set_bytes(124, b"-0000000001\0")),
    "base256_size": with_header(set_bytes(124, b"\x80" + b"\0" * 10 + b"\x01")),
    "huge_size": with_header(set_bytes(124, b"77777777777\0")),
    "name_with_a_second_part": with_header(set_bytes(345, b"evil")),
    "link_name_of_a_plain_file": with_header(set_bytes(157, b"/etc/passwd")),
    "contiguous_file": with_header(set_bytes(156, b"7")),
    "unknown_type": with_header(set_bytes(156, b"Z")),
    "data_in_the_padding": with_header(set_bytes(512 + 900, b"hidden")),
    "data_after_the_end": pack(honest()) + b"hidden" * 100,
    "endless_zeros": pack(honest()) + b"\0" * 50_000_000,
    "no_end": pack(honest())[:2048],
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_archive_is_refused_and_nothing_outside_the_slot_changes(name: str, tmp_path: Path) -> None:
    raw = gzip.compress(HOSTILE[name], 1)

    refuse(raw, tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw + b"trailing",
        lambda raw: raw + gzip.compress(b"a second member"),
        lambda raw: raw[:-9],
        lambda raw: raw[:-8] + b"\0" * 8,
        lambda raw: b"not gzip" + raw,
        gzip.compress,
    ],
    ids=["trailing_bytes", "second_member", "truncated", "wrong_checksum", "no_gzip", "nested"],
)
def test_gzip_stream_is_refused_when_it_is_not_exactly_one_whole_member(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    refuse(damage(gzip.compress(pack(honest()))), tmp_path)


def test_bomb_is_not_unpacked_further_than_the_manifest_says(tmp_path: Path) -> None:
    bomb = gzip.compress(pack([*honest()[:2], entry("models/m.bin", b"\0" * 100_000_000)]), 1)

    refuse(bomb, tmp_path)

    written = sum(path.stat().st_size for path in (tmp_path / "slot").rglob("*") if path.is_file())
    assert written <= make_manifest().unpacked_bytes


def test_existing_link_in_the_slot_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "slot").mkdir()
    (tmp_path / "slot" / "app").symlink_to(outside)

    with pytest.raises(StepError):
        unpack(written(gzip.compress(pack(honest())), tmp_path), make_manifest(), tmp_path / "slot")

    assert list(outside.iterdir()) == []


def test_honest_archive_is_unpacked_exactly(tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    slot.mkdir()
    old = os.umask(0o077)
    try:
        unpack(written(gzip.compress(pack(honest())), tmp_path), make_manifest(), slot)
    finally:
        os.umask(old)

    found = {path.relative_to(slot).as_posix(): path for path in slot.rglob("*") if path.is_file()}
    assert {path: file.read_bytes() for path, file in found.items()} == FILES
    assert {file.stat().st_mode & 0o7777 for file in found.values()} == {0o644}


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 8191, 8192, 9216, 9728, 10239, 10240, 70_000])
def test_every_length_ends_in_a_record_that_is_accepted(size: int, tmp_path: Path) -> None:
    data = b"x" * size
    only = FileEntry(path="app/f", size_bytes=size, mode=0o644, sha256=hashlib.sha256(data).hexdigest())
    (tmp_path / "slot").mkdir()

    unpack(
        written(gzip.compress(pack([entry("app/f", data)])), tmp_path), make_manifest(files=(only,)), tmp_path / "slot"
    )

    assert (tmp_path / "slot" / "app" / "f").read_bytes() == data


def refuse(raw: bytes, tmp_path: Path) -> None:
    archive = written(raw, tmp_path)
    slot = tmp_path / "slot"
    slot.mkdir()

    with pytest.raises(StepError) as caught:
        unpack(archive, make_manifest(), slot)

    assert caught.value.code == "archive_invalid"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.tar.gz", "slot"]
    for path in slot.rglob("*"):
        assert path.is_dir() or path.relative_to(slot).as_posix() in FILES
        assert not path.is_symlink()


def written(raw: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(raw)
    return path

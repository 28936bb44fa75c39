"""What is unpacked is exactly what the manifest says; whatever differs is refused, and nothing outside changes."""

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from device_client.adapters import unpacker
from device_client.adapters.archive import ArchiveError, Entry, unpack
from device_client.adapters.failure import StepError
from device_client.adapters.unpacker import unpack_apart
from schemas.manifest import Format, Manifest
from tests.device.hostile_archives import FILES, HONEST, HONEST_GZ, entry, gzipped, header, make_manifest, pack
from tests.device.hostile_frames import HONEST_ZST, HOSTILE, framed

PEAK_BYTES_MAX = 64 * 1024 * 1024
CPU_SECONDS_MAX = 2.0
MEASURED = """
import sys, time
from pathlib import Path
from device_client.adapters.unpack_process import main
code = main(sys.argv[1:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
Path(__file__).with_name("measured").write_text(f"{peak} {time.process_time()}")
sys.exit(code)
"""
"""The program that unpacks, and what it has cost."""


@dataclass
class Measured:
    folder: Path

    @property
    def peak_bytes(self) -> int:
        return int((self.folder / "measured").read_text().split()[0]) * 1024

    @property
    def cpu_seconds(self) -> float:
        return float((self.folder / "measured").read_text().split()[1])


@pytest.fixture
def measured(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Measured:
    folder = tmp_path_factory.mktemp("measured")
    (folder / "program.py").write_text(MEASURED)
    monkeypatch.setattr(unpacker, "PROGRAM", str(folder / "program.py"))
    return Measured(folder)


def never() -> bool:
    return False


def test_there_are_more_than_two_hundred_different_hostile_archives() -> None:
    assert len({make() for _, make in HOSTILE.values()}) >= 350


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_is_refused_and_nothing_outside_the_slot_changes(
    name: str, tmp_path: Path, measured: Measured
) -> None:
    form, make = HOSTILE[name]
    raw = make()

    refuse(raw, make_manifest(raw, form), tmp_path)

    assert measured.peak_bytes <= PEAK_BYTES_MAX
    assert measured.cpu_seconds <= CPU_SECONDS_MAX


def test_entry_of_any_other_type_is_refused(tmp_path: Path) -> None:
    entries = [Entry(each.path, each.size_bytes, each.mode, each.sha256) for each in make_manifest().files]
    accepted = []
    for number in range(256):
        root = tmp_path / str(number)
        root.mkdir()
        descriptor = os.open(root, os.O_RDONLY)
        try:
            unpack(BytesIO(header(156, bytes([number]))), "tar", entries, descriptor)
            accepted.append(bytes([number]))
        except ArchiveError:
            assert list(root.iterdir()) == []
        finally:
            os.close(descriptor)

    assert accepted == [b"\0", b"0"], "the two names of a plain file"


@pytest.mark.parametrize("name", ["gzip_gibibyte_in_the_last_file", "zstd_gibibyte_of_zeros", "size_largest_octal"])
def test_bomb_is_not_unpacked_further_than_the_manifest_says(name: str, tmp_path: Path) -> None:
    form, make = HOSTILE[name]
    raw = make()

    refuse(raw, make_manifest(raw, form), tmp_path)

    written = sum(path.stat().st_size for path in (tmp_path / "slot").rglob("*") if path.is_file())
    assert written <= make_manifest().unpacked_bytes


def test_existing_link_in_the_slot_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "slot").mkdir()
    (tmp_path / "slot" / "app").symlink_to(outside)

    with pytest.raises(StepError, match="Not a directory"):
        unpack_apart(written(HONEST_GZ, tmp_path), make_manifest(), tmp_path / "slot", never)

    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "raw"),
    [
        ("tar.gz", HONEST_GZ),
        ("tar", HONEST),
        ("tar.zst", HONEST_ZST),
        ("tar.zst", framed(HONEST, write_checksum=False)),
        ("tar.zst", framed(HONEST, write_content_size=False)),
        ("tar.zst", framed(HONEST, window_log=23, compression_level=19)),
    ],
    ids=["gzip", "plain", "zstd", "zstd_without_checksum", "zstd_of_unknown_size", "zstd_with_the_largest_window"],
)
def test_honest_archive_is_unpacked_exactly(form: Format, raw: bytes, tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    slot.mkdir()
    old = os.umask(0o077)
    try:
        unpack_apart(written(raw, tmp_path), make_manifest(raw, form), slot, never)
    finally:
        os.umask(old)

    found = {path.relative_to(slot).as_posix(): path for path in slot.rglob("*") if path.is_file()}
    assert {path: file.read_bytes() for path, file in found.items()} == FILES
    assert {file.stat().st_mode & 0o7777 for file in found.values()} == {0o644}


def test_largest_window_fits_into_the_memory_that_is_allowed(tmp_path: Path, measured: Measured) -> None:
    data = os.urandom(9_000_000)
    raw = framed(pack([entry("app/f", data)]), window_log=23)
    (tmp_path / "slot").mkdir()

    unpack_apart(written(raw, tmp_path), make_manifest(raw, "tar.zst", {"app/f": data}), tmp_path / "slot", never)

    assert (tmp_path / "slot/app/f").read_bytes() == data
    assert measured.peak_bytes <= PEAK_BYTES_MAX


@pytest.mark.parametrize("form", ["tar.gz", "tar.zst"])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 8191, 8192, 9216, 9728, 10239, 10240, 70_000, 300_000])
def test_every_length_ends_in_a_record_that_is_accepted(form: Format, size: int, tmp_path: Path) -> None:
    data = b"x" * size
    raw = (gzipped if form == "tar.gz" else framed)(pack([entry("app/f", data)]))
    (tmp_path / "slot").mkdir()

    unpack_apart(written(raw, tmp_path), make_manifest(raw, form, {"app/f": data}), tmp_path / "slot", never)

    assert (tmp_path / "slot" / "app" / "f").read_bytes() == data


def refuse(raw: bytes, manifest: Manifest, tmp_path: Path) -> None:
    archive = written(raw, tmp_path)
    slot = tmp_path / "slot"
    slot.mkdir()

    with pytest.raises(StepError) as caught:
        unpack_apart(archive, manifest, slot, never)

    assert caught.value.code == "archive_invalid"
    assert str(caught.value).isprintable()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "slot"]
    for path in slot.rglob("*"):
        assert path.is_dir() or path.relative_to(slot).as_posix() in FILES
        assert not path.is_symlink()


def written(raw: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.write_bytes(raw)
    return path

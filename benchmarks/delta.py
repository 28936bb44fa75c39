"""What an update takes when only a part of a release has changed, on real pairs of versions of public packages.

Two adjacent versions of a package are downloaded, unpacked, and released as an application's files. A device that has
the first fetches and installs the second from the product's registry: in chunks, and as an archive. Beside it stand
what chunks of other sizes would have taken, blocks of 4 KiB found by their digest as in block-hash indexes of images
(files aligned to blocks, what is missing deflated in runs), and the patches that ``zstd --patch-from`` and bsdiff make
for exactly this pair, which somebody would have to make and keep for each pair of versions.

Packages come from the package registry that pip is set up for; everything lies in a temporary folder.
"""

import argparse
import asyncio
import hashlib
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scene import machine

from orchestrator.adapters.chunking import cut
from orchestrator.adapters.packing import content_of
from orchestrator.adapters.registry import serve_registry
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release
from schemas.chunks import Chunk, to_stored
from schemas.manifest import Format, Manifest

PAIRS = (
    ("botocore", "1.35.98", "1.35.99"),
    ("rapidocr-onnxruntime", "1.4.3", "1.4.4"),
    ("lxml", "5.3.0", "5.3.1"),
    ("pandas", "2.2.2", "2.2.3"),
    ("numpy", "2.2.5", "2.2.6"),
    ("opencv-python-headless", "4.10.0.84", "4.11.0.86"),
)
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "any")
BSDIFF = "bsdiff4==1.3.2"
BSDIFF_MEMORY_FACTOR = 17
"""It takes so many times the larger of both archives in memory."""
BSDIFF_MEMORY_BYTES_MAX = 4 * 1024**3
"""Where it would take more, or more than is free, no patch is made, and why is told."""
ZSTD_BYTES_MAX = 64 * 1024 * 1024
"""Beyond that the archive is not made with zstd, whose highest level takes minutes."""
ZSTD_LEVELS = (19, 10)
"""Of patches up to that size, and beyond."""
BLOCK_BYTES = 4096
KEY = Ed25519PrivateKey.from_private_bytes(b"b" * 32)
PUBLIC = KEY.public_key().public_bytes_raw().hex()
_MB, _GB = 1e6, 1e9


@dataclass(frozen=True)
class Device:
    """What fetching, verifying and installing cost a device; the time with that of the process that unpacks.

    Memory is what was resident at most, and before it began.
    """

    fetched_bytes: int
    cpu_seconds: float
    memory_mb: float
    idle_memory_mb: float
    in_chunks: bool


@dataclass(frozen=True)
class Pair:
    """One update; sizes in bytes.

    Attributes:
        content: Of all files of the new version.
        chunks: By the usual size of a chunk in KiB: what is fetched, with the list.
        requests: By the same: how many chunks are fetched.
        blocks: The same with blocks of 4 KiB, with their index.
        zstd_patch: Of the plain archives; beside it stands the level.
        bsdiff_patch: The same; None where it would take too much memory.
        bsdiff_cpu_seconds: For making it; None as well.
        bsdiff_missing: Why there is none.
        publishing_cpu_seconds: For cutting and deflating the chunks of the new version.
        devices: What a device took, measured: in chunks, and as an archive of each form.
    """

    name: str
    content: int
    chunks: dict[int, int]
    requests: dict[int, int]
    blocks: int
    zstd_patch: int
    zstd_level: int
    bsdiff_patch: int | None
    bsdiff_cpu_seconds: float | None
    bsdiff_missing: str
    publishing_cpu_seconds: float
    devices: dict[str, Device]

    @property
    def figure(self) -> int:
        """What a device fetches in chunks."""
        return self.devices["chunks"].fetched_bytes

    @property
    def bar(self) -> int:
        """What it fetches in full, as the archive of the form that every device takes."""
        return self.devices["tar.gz"].fetched_bytes

    def facts(self) -> dict[str, object]:
        """Return all of it for ``--json``."""
        return {**asdict(self), "figure": self.figure, "bar": self.bar, "ratio": round(self.figure / self.bar, 4)}


@dataclass(frozen=True)
class Patch:
    """A patch, or why there is none."""

    size: int | None
    cpu_seconds: float | None
    missing: str = ""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="names of packages, with commas")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    wanted = [pair for pair in PAIRS if not options.only or pair[0] in options.only.split(",")]
    if not wanted:
        sys.exit(f"--only {options.only}: there is {', '.join(name for name, _, _ in PAIRS)}")
    pairs: list[Pair] = []
    with tempfile.TemporaryDirectory(prefix="delta-") as outer:
        bsdiff = prepared(Path(outer))
        for package, old, new in wanted:
            with tempfile.TemporaryDirectory(prefix="delta-") as name:
                pairs.append(measure(Path(name), bsdiff, package, old, new))
            if not options.json:
                tell(pairs[-1])
    if options.json:
        print(json.dumps(told(pairs)))
    else:
        print(machine())


def told(pairs: list[Pair]) -> dict[str, object]:
    """Return the one object: all pairs together, then each."""
    figure, bar = (sum(each) for each in zip(*((pair.figure, pair.bar) for pair in pairs), strict=True))
    head = {"name": "delta", "figure": figure, "unit": "bytes", "bar": bar, "ratio": round(figure / bar, 4)}
    return {**head, "pairs": [pair.facts() for pair in pairs], "machine": machine()}


def prepared(folder: Path) -> Path:
    """Install bsdiff into a folder of its own and return that; ends the program where a reference is not to be had."""
    if shutil.which("zstd") is None:
        sys.exit("zstd, which makes a part of the patches, is not installed; on Debian: apt install zstd")
    into = folder / "bsdiff"
    pip = ["pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(into), BSDIFF]
    if subprocess.run([sys.executable, "-m", *pip], check=False).returncode:
        sys.exit(
            f"{BSDIFF}, which makes a part of the patches, could not be installed; what pip says stands above. "
            "It needs a package registry, and a C compiler where that has no wheel for this Python"
        )
    return into


def measure(folder: Path, bsdiff: Path, package: str, old: str, new: str) -> Pair:
    """Make all of one pair."""
    trees = [unpack(download(folder, package, version), folder / "trees" / version) for version in (old, new)]
    plain = [release(tree, number, "tar", chunked=True) for number, tree in enumerate(trees, start=1)]
    before, after = (content_of(each.artifact, "tar") for each in plain)
    begin = time.process_time()
    for piece in pieces_of(after, cut(after)):
        to_stored(piece)
    publishing = time.process_time() - begin
    sizes = {kib: chunks_fetched(before, after, kib * 1024) for kib in (32, 64, 128)}
    level = ZSTD_LEVELS[len(after) > ZSTD_BYTES_MAX]
    forms: dict[str, tuple[Format, bool]] = {"chunks": ("tar", True), "tar.gz": ("tar.gz", False)}
    if len(after) <= ZSTD_BYTES_MAX:
        forms["tar.zst"] = ("tar.zst", False)
    candidates = {
        name: release(trees[1], number, form, chunked=chunked)
        for number, (name, (form, chunked)) in enumerate(forms.items(), start=2)
    }
    devices = update(folder, plain[0], candidates)
    for name, built in zip(("old.tar", "new.tar"), plain, strict=True):
        (folder / name).write_bytes(built.artifact)
    patch = bsdiff_patch(folder, bsdiff)
    return Pair(
        name=f"{package} {old} to {new}",
        content=len(after),
        chunks={kib: size for kib, (size, _) in sizes.items()},
        requests={kib: count for kib, (_, count) in sizes.items()},
        blocks=blocks_fetched(plain[0].manifest, before, plain[1].manifest, after),
        zstd_patch=zstd_patch(folder, level),
        zstd_level=level,
        bsdiff_patch=patch.size,
        bsdiff_cpu_seconds=patch.cpu_seconds,
        bsdiff_missing=patch.missing,
        publishing_cpu_seconds=round(publishing, 2),
        devices=devices,
    )


def download(folder: Path, package: str, version: str) -> Path:
    """Have pip fetch one wheel."""
    into = folder / "wheels" / version
    platforms = [word for each in PLATFORMS for word in ("--platform", each)]
    command = ["pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    subprocess.run(
        [sys.executable, "-m", *command, "--python-version", "3.11", *platforms, "-d", str(into),
         f"{package}=={version}"],
        check=True,
    )  # fmt: skip
    return next(into.iterdir())


def unpack(wheel: Path, tree: Path) -> Path:
    """Lay out the files of a wheel as an application's; its version is no part of a path, as in a slot."""
    version = wheel.name.split("-")[1]
    with zipfile.ZipFile(wheel) as opened:
        for info in opened.infolist():
            if info.is_dir():
                continue
            path = tree / "app" / re.sub(r"[^A-Za-z0-9._/-]", "_", info.filename.replace(f"-{version}", ""))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(opened.read(info))
    return tree


def release(tree: Path, counter: int, form: Format, *, chunked: bool) -> BuiltRelease:
    """Build one release."""
    return build_release(
        tree, release=f"app-{counter}", version=str(counter), release_counter=counter, command=("true",), key=KEY,
        form=form, chunked=chunked,
    )  # fmt: skip


def pieces_of(content: bytes, chunks: list[Chunk]) -> Iterator[bytes]:
    """Give the bytes of each chunk."""
    start = 0
    for chunk in chunks:
        yield content[start : start + chunk.size_bytes]
        start += chunk.size_bytes


def chunks_fetched(before: bytes, after: bytes, usual_bytes: int) -> tuple[int, int]:
    """Return how many bytes and how many chunks are missing, with the list among the bytes."""
    there = set(cut(before, usual_bytes))
    chunks = cut(after, usual_bytes)
    missing = {
        chunk: piece for chunk, piece in zip(chunks, pieces_of(after, chunks), strict=True) if chunk not in there
    }
    return sum(len(to_stored(piece)) for piece in missing.values()) + 36 * len(chunks) + 8, len(missing)


def blocks_fetched(old: Manifest, before: bytes, new: Manifest, after: bytes) -> int:
    """Return what a device with an index of blocks of 4 KiB would fetch."""
    there = {digest for digest, _ in blocks_of(old, before)}
    blocks = list(blocks_of(new, after))
    fetched = len(blocks) * hashlib.sha256().digest_size
    for is_there, run in groupby(blocks, lambda block: block[0] in there):
        if not is_there:
            fetched += len(zlib.compress(b"".join(data for _, data in run), 9))
    return fetched


def blocks_of(manifest: Manifest, content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give digest and bytes of each block of an image in which every file begins with a block."""
    start = 0
    for entry in manifest.files:
        end = start + entry.size_bytes
        for place in range(start, end, BLOCK_BYTES):
            block = content[place : min(end, place + BLOCK_BYTES)].ljust(BLOCK_BYTES, b"\0")
            yield hashlib.sha256(block).digest(), block
        start = end


def zstd_patch(folder: Path, level: int) -> int:
    """Return the size of the patch that zstd makes from ``old.tar`` to ``new.tar``."""
    command = ["zstd", f"-{level}", "-q", "-f", "-c", "--long=31", f"--patch-from={folder / 'old.tar'}"]
    return len(subprocess.run([*command, str(folder / "new.tar")], check=True, capture_output=True).stdout)


def bsdiff_patch(folder: Path, bsdiff: Path) -> Patch:
    """Make the patch that bsdiff makes of the same two, in a process of its own for its memory's sake."""
    need = BSDIFF_MEMORY_FACTOR * max((folder / name).stat().st_size for name in ("old.tar", "new.tar"))
    if need > BSDIFF_MEMORY_BYTES_MAX:
        bound = f"its bound here is {BSDIFF_MEMORY_BYTES_MAX / _GB:.1f}"
        return Patch(None, None, f"not made, takes {need / _GB:.1f} GB of memory; {bound}")
    if need > free_bytes():
        return Patch(None, None, f"not made, takes {need / _GB:.1f} GB of memory; {free_bytes() / _GB:.1f} are free")
    program = f"import sys; sys.path.insert(0, {str(bsdiff)!r}); import bsdiff4; bsdiff4.file_diff(*sys.argv[1:])"
    names = [str(folder / name) for name in ("old.tar", "new.tar", "patch")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program, *names], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Patch((folder / "patch").stat().st_size, round(seconds, 1))


def free_bytes() -> int:
    """Return how much memory may be taken without anybody else losing theirs."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024


def update(folder: Path, old: BuiltRelease, candidates: dict[str, BuiltRelease]) -> dict[str, Device]:
    """Let devices that have the old release fetch and install the new one, each in another way."""
    store = ReleaseStore(folder / "store")
    for each in (old, *candidates.values()):
        store.publish(each)
    with served(store.folder) as url:
        run_device(store, url, folder / "old", "blue", old)
        found = {}
        for name, new in candidates.items():
            shutil.copytree(folder / "old", folder / name)
            found[name] = run_device(store, url, folder / name, "green", new)
            shutil.rmtree(folder / name)
    return found


def run_device(store: ReleaseStore, url: str, root: Path, slot: str, built: BuiltRelease) -> Device:
    """Have a process of its own fetch and install a release."""
    stored = store.get(built.manifest.release)
    assert stored is not None
    manifest, artifact = stored.by_arch["noarch"].references((url,))
    parts = {"manifest": manifest.model_dump(mode="json"), "artifact": artifact.model_dump(mode="json")}
    asked = {"root": str(root), "slot": slot, "key": PUBLIC, "number": stored.release_counter, **parts}
    command = [sys.executable, str(Path(__file__).with_name("delta_device.py")), json.dumps(asked)]
    return Device(**json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Run the registry of the product and give its address."""
    loop, over, found = asyncio.new_event_loop(), asyncio.Event(), []
    is_up = threading.Event()

    async def run() -> None:
        async with serve_registry(folder, "127.0.0.1", 0) as url:
            found.append(url)
            is_up.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    is_up.wait(30)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def tell(pair: Pair) -> None:
    """Print one pair."""
    print(f"{pair.name}: {pair.content / _MB:.1f} MB in files; in MB:")
    chunks = ", ".join(
        f"{kib} KiB {size / _MB:.2f} in {pair.requests[kib]} requests" for kib, size in pair.chunks.items()
    )
    print(f"  chunks of {chunks}; publishing takes {pair.publishing_cpu_seconds} s of a processor")
    patch = pair.bsdiff_missing
    if pair.bsdiff_patch is not None:
        patch = f"{pair.bsdiff_patch / _MB:.2f}, made in {pair.bsdiff_cpu_seconds} s of a processor"
    print(f"  blocks of 4 KiB {pair.blocks / _MB:.2f}; zstd -{pair.zstd_level} --patch-from "
          f"{pair.zstd_patch / _MB:.2f}; bsdiff {patch}")  # fmt: skip
    for name, device in pair.devices.items():
        print(f"  a device, {name}: {device.fetched_bytes / _MB:.2f}, {device.cpu_seconds} s of a processor, "
              f"{device.memory_mb} MB of memory ({device.idle_memory_mb} before)"
              f"{'' if device.in_chunks == (name == 'chunks') else ', in another way than meant'}")  # fmt: skip


if __name__ == "__main__":
    main()

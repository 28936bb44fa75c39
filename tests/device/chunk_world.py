"""A store of releases that share most of their content, a server that counts and disturbs, and a device."""

import atexit
import random
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.chunk_fetch import Receipt
from device_client.adapters.chunk_sources import Tolerance
from device_client.adapters.chunked import Chunked, FindSources, registries
from device_client.adapters.slots import Slots
from device_client.adapters.trust import PinnedKeys
from device_client.core.effects import Source
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release
from schemas.chunks import Place, name_chunk, read_chunk_list, to_stored, write_chunk_list
from schemas.messages import ArtifactRef, ManifestRef, SlotName
from tests.device.device_driver import unpack_here
from tests.device.device_world import CHECK, RELEASE_KEY, public, sha256

HURRIED = Tolerance(pause_seconds=0.001, seconds=20)
MODEL = random.Random(1).randbytes(1_500_000)
TEXT = b"".join(b"line %d of a file that deflates well\n" % number for number in range(8_000))
FILES: dict[str, dict[str, bytes]] = {
    "1.0.0": {"app/main.py": TEXT, "app/empty": b"", "models/m.bin": MODEL, "config/a.json": b'{"version": "1.0.0"}'},
    "1.1.0": {
        "app/main.py": TEXT[:100_000] + b"a new line\n" + TEXT[100_000:],
        "app/empty": b"",
        "app/new.py": b"print(1)\n" * 50,
        "models/m.bin": MODEL[:350_000] + random.Random(2).randbytes(90_000) + MODEL[350_000:],
        "config/a.json": b'{"version": "1.1.0"}',
    },
}
Disturb = Callable[["Exchange"], bool]
"""Says whether it has dealt with a request itself."""


@dataclass
class Exchange:
    """A request: what was asked for, and how to answer."""

    path: str
    body: bytes | None
    handler: BaseHTTPRequestHandler

    def say(self, status: int, body: bytes = b"", *, length: int | None = None) -> None:
        self.handler.send_response(status)
        self.handler.send_header("Content-Length", str(len(body) if length is None else length))
        self.handler.end_headers()
        self.handler.wfile.write(body)
        self.handler.wfile.flush()

    def cut(self) -> None:
        self.handler.close_connection = True


@dataclass
class Registry:
    """What it was asked for, and how it is disturbed."""

    url: str
    asked: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    sent_bytes: int = 0
    disturb: Disturb = lambda _: False

    def chunks_asked(self) -> Counter[str]:
        return Counter({path.rpartition("/")[2]: n for path, n in self.asked.items() if path.startswith("/chunks/")})

    def archives_asked(self) -> int:
        return sum(count for path, count in self.asked.items() if path.startswith("/artifacts/"))


@contextmanager
def serving(folder: Path) -> Iterator[Registry]:
    """Serve a store as any server of files would, on connections that are kept."""
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 20

        def log_message(self, *_: object) -> None:
            pass

        def setup(self) -> None:
            super().setup()
            with guard:
                made.connections += 1

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            file = folder / path.lstrip("/")
            exchange = Exchange(path, file.read_bytes() if file.is_file() else None, self)
            with guard:
                made.asked[path] += 1
            with suppress(OSError):
                if not made.disturb(exchange):
                    exchange.say(200 if exchange.body is not None else 404, exchange.body or b"")
                    made.sent_bytes += len(exchange.body or b"")

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # clients that leave are part of the test

    server = Server(("127.0.0.1", 0), Handler)
    made = Registry(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_built(folder: Path, version: str, files: dict[str, bytes] | None = None, **changes: Any) -> BuiltRelease:  # noqa: ANN401 - any field
    tree = folder / f"tree-{version}"
    for path, data in (FILES[version] if files is None else files).items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
        (tree / path).chmod(0o755 if path.endswith(".py") else 0o644)
    values: dict[str, Any] = {
        "release": f"app-{version}", "version": version, "release_counter": int(version.replace(".", "")),
        "command": ("python3", "app/main.py"), "key": RELEASE_KEY,
    }  # fmt: skip
    return build_release(tree, **{**values, **changes})


@cache
def both_published() -> tuple[Path, dict[str, BuiltRelease]]:
    """Make both releases once for this process; nobody writes into the folder that is returned."""
    folder = Path(tempfile.mkdtemp(prefix="chunks-"))
    atexit.register(shutil.rmtree, folder)
    built = {version: make_built(folder, version) for version in FILES}
    for each in built.values():
        ReleaseStore(folder / "store").publish(each)
    return folder / "store", built


def source_of(built: BuiltRelease, *urls: str) -> Source:
    manifest, artifact = sha256(built.envelope), built.manifest.artifact
    return Source(
        ManifestRef(
            sha256=manifest,
            size_bytes=len(built.envelope),
            urls=tuple(f"{url}/manifests/{manifest}" for url in urls),
        ),
        ArtifactRef(
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            arch=artifact.arch,
            sources=tuple(f"{url}/artifacts/{artifact.sha256}" for url in urls),
        ),
        built.manifest.release,
        built.manifest.target_version,
        0,
    )


def list_of(*pieces: bytes) -> bytes:
    return write_chunk_list((name_chunk(piece), len(to_stored(piece))) for piece in pieces)


def places_of(built: BuiltRelease) -> tuple[Place, ...]:
    return read_chunk_list(built.chunk_list, built.manifest.unpacked_bytes)


@dataclass
class World:
    """A store with both releases, its server, and a device."""

    folder: Path
    registry: Registry
    find_sources: FindSources = registries

    def __post_init__(self) -> None:
        self.store = self.folder / "store"
        published, built = both_published()
        shutil.copytree(published, self.store, dirs_exist_ok=True)
        self.built = dict(built)
        self.slots = Slots(self.folder / "root")
        self.percentages: list[float] = []

    @property
    def artifacts(self) -> Artifacts:
        identity = Identity("aarch64", "pi4", PinnedKeys((public(RELEASE_KEY),)))
        return Artifacts(self.slots, identity, unpack_here, Chunked(self.slots, self.find_sources, HURRIED))

    def source(self, version: str = "1.1.0") -> Source:
        return source_of(self.built[version], self.registry.url)

    def fetch(self, version: str = "1.1.0", is_cancelled: Callable[[], bool] = lambda: False) -> Receipt | None:
        return self.artifacts.fetch(self.source(version), is_cancelled, self.percentages.append)

    def install(self, version: str = "1.1.0", slot: SlotName = "green") -> Receipt | None:
        receipt = self.fetch(version)
        self.artifacts.verify(self.source(version))
        self.artifacts.install(self.source(version), slot, CHECK)
        self.slots.clear_staging()
        return receipt

    def with_old_version(self) -> "World":
        self.install("1.0.0", "blue")
        self.slots.switch("blue")
        self.registry.asked.clear()
        return self

    def chunk_path(self, built: BuiltRelease, number: int) -> Path:
        return self.store / "chunks" / places_of(built)[number].chunk.sha256

    def new_chunks(self) -> set[str]:
        """Return the chunks of the new release that the old one does not have."""
        old, new = ({each.chunk.sha256 for each in places_of(self.built[v])} for v in ("1.0.0", "1.1.0"))
        return new - old

    def staged_chunks(self, version: str = "1.1.0") -> set[str]:
        """Return the chunks that are whole in staging, found without the product's code for that."""
        name = f"{self.built[version].manifest.artifact.sha256}.content.part"
        path = self.slots.staging / name
        data = path.read_bytes() if path.exists() else b""
        spans = {
            each.chunk: data[each.offset_bytes : each.offset_bytes + each.chunk.size_bytes]
            for each in places_of(self.built[version])
        }
        return {chunk.sha256 for chunk, span in spans.items() if name_chunk(span) == chunk}

    def holds(self, slot: SlotName, version: str) -> bool:
        """Say whether a slot is sealed and has exactly the files of a version."""
        manifest = self.built[version].manifest
        folder = self.slots.folder(slot)
        self.slots.check(slot)
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        ours = {path: file for path, file in found.items() if not path.startswith(".")}
        modes = {entry.path: entry.mode for entry in manifest.files}
        return {path: file.read_bytes() for path, file in ours.items()} == FILES[version] and all(
            file.stat().st_mode & 0o7777 == modes[path] for path, file in ours.items()
        )


@contextmanager
def made_world(folder: Path, find_sources: FindSources = registries) -> Iterator[World]:
    with serving(folder / "store") as registry:
        yield World(folder, registry, find_sources)


def fetch_alone(folder: Path, source: dict[str, Any]) -> None:
    """Fetch as the process of an agent does; for one that is started to be killed."""
    manifest, artifact = ManifestRef(**source.pop("manifest")), ArtifactRef(**source.pop("artifact"))
    slots = Slots(folder / "root")
    identity = Identity("aarch64", "pi4", PinnedKeys((public(RELEASE_KEY),)))
    Artifacts(slots, identity).fetch(Source(manifest, artifact, **source), lambda: False, lambda _: None)

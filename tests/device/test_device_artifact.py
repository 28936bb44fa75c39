# ruff: noqa: ANN401 - builders take a value for any field
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.download import download
from device_client.adapters.failure import CancelledError, StepError
from device_client.adapters.slots import Slots
from device_client.core.effects import Source
from schemas.dsse import MANIFEST_TYPE, seal
from schemas.messages import Desired
from tests.device.device_world import (
    CHECK,
    QUICK_APPLICATION,
    RELEASE_KEY,
    make_release,
    order_for,
    public,
    put,
    registry,
    sha256,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator["World"]:
    with registry(tmp_path / "registry") as url:
        yield World(tmp_path, url)


class World:
    """A registry, a device's slots, and releases to try on it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.slots = Slots(folder / "root")
        self.artifacts = Artifacts(self.slots, Identity("aarch64", "pi4", (public(RELEASE_KEY),)))

    def publish(self, **changes: Any) -> Desired:
        built = make_release(self.folder, "1.1.0", application=QUICK_APPLICATION, **changes)
        put(self.folder / "registry", built)
        return order_for(built, 1, self.url)

    def install(self, desired: Desired, *, counter_min: int = 0) -> str:
        """Return the code with which it fails, or the version that is installed."""
        assert desired.manifest is not None
        assert desired.artifact is not None
        source = Source(desired.manifest, desired.artifact, desired.release, desired.version, counter_min)
        try:
            self.artifacts.fetch(source, lambda: False, lambda _: None)
            self.artifacts.verify(source)
            return self.artifacts.install(source, "blue", CHECK).version
        except StepError as error:
            return error.code.value


def test_release_that_proves_everything_is_installed_and_marked(world: World) -> None:
    assert world.install(world.publish()) == "1.1.0"
    assert world.slots.check("blue").release == "app-1.1.0"


def test_release_of_an_unknown_key_is_refused(world: World) -> None:
    desired = world.publish(key=Ed25519PrivateKey.from_private_bytes(b"x" * 32))

    assert world.install(desired) == "signature_invalid"


def test_envelope_of_another_kind_is_refused_even_if_signed(world: World) -> None:
    built = make_release(world.folder, "1.1.0", application=QUICK_APPLICATION)
    forged = seal("application/vnd.tidegate.grant+json", built.manifest.model_dump_json().encode(), RELEASE_KEY)
    (world.folder / "registry" / sha256(forged)).write_bytes(forged)
    desired = order_for(built, 1, world.url)
    assert desired.manifest is not None
    manifest = desired.manifest.model_copy(
        update={"sha256": sha256(forged), "size_bytes": len(forged), "urls": (f"{world.url}/{sha256(forged)}",)}
    )

    assert world.install(desired.model_copy(update={"manifest": manifest})) == "signature_invalid"
    assert MANIFEST_TYPE not in forged.decode()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"arch": "x86_64"}, "arch_mismatch"),
        ({"device_types": ("other",)}, "device_type_mismatch"),
    ],
)
def test_release_must_fit_the_device(world: World, changes: dict[str, Any], code: str) -> None:
    assert world.install(world.publish(**changes)) == code


@pytest.mark.parametrize("changes", [{"arch": "aarch64"}, {"device_types": ("pi4", "pi5")}])
def test_release_that_fits_the_device_is_installed(world: World, changes: dict[str, Any]) -> None:
    assert world.install(world.publish(**changes)) == "1.1.0"


@pytest.mark.parametrize("changes", [{"version": "1.2.0"}, {"release": "other-1.1.0"}])
def test_release_must_be_the_ordered_one(world: World, changes: dict[str, Any]) -> None:
    assert world.install(world.publish().model_copy(update=changes)) == "version_mismatch"


def test_release_counter_never_falls(world: World) -> None:
    assert world.install(world.publish(), counter_min=111) == "downgrade"
    assert world.install(world.publish(), counter_min=110) == "1.1.0"


@pytest.mark.parametrize("part", ["manifest", "artifact"])
def test_other_bytes_of_the_same_length_are_refused(world: World, part: str) -> None:
    desired = world.publish()
    reference = getattr(desired, part)
    path = world.folder / "registry" / reference.sha256
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    assert world.install(desired) == "checksum_mismatch"


@pytest.mark.parametrize(
    ("damage", "code"), [(lambda b: b + b"!", "size_mismatch"), (lambda b: b[:-1], "size_mismatch")]
)
def test_more_or_fewer_bytes_are_refused(world: World, damage: Any, code: str) -> None:
    desired = world.publish()
    assert desired.artifact is not None
    path = world.folder / "registry" / desired.artifact.sha256
    path.write_bytes(damage(path.read_bytes()))

    assert world.install(desired) == code


def test_archive_that_changes_on_disk_after_the_fetch_is_refused(world: World) -> None:
    desired = world.publish()
    assert desired.manifest is not None
    assert desired.artifact is not None
    source = Source(desired.manifest, desired.artifact, desired.release, desired.version, 0)
    world.artifacts.fetch(source, lambda: False, lambda _: None)
    archive = next(path for path in world.slots.staging.iterdir() if path.name.endswith(".tar.gz"))
    archive.write_bytes(archive.read_bytes()[:-1] + b"!")

    with pytest.raises(StepError, match="digest"):
        world.artifacts.install(source, "blue", CHECK)

    assert list((world.slots.folder("blue")).iterdir()) == [], "nothing has reached the slot"


def test_full_disk_is_seen_before_anything_is_fetched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    desired = world.publish()
    usage = shutil.disk_usage(world.folder)._replace(free=100)
    monkeypatch.setattr("device_client.adapters.artifact.shutil.disk_usage", lambda _: usage)

    assert world.install(desired) == "no_space"
    assert not any(path.name.endswith(".tar.gz") for path in world.slots.staging.iterdir())


def test_install_forgets_what_an_earlier_order_has_fetched(world: World) -> None:
    (world.slots.staging / "0000.tar.gz.part").write_bytes(b"x")

    world.install(world.publish())

    assert not (world.slots.staging / "0000.tar.gz.part").exists()


# Downloads.

DATA = bytes(range(256)) * 4096


class Scripted(BaseHTTPRequestHandler):
    """A server that behaves as its path says."""

    requests: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.requests.append((self.path, wanted))
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        match self.path:
            case "/resume" if start:
                self.answer(206, DATA[start:], f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
            case "/half":
                self.answer(200, DATA[: len(DATA) // 2], length=len(DATA))
            case "/wrong-range" if start:
                self.answer(206, DATA, f"bytes 0-{len(DATA) - 1}/{len(DATA)}")
            case "/unsatisfiable" if start:
                self.answer(416, b"")
            case "/endless":
                self.answer(200, DATA * 40, length=None)
            case "/corrupt":
                self.answer(200, DATA[:-1] + b"!")
            case "/missing":
                self.answer(404, b"")
            case "/redirect":
                self.answer(302, b"", location="/whole")
            case "/away":
                self.answer(302, b"", location="file:///etc/passwd")
            case _:
                self.answer(200, DATA)

    def answer(
        self, status: int, body: bytes, span: str | None = None, *, length: int | None = -1, location: str | None = None
    ) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        if span:
            self.send_header("Content-Range", span)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def scripted() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    requests: list[tuple[str, str | None]] = []
    handler = type("Handler", (Scripted,), {"requests": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetch(path: Path, *sources: str, is_cancelled: bool = False) -> None:
    download(sources, path, size_bytes=len(DATA), sha256=sha256(DATA), is_cancelled=lambda: is_cancelled)


@pytest.mark.parametrize("behaviour", ["whole", "redirect"])
def test_download_takes_what_is_right(tmp_path: Path, behaviour: str) -> None:
    with scripted() as (url, _):
        fetch(tmp_path / "f", f"{url}/{behaviour}")

    assert (tmp_path / "f").read_bytes() == DATA


def test_download_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    with scripted() as (url, requests):
        with pytest.raises(StepError):
            fetch(tmp_path / "f", f"{url}/half")
        fetch(tmp_path / "f", f"{url}/resume")

    assert requests[-1] == ("/resume", f"bytes={len(DATA) // 2}-")
    assert (tmp_path / "f").read_bytes() == DATA


@pytest.mark.parametrize("behaviour", ["whole", "unsatisfiable"])
def test_download_begins_anew_when_the_server_does_not_resume(tmp_path: Path, behaviour: str) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * 1000)
    with scripted() as (url, _):
        if behaviour == "unsatisfiable":
            with pytest.raises(StepError):
                fetch(tmp_path / "f", f"{url}/unsatisfiable")
        fetch(tmp_path / "f", f"{url}/{behaviour}")

    assert (tmp_path / "f").read_bytes() == DATA


def test_resumed_download_is_hashed_from_its_first_byte(tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * 1000)
    with scripted() as (url, _), pytest.raises(StepError) as caught:
        fetch(tmp_path / "f", f"{url}/resume")

    assert caught.value.code == "checksum_mismatch"
    assert not (tmp_path / "f").exists()
    assert not (tmp_path / "f.part").exists(), "what is wrong is not resumed"


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("corrupt", "checksum_mismatch"),
        ("endless", "size_mismatch"),
        ("missing", "download_failed"),
        ("half", "size_mismatch"),
        ("away", "download_failed"),
    ],
)
def test_download_fails_with_its_reason(tmp_path: Path, behaviour: str, code: str) -> None:
    with scripted() as (url, _), pytest.raises(StepError) as caught:
        fetch(tmp_path / "f", f"{url}/{behaviour}")

    assert caught.value.code == code
    assert not (tmp_path / "f").exists()
    size = (tmp_path / "f.part").stat().st_size if (tmp_path / "f.part").exists() else 0
    assert size <= len(DATA), "never more than was announced"


def test_download_is_refused_when_another_range_arrives(tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(DATA[:1000])
    with scripted() as (url, _), pytest.raises(StepError):
        fetch(tmp_path / "f", f"{url}/wrong-range")


def test_sources_are_tried_in_order_until_one_is_right(tmp_path: Path) -> None:
    with scripted() as (url, requests):
        fetch(tmp_path / "f", f"{url}/missing", f"{url}/corrupt", f"{url}/whole", f"{url}/never")

    assert [path for path, _ in requests] == ["/missing", "/corrupt", "/whole"]


@pytest.mark.parametrize("source", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/etc/passwd"])
def test_only_http_is_fetched(tmp_path: Path, source: str) -> None:
    with pytest.raises(StepError, match="only http"):
        fetch(tmp_path / "f", source)


def test_unreachable_source_is_a_failed_download(tmp_path: Path) -> None:
    with pytest.raises(StepError) as caught:
        fetch(tmp_path / "f", "http://127.0.0.1:1/x")

    assert (caught.value.code, caught.value.retryable) == ("download_failed", True)


def test_cancelled_download_ends_at_once(tmp_path: Path) -> None:
    with scripted() as (url, _), pytest.raises(CancelledError):
        fetch(tmp_path / "f", f"{url}/whole", is_cancelled=True)


def test_file_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)

    fetch(tmp_path / "f", "http://127.0.0.1:1/x")

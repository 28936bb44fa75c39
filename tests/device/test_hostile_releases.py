"""Releases that are signed and hostile, fetched and installed beside an application that serves."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from device_client.adapters.applications import Applications
from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.layout import tree_digest
from device_client.adapters.runtime import Runtime
from device_client.adapters.slots import Slots
from device_client.adapters.trust import PinnedKeys
from device_client.adapters.worker import Worker
from device_client.core.effects import Fetch, Install, Source, Verify
from device_client.core.events import StepFailed, StepSucceeded
from schemas.codec import encode
from schemas.dsse import MANIFEST_TYPE, seal
from schemas.manifest import Format
from schemas.messages import ArtifactRef, ManifestRef
from tests.device.device_world import (
    CHECK,
    QUICK_APPLICATION,
    RELEASE_KEY,
    ask,
    free_port,
    make_release,
    order_for,
    public,
    put,
    registry,
    sha256,
    until,
)
from tests.device.hostile_archives import FIRST, HONEST, HONEST_GZ, NAMES, make_manifest
from tests.device.hostile_frames import HONEST_ZST, HOSTILE

SAMPLE = (
    "name_b'../evil'", "name_b'/tmp/evil'", "name_b'../active'", "name_b'../green/app/main.py'", "name_b'.verified'",
    "symlink_to_../green", "hard_link_to_/etc/passwd", "symlink_instead_of_app", "chain_of_symlinks_longer_than_a_path",
    "character_device", "fifo", "mode_4644", "pax_path", "pax_sparse_1.0", "gnu_long_name", "size_base256_huge",
    "magic_gnu", "extra_file_last", "other_order", "twice_with_other_contents", "archive_after_the_end",
    "one_bit_of_models/m.bin", "gzip_gibibyte_in_the_last_file", "gzip_million_headers", "gzip_second_member",
    "gzip_cut_4_before_its_end", "gzip_xz", "zstd_largest_window", "zstd_gibibyte_of_zeros", "zstd_dictionary",
    "zstd_skippable_frame_behind", "plain_cut_after_5120", "plain_gzip",
)  # fmt: skip

FORMATS = ("tar.gz", "tar", "tar.zst")


@dataclass
class World:
    """A device that serves 1.0.0 from green, a registry, and everything that must stay as it is."""

    folder: Path
    url: str
    port: int
    slots: Slots = field(init=False)
    runtime: Runtime = field(init=False)

    def __post_init__(self) -> None:
        self.slots = Slots(self.folder / "root")
        self.runtime = Runtime(self.slots, self.port, lambda: 0.0)

    def serve(self) -> None:
        built = make_release(self.folder, "1.0.0", application=QUICK_APPLICATION)
        put(self.folder / "registry", built)
        order = order_for(built, 1, self.url)
        assert order.manifest is not None
        assert order.artifact is not None
        source = Source(order.manifest, order.artifact, order.release, order.version, 0)
        artifacts = Artifacts(self.slots, Identity("aarch64", "pi4", PinnedKeys((public(RELEASE_KEY),))))
        artifacts.fetch(source, lambda: False, lambda _: None)
        content = artifacts.install(source, "green", CHECK)
        self.slots.switch("green")
        self.runtime.start("green", content)
        until(lambda: ask(self.port))

    def install(
        self, envelope: bytes, archive: bytes, formats: tuple[str, ...] = FORMATS
    ) -> StepFailed | StepSucceeded:
        """Publish and install it, and return how the step ended that was the last one."""
        self.slots.clear_staging()
        for data in (envelope, archive):
            (self.folder / "registry" / sha256(data)).write_bytes(data)
        source = Source(
            ManifestRef(sha256=sha256(envelope), size_bytes=len(envelope), urls=(f"{self.url}/{sha256(envelope)}",)),
            ArtifactRef(
                sha256=sha256(archive),
                size_bytes=len(archive),
                arch="noarch",
                sources=(f"{self.url}/{sha256(archive)}",),
            ),
            "app-1",
            "1",
            0,
        )
        artifacts = Artifacts(self.slots, Identity("aarch64", "pi4", PinnedKeys((public(RELEASE_KEY),)), formats))
        applications = Applications.one_by_one(self.runtime, self.port, free_port())
        worker = Worker(self.slots, artifacts, applications, post=lambda _: None)
        for work in (Fetch(1, source), Verify(2, source), Install(3, source, "blue", CHECK)):
            event = worker.attempt(work, None, Event())
            if isinstance(event, StepFailed):
                return event
        assert isinstance(event, StepSucceeded)
        return event

    def untouchable(self) -> object:
        """Return what no release may change, however it ends."""
        root = self.slots.root
        beside = sorted(path.name for path in (*self.folder.iterdir(), *root.iterdir()))
        return (tree_digest(root / "green"), self.slots.active(), ask(self.port), beside)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("hostile")
    with registry(folder / "registry") as url:
        world = World(folder, url, free_port())
        world.serve()
        try:
            yield world
        finally:
            world.runtime.stop()


def signed(archive: bytes, form: Format = "tar.gz", **changes: Any) -> bytes:  # noqa: ANN401 - any field
    """A manifest by somebody who holds the key and says anything."""
    tree = json.loads(encode(make_manifest(archive, form)))
    return seal(MANIFEST_TYPE, json.dumps({**tree, **changes}).encode(), RELEASE_KEY)


@pytest.mark.parametrize("name", SAMPLE)
def test_hostile_archive_leaves_the_device_as_it_was_and_the_slot_empty(name: str, world: World) -> None:
    form, make = HOSTILE[name]
    archive = make()
    before = world.untouchable()

    ended = world.install(signed(archive, form), archive)

    assert isinstance(ended, StepFailed)
    assert (ended.step, ended.code, ended.retryable) == ("install", "archive_invalid", False)
    assert world.untouchable() == before
    assert list(world.slots.folder("blue").iterdir()) == []
    assert set(world.slots.verified()) == {"green"}


HARMLESS = {b"app/Main.py", b"app/main.py.", b"app/.verified", b"app/" + b"a" * 96}
"""Odd, and harmless."""
FILE = json.loads(encode(make_manifest().files[0]))


def with_path(path: bytes) -> dict[str, Any]:
    return {"files": [{**FILE, "path": path.decode("latin-1")}]}


HOSTILE_MANIFESTS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"path_{name!a}"[:50]: partial(with_path, name) for name in NAMES if name not in HARMLESS},
    "path_that_is_no_text": lambda: {"files": [{**FILE, "path": 7}]},
    "path_of_half_a_character": lambda: {"files": [{**FILE, "path": "app/\ud800"}]},
    "path_deeper_than_allowed": lambda: {"files": [{**FILE, "path": "app/" + "a/" * 16 + "b"}]},
    "path_longer_than_allowed": lambda: {"files": [{**FILE, "path": "app/" + "/".join(["a" * 100] * 6)}]},
    "two_files_of_one_path": lambda: {"files": [FILE, FILE]},
    "two_files_that_differ_in_case": lambda: {"files": [FILE, {**FILE, "path": FIRST.upper().replace("APP", "app")}]},
    "file_in_a_file": lambda: {"files": [FILE, {**FILE, "path": f"{FIRST}/x"}]},
    "no_files": lambda: {"files": []},
    "more_files_than_allowed": lambda: {"files": [{**FILE, "path": f"app/{n}"} for n in range(20_001)]},
    "files_that_are_a_map": lambda: {"files": {"app/main.py": FILE}},
    "setuid": lambda: {"files": [{**FILE, "mode": 0o4755}]},
    "writable_for_all": lambda: {"files": [{**FILE, "mode": 0o666}]},
    "negative_size": lambda: {"files": [{**FILE, "size_bytes": -1}]},
    "size_beyond_all_disks": lambda: {"files": [{**FILE, "size_bytes": 2**63}]},
    "size_that_is_no_number": lambda: {"files": [{**FILE, "size_bytes": float("nan")}]},
    "size_with_a_fraction": lambda: {"files": [{**FILE, "size_bytes": 900.5}]},
    "digest_of_another_kind": lambda: {"files": [{**FILE, "sha256": "0" * 32}]},
    "link": lambda: {"files": [{**FILE, "link": "/etc/passwd"}]},
    "unknown_form": lambda: {"artifact": {"sha256": "0" * 64, "size_bytes": 9, "arch": "noarch", "format": "tar.xz"}},
    "unknown_field": lambda: {"run_as": "root"},
    "no_command": lambda: {"command": []},
    "command_for_a_shell": lambda: {"command": "reboot; true"},
}


@pytest.mark.parametrize("name", HOSTILE_MANIFESTS)
def test_hostile_manifest_is_refused_before_its_archive_is_fetched(name: str, world: World) -> None:
    before = world.untouchable()

    ended = world.install(signed(HONEST_GZ, **HOSTILE_MANIFESTS[name]()), HONEST_GZ)

    assert isinstance(ended, StepFailed)
    assert ended.step == "fetch"
    assert ended.code in {"manifest_invalid", "size_mismatch"}
    assert ended.message.isprintable()
    assert not any(".tar" in path.name for path in world.slots.staging.iterdir())
    assert world.untouchable() == before


@pytest.mark.parametrize("form", ["tar.gz", "tar", "tar.zst"])
def test_form_that_the_device_does_not_take_is_refused_before_its_archive_is_fetched(
    form: Format, world: World
) -> None:
    archive = {"tar.gz": HONEST_GZ, "tar": HONEST, "tar.zst": HONEST_ZST}[form]

    ended = world.install(signed(archive, form), archive, tuple(each for each in FORMATS if each != form))

    assert isinstance(ended, StepFailed)
    assert (ended.step, ended.code, ended.retryable) == ("fetch", "format_unsupported", False)
    assert form in ended.message
    assert not any(".tar" in path.name for path in world.slots.staging.iterdir())
    assert isinstance(world.install(signed(archive, form), archive), StepSucceeded)

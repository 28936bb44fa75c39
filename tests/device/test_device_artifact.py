# ruff: noqa: ANN401 - builders take a value for any field
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.failure import StepError
from device_client.adapters.slots import Slots
from device_client.adapters.trust import PinnedKeys
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
        self.artifacts = Artifacts(self.slots, Identity("aarch64", "pi4", PinnedKeys((public(RELEASE_KEY),))))

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

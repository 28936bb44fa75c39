"""What is built to be installed: the wheel and the source archive hold what is needed, and nothing beside it."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "orchestrator", "device_client", "embedded_broker", "simulator")
IN_WHEEL = {
    ".py",
    ".typed",
    ".js",
    ".css",
    ".html",
    ".svg",
    ".LICENSE",
    ".service",
    ".rules",
    ".yaml",
    ".json",
    ".conf",
}
NEEDED = (
    *(f"{package}/py.typed" for package in PACKAGES),
    "orchestrator/dashboard/index.html",
    "orchestrator/dashboard/vendor/mqtt.LICENSE",
    "orchestrator/dashboard/vendor/uPlot.LICENSE",
    "orchestrator/_examples/application/app/serve.py",
    "orchestrator/_examples/policies/first.yaml",
    "orchestrator/adapters/broker-config/acl",
    "orchestrator/adapters/broker-config/mosquitto.conf",
    "orchestrator/adapters/broker-config/listeners-tls.conf",
    "device_client/systemd/tidegate-agent.service",
)


def build(source: Path, target: Path, *options: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(target), *options]
    subprocess.run(command, check=True, capture_output=True, cwd=source, timeout=60)


def wheel_contents(folder: Path) -> dict[str, bytes]:
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    return folder


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True, cwd=ROOT)
    return set(listed.stdout.splitlines())


def test_wheel_holds_what_is_needed_and_nothing_beside_it(dist: Path) -> None:
    names = set(wheel_contents(dist))

    (information,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert {name.split("/")[0] for name in names} == {*PACKAGES, information}
    assert f"{information}/licenses/LICENSE" in names
    assert not set(NEEDED) - names
    ours = {name for name in names if not name.startswith(information)}
    assert not [name for name in ours if "test" in name or "compose_setup" in name]
    assert {name for name in ours if not name.endswith(tuple(IN_WHEEL))} == {
        "orchestrator/_examples/application/README.md",
        "orchestrator/adapters/broker-config/acl",
    }
    copied = ("orchestrator/_examples/", "orchestrator/adapters/broker-config/")
    assert not {name for name in ours if not name.startswith(copied)} - tracked()
    static = {name for name in tracked() if name.startswith("orchestrator/dashboard/")}
    assert not static - names


def test_device_installs_four_packages_and_everything_else_is_an_extra(dist: Path) -> None:
    contents = wheel_contents(dist)
    (metadata,) = (data.decode() for name, data in contents.items() if name.endswith(".dist-info/METADATA"))

    needed = {line.partition(": ")[2] for line in metadata.splitlines() if line.startswith("Requires-Dist: ")}
    base = {re.split(r"[<>=]", each)[0] for each in needed if "extra ==" not in each}
    assert base == {"cryptography", "msgpack", "paho-mqtt", "pydantic"}
    assert [each.partition("; ")[2] for each in needed if each.startswith("obstore")] == ["extra == 'objects'"]


def test_source_archive_holds_what_a_wheel_is_built_from(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"LICENSE", "README.md", "pyproject.toml", "CHANGELOG.md", "PKG-INFO"} <= names
    top = {name.split("/")[0] for name in names if "/" in name}
    assert top == {*PACKAGES, "examples", "broker-config"}
    assert not names - tracked() - {"PKG-INFO"}


def test_both_install_the_same(dist: Path, tmp_path: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path)
    (source,) = tmp_path.iterdir()

    build(source, tmp_path / "dist", "-t", "wheel")

    assert wheel_contents(tmp_path / "dist") == wheel_contents(dist)

"""Writing media, as an operator types it."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.adapters import media as media_module
from orchestrator.adapters.keys import create_keys, load_private
from orchestrator.adapters.releases import ReleaseStore
from orchestrator.adapters.roots import RootFolder
from orchestrator.cli import bus as real_bus
from schemas.codec import decode
from schemas.dsse import MEDIA_ORDER_TYPE, unseal
from schemas.media import MediaOrder
from schemas.messages import TrustDocument
from tests.cli.fake_bus import FakeBus
from tests.core.core_bench import Bench, make_fleet
from tests.core.trust_roots import make_root, role, signed
from tests.device.chunk_world import make_built


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An orchestrator's folder with app-1.0.0 and app-1.1.0; nobody but an export writes into it."""
    folder = tmp_path_factory.mktemp("fleet")
    create_keys(folder / "keys")
    key = load_private(folder / "keys" / "release.key")
    for version in ("1.0.0", "1.1.0"):
        ReleaseStore(folder / "releases").publish(make_built(folder / version, version, key=key))
    return folder


def export(fleet: Path, to: Path, *options: str, release: str = "app-1.1.0") -> Result:
    words = ["media", "export", release, "--folder", str(fleet), "--to", str(to)]
    return CliRunner().invoke(app, [*words, *(options or ("--device", "pi-1"))])


def orders(fleet: Path, to: Path) -> list[MediaOrder]:
    """Return the orders of a medium, the oldest first; their signatures are good."""
    public = load_private(fleet / "keys" / "command.key").public_key().public_bytes_raw()
    paths = sorted((to / "orders").iterdir(), key=lambda path: int(path.stem))
    return [decode(MediaOrder, unseal(MEDIA_ORDER_TYPE, path.read_bytes(), [public])) for path in paths]


def test_medium_is_laid_out_like_the_store_with_one_signed_order(fleet: Path, tmp_path: Path) -> None:
    to = tmp_path / "usb" / "tidegate"

    result = export(fleet, to, "--device", "pi-1", "--group", "vision", "--valid-for", "2d")

    assert result.exit_code == 0, result.output
    assert {path.name for path in to.iterdir()} == {"manifests", "chunks", "orders"}
    for path in (each for name in ("manifests", "chunks") for each in (to / name).iterdir()):
        assert path.read_bytes() == (fleet / "releases" / path.parent.name / path.name).read_bytes()
    (order,) = orders(fleet, to)
    assert (order.devices, order.groups, order.release, order.version) == (("pi-1",), ("vision",), "app-1.1.0", "1.1.0")
    stored = ReleaseStore(fleet / "releases").get("app-1.1.0")
    assert stored is not None
    assert [each.manifest_sha256 for each in order.targets] == [
        each.manifest_sha256 for each in stored.by_arch.values()
    ]
    assert "is for pi-1, group vision, to be taken until" in result.output
    assert "next: unmount the medium" in result.output


def test_orders_have_ever_higher_numbers_and_what_is_there_is_not_copied_again(fleet: Path, tmp_path: Path) -> None:
    told = [json.loads(export(fleet, tmp_path / "usb", "--device", "pi-1", "--json").output) for _ in range(3)]

    assert told[0]["order"] < told[1]["order"] < told[2]["order"]
    assert [each["written_bytes"] > 0 for each in told] == [True, False, False]
    assert told[0]["size_bytes"] == told[2]["size_bytes"]
    assert [each.number for each in orders(fleet, tmp_path / "usb")] == [each["order"] for each in told]


def test_number_is_above_all_that_were_given_also_when_the_clock_falls(
    fleet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads(export(fleet, tmp_path / "usb", "--device", "pi-1", "--json").output)["order"]
    monkeypatch.setattr("orchestrator.cli.media.clock.now", lambda: 1000.0)

    assert json.loads(export(fleet, tmp_path / "usb", "--device", "pi-1", "--json").output)["order"] == before + 1


def test_damaged_file_on_the_medium_is_written_anew(fleet: Path, tmp_path: Path) -> None:
    export(fleet, tmp_path)
    chunk = max((tmp_path / "chunks").iterdir(), key=lambda path: path.stat().st_size)
    as_it_was = chunk.read_bytes()
    chunk.write_bytes(as_it_was[:-1])

    assert export(fleet, tmp_path).exit_code == 0
    assert chunk.read_bytes() == as_it_was


def test_order_is_written_after_everything_that_it_needs(
    fleet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    replacing = media_module._replacing

    def noted(path: Path) -> Any:  # noqa: ANN401 - as it was
        written.append(path.parent.name)
        return replacing(path)

    monkeypatch.setattr(media_module, "_replacing", noted)
    export(fleet, tmp_path)

    assert written[-1] == "orders"
    assert written.count("orders") == 1


def test_medium_that_is_too_small_is_named_before_anything_is_written(
    fleet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = media_module.shutil.disk_usage(tmp_path)._replace(free=1000)  # type: ignore[attr-defined]
    monkeypatch.setattr("orchestrator.adapters.media.shutil.disk_usage", lambda _path: usage)

    result = export(fleet, tmp_path / "usb")

    assert result.exit_code == 1
    assert f"{tmp_path / 'usb'}: " in result.stderr
    assert "1000 are free; nothing was written. Free some space there or take a larger medium" in result.stderr
    assert list((tmp_path / "usb").iterdir()) == []


def test_medium_that_refuses_in_the_middle_has_no_order_and_can_be_gone_on_with(fleet: Path, tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    command = ["media", "export", "app-1.1.0", "--folder", str(fleet), "--to", str(tmp_path), "--device", "pi-1"]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *command], preexec_fn=limit, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "no order was written. Take a medium that can be written and has room" in done.stderr
    assert not (tmp_path / "orders").exists()
    assert [path for path in tmp_path.rglob("*") if path.name.endswith(".pending")] == []
    assert export(fleet, tmp_path).exit_code == 0


@pytest.mark.parametrize("place", ["chunks", "orders"])
def test_link_on_a_medium_does_not_lead_to_where_the_operator_keeps_his_own(
    fleet: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "usb").mkdir()
    (tmp_path / "usb" / place).symlink_to(tmp_path / "home")

    result = export(fleet, tmp_path / "usb")

    assert (result.exit_code, "is a symbolic link" in result.stderr) == (1, True)
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "release", "says"),
    [
        (("--json",), "app-1.1.0", "for whom? give --device ID, --group GROUP or --where FILTER"),
        (("--device", "a/b"), "app-1.1.0", "is no id"),
        (("--device", "pi-1", "--valid-for", "soon"), "app-1.1.0", "write for example 12h or 30d"),
        (("--device", "pi-1"), "app-9.9.9", "there are: app-1.0.0, app-1.1.0"),
        (("--device", "pi-1", "--arch", "riscv64"), "app-1.1.0", "it has: noarch"),
        (tuple(f"--device=pi-{number}" for number in range(1001)), "app-1.1.0", "name a group, or make several"),
        (tuple(f"--device={'x' * 60}{number}" for number in range(999)), "app-1.1.0", "name a group, or make several"),
    ],
)
def test_mistake_is_named_with_its_remedy(
    fleet: Path, tmp_path: Path, options: tuple[str, ...], release: str, says: str
) -> None:
    result = export(fleet, tmp_path, *options, release=release)

    assert result.exit_code == 1
    assert says in result.stderr
    assert not (tmp_path / "orders").exists()


@pytest.fixture
def rooted(tmp_path: Path) -> Path:
    """An orchestrator's folder with a trust root that its command key is in, and app-1.1.0 signed under it."""
    folder = tmp_path / "rooted"
    create_keys(folder / "keys")
    public = (folder / "keys" / "command.pub").read_text().strip()
    key = load_private(folder / "keys" / "release.key")
    release = key.public_key().public_bytes_raw().hex()
    roles: dict[str, Any] = {
        "root": role("root-a"), "release": {"keys": [release], "threshold": 1},
        "command": {"keys": [public], "threshold": 1},
    }  # fmt: skip
    roots = RootFolder(folder / "keys" / "roots")
    roots.install(signed(make_root(1, **roles), "root-a"))
    ReleaseStore(folder / "releases").publish(make_built(folder / "tree", "1.1.0", key=key))
    (folder / "next.json").write_bytes(signed(make_root(2, **roles, revoked=("app-1.1.0",)), "root-a"))
    (folder / "other.json").write_bytes(signed(make_root(2, **{**roles, "command": role("new")}), "root-a"))
    return folder


def test_trust_roots_travel_with_the_order(rooted: Path, tmp_path: Path) -> None:
    assert export(rooted, tmp_path / "usb").exit_code == 0

    assert decode(TrustDocument, (tmp_path / "usb" / "trust.json").read_bytes()).first == 1


@pytest.mark.parametrize(("root", "says"), [("next.json", "is revoked"), ("other.json", "is no command key of root 2")])
def test_what_no_device_would_take_is_not_exported(rooted: Path, tmp_path: Path, root: str, says: str) -> None:
    RootFolder(rooted / "keys" / "roots").install((rooted / root).read_bytes())

    result = export(rooted, tmp_path / "usb")

    assert (result.exit_code, says in result.stderr) == (1, True)
    assert not (tmp_path / "usb" / "orders").exists()


def test_filter_is_answered_by_the_orchestrator_page_by_page(
    fleet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(fleet=make_fleet(450, region=lambda number: "eu" if number % 2 else "us"), warm_up_seconds=0.0)
    fake = FakeBus()
    fake.answer = lambda verb, body: bench.command(verb, **body)
    monkeypatch.setattr(real_bus, "connect", fake.connect)

    result = export(fleet, tmp_path / "usb", "--where", 'region == "eu"', "--broker", "mqtt://alice:secret@broker")

    assert result.exit_code == 0, result.output
    assert len(orders(fleet, tmp_path / "usb")[0].devices) == 225
    nobody = export(fleet, tmp_path / "none", "--where", 'region == "mars"', "--broker", "mqtt://alice:secret@broker")
    assert (nobody.exit_code, "no device where" in nobody.stderr) == (4, True)
    wrong = export(fleet, tmp_path / "none", "--where", "region = eu", "--broker", "mqtt://alice:secret@broker")
    assert wrong.exit_code == 1
    assert not (tmp_path / "none").exists()


def test_copies_of_the_orders_stay_with_the_orchestrator(fleet: Path, tmp_path: Path) -> None:
    export(fleet, tmp_path)

    (path,) = (tmp_path / "orders").iterdir()
    assert (fleet / "media" / path.name).read_bytes() == path.read_bytes()
    assert path.stat().st_size < 64 * 1024

"""``import``, ``devices`` and ``device``, answered by a real engine."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.cli import bus as real_bus
from tests.cli.fake_bus import FakeBus
from tests.core.core_bench import Bench, make_fleet


@pytest.fixture
def bench() -> Bench:
    return Bench(fleet=make_fleet(6, region=lambda number: "eu" if number % 2 else "us"), warm_up_seconds=60.0)


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> FakeBus:
    fake = FakeBus()
    fake.answer = lambda verb, body: bench.command(verb, **body)
    monkeypatch.setattr(real_bus, "connect", fake.connect)
    monkeypatch.setattr("orchestrator.cli.looking.now", lambda: bench.now)
    return fake


def tidegate(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--broker", "mqtt://alice:secret@broker"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.csv"
    path.write_text("device,region,single_point_of_failure\nd-0001,north,yes\nnew-1,south,\n")
    return path


@pytest.mark.usefixtures("bus")
def test_a_dry_run_says_what_would_change_and_changes_nothing(bench: Bench, file: Path) -> None:
    result = tidegate("import", str(file), "--dry-run")

    assert result.exit_code == 0, result.output
    assert "would change: 2 new, 0 changed, 0 removed, 0 as they were; nothing was changed" in result.stdout
    assert f"Next: tidegate import {file}" in result.stdout
    assert bench.facts("devices_imported") == []


@pytest.mark.usefixtures("bus")
def test_an_import_declares_and_a_second_one_changes_nothing(bench: Bench, file: Path) -> None:
    first = tidegate("import", str(file), "--reason", "the yearly list")
    second = tidegate("import", str(file))

    assert "✔ imported: 2 new, 0 changed, 0 removed" in first.stdout
    assert "✔ nothing to change: 0 new, 0 changed, 0 removed, 2 as they were" in second.stdout
    (fact,) = bench.facts("devices_imported")
    assert (fact["by"], fact["reason"], sorted(fact["devices"])) == ("alice", "the yearly list", ["d-0001", "new-1"])
    assert bench.state.devices["d-0001"].info.region == "north"
    assert not bench.state.devices["new-1"].is_known


@pytest.mark.usefixtures("bus")
def test_replace_takes_back_what_was_declared_of_the_others(bench: Bench, file: Path) -> None:
    tidegate("import", str(file))
    file.write_text("device,region\nnew-1,south\n")

    result = tidegate("import", str(file), "--replace")

    assert "0 new, 0 changed, 1 removed, 1 as they were" in result.stdout
    assert bench.state.devices["d-0001"].info.region == "eu"


def test_a_large_file_goes_in_parts_and_becomes_one_fact(bus: FakeBus, bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text("device,region\n" + "".join(f"new-{number},eu\n" for number in range(1201)))

    result = tidegate("import", str(path), "--json")

    assert [body["part"] for _, body in bus.commands] == [1, 2, 3, 4, 5, 6, 7]
    assert json.loads(result.stdout)["data"]["added"] == 1201
    assert len(bench.facts("devices_imported")) == 1


def test_parts_fit_into_messages_however_much_is_declared(bus: FakeBus, tmp_path: Path) -> None:
    tags = ";".join(["a tag of some length" * 6] * 64)
    path = tmp_path / "fleet.csv"
    path.write_text("device,tags\n" + "".join(f"new-{number},{tags}\n" for number in range(20)))

    result = tidegate("import", str(path), "--dry-run")

    assert result.exit_code == 0, result.output
    assert max(len(json.dumps(body)) for _, body in bus.commands) < 64 * 1024


def test_a_wrong_row_is_named_and_nothing_is_sent(bus: FakeBus, file: Path) -> None:
    file.write_text("device,region\nd-0001,north\nno id,south\n")

    result = tidegate("import", str(file))

    assert result.exit_code == 1
    assert "line 3: 'no id' is no device id" in result.stderr
    assert bus.commands == []


@pytest.mark.usefixtures("bus")
def test_devices_are_counted_before_anything_is_done_to_them() -> None:
    result = tidegate("devices", "--where", 'region == "eu" and online', "--count")

    assert result.stdout == '3 devices where region == "eu" and online\n'


@pytest.mark.usefixtures("bus")
def test_devices_come_in_pages_in_the_order_of_their_names(bench: Bench) -> None:
    bench.command("quarantine", device="d-0002", reason="\x1b[2Jfell down")
    bench.set_online("d-0003", is_online=False)
    first = tidegate("devices", "--limit", "4")
    second = tidegate("devices", "--after", "d-0004")

    assert "✖ quarantined: \\x1b[2Jfell down" in first.stdout
    assert "○ offline" in first.stdout
    assert "Next: tidegate devices --after d-0004" in first.stdout
    assert "d-0004" not in second.stdout
    assert "d-0006" in second.stdout


@pytest.mark.usefixtures("bus")
def test_a_filter_that_does_not_parse_shows_the_caret() -> None:
    result = tidegate("devices", "--where", 'regoin == "eu"')

    assert result.exit_code == 1
    message, echoed, caret, _ = result.stderr.split("\n", 3)
    assert "there is no field regoin; did you mean region?" in message
    assert (echoed, caret) == ('regoin == "eu"', "^")


@pytest.mark.usefixtures("bus")
def test_a_device_says_what_it_waits_for(bench: Bench) -> None:
    bench.start()
    name = bench.wave(0)[0]

    result = tidegate("device", name)

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{name} was ordered the new version and has not been let go")
    assert "canary of r-001" in result.stdout


@pytest.mark.usefixtures("bus")
def test_an_unknown_device_leaves_with_4() -> None:
    result = tidegate("device", "d-0007")

    assert result.exit_code == 4
    assert "d-0007" in result.stderr

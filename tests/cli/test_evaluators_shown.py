"""``tidegate evaluators``, answered by a real engine, and what ``tidegate doctor`` says of it."""

import asyncio
import json

import pytest
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.cli import bus as real_bus
from orchestrator.doctor.bus import look_at_bus
from orchestrator.doctor.findings import State
from tests.cli.fake_bus import FakeBus
from tests.core.core_bench import Bench
from tests.core.test_evaluators_beside import HIGH, LOW, SharedBench


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> FakeBus:
    fake = FakeBus()
    monkeypatch.setattr(real_bus, "connect", fake.connect)
    return fake


def tidegate(bus: FakeBus, bench: Bench, *options: str) -> Result:
    bus.answer = lambda verb, body: bench.command(verb, **body)
    return CliRunner().invoke(app, ["evaluators", "--broker", "mqtt://alice:secret@broker", *options])


def half_read() -> SharedBench:
    """An evaluator for one half, and nobody for the other."""
    bench = SharedBench(LOW, frozenset(), warm_up_seconds=60.0)
    bench.reads_itself = False
    bench.advance(60.0)
    return bench


def test_it_shows_who_reads_what_and_what_nobody_reads(bus: FakeBus) -> None:
    shown = tidegate(bus, half_read())

    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [["e0", "0-31", "0-31"], ["e1", "none,", "a"]]
    assert "the orchestrator reads no shards itself" in lines
    assert "✖ nobody reads shards 32-63: meanwhile no gate passes and no soak counts" in lines
    assert "Next: tidegate evaluator --shards 32-63" in lines


def test_an_evaluator_for_which_nothing_is_left_is_a_spare(bus: FakeBus) -> None:
    one = frozenset({7})
    shown = tidegate(bus, SharedBench(one, one, warm_up_seconds=60.0))

    assert "none, a spare" in shown.stdout


def test_without_evaluators_the_orchestrator_reads_all(bus: FakeBus) -> None:
    shown = tidegate(bus, Bench(warm_up_seconds=0.0))

    assert shown.stdout.splitlines() == ["no evaluator is alive", "the orchestrator reads shards 0-63 itself"]


def test_json_is_the_whole_answer(bus: FakeBus) -> None:
    data = json.loads(tidegate(bus, SharedBench(LOW, HIGH, warm_up_seconds=60.0), "--json").stdout)["data"]

    assert data["unread"] == "none"
    assert data["evaluators"][0] == {
        "evaluator": "e0", "reads": "0-31", "would_read": "0-31", "heard_seconds": 0.0, "late": False,
    }  # fmt: skip


def test_doctor_warns_of_health_that_nobody_reads(bus: FakeBus) -> None:
    bench = half_read()
    bus.answer = lambda verb, body: bench.command(verb, **body)

    found = asyncio.run(look_at_bus(BrokerUrl("127.0.0.1", 1, username="alice"), 3.0, lambda: bench.now))

    (health,) = [each for each in found if each.check == "health"]
    assert health.state is State.WARNING
    assert health.text.startswith("nobody reads the health of shards 32-63: meanwhile no gate passes")
    assert health.remedy.startswith("tidegate evaluators")

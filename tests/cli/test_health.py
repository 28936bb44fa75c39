"""``health tail`` and ``health top``: what devices and a real engine published, and what a real engine answers."""

import asyncio
import json

import aiomqtt
import pytest
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.cli import bus as real_bus
from orchestrator.cli.health_devices import Worst, render_worst
from orchestrator.cli.health_groups import Groups
from orchestrator.cli.listening import follow_groups, keep_asking
from schemas.codec import encode, encode_msgpack
from schemas.documents import GroupSummary, Reply
from schemas.messages import HealthSample
from schemas.topics import Address, Kind
from tests.cli.fake_bus import TREE, FakeBus, ok, refused
from tests.cli.scenes import on_screen
from tests.core.core_bench import Bench, make_fleet
from tests.telemetry.telemetry_streams import sample

URL = BrokerUrl.parse("mqtt://alice:secret@broker")


@pytest.fixture
def bench() -> Bench:
    return Bench(make_fleet(6), warm_up_seconds=120.0, summary_seconds=10.0)


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> FakeBus:
    fake = FakeBus(retained=dict(bench.retained()))
    fake.answer = lambda verb, body: bench.command(verb, **body)
    monkeypatch.setattr(real_bus, "connect", fake.connect)
    monkeypatch.setattr("orchestrator.cli.listening.QUIET_SECONDS", 0.05)
    monkeypatch.setattr("orchestrator.cli.listening.ASK_SECONDS", 0.01)
    monkeypatch.setattr("orchestrator.cli.listening._RETRY_SECONDS", 0.01)
    monkeypatch.setattr("orchestrator.cli.tailing._ASKING_SECONDS", 0.05)
    return fake


def tidegate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["health", *arguments, "--broker", "mqtt://alice:secret@broker"])


def sends(bus: FakeBus, device: str, *samples: HealthSample | bytes) -> None:
    """Let a device send once somebody listens; the connection before that is the question who it is."""
    topic = TREE.build(Kind.HEALTH, device=device)
    bus.after = [[], [(topic, each if isinstance(each, bytes) else encode(each)) for each in samples]]


def summary(group: str, **fields: object) -> GroupSummary:
    well = {"devices": 10, "fresh": 10, "healthy": 10, "requests": 1000, "error_rate": 0.0, "latency_p95_seconds": 0.04}
    return GroupSummary.model_validate({"group": group, **well, **fields})


# Tail, a device.


def test_each_sample_of_a_device_is_a_line_with_what_is_odd_about_it(bus: FakeBus) -> None:
    sends(bus, "d-0001", sample(1), b"no sample", sample(3, healthy=False, endpoint_up=False))

    result = tidegate("tail", "d-0001", "--count", "3")

    assert result.exit_code == 0, result.output
    first, second, third = result.stdout.splitlines()
    assert "2  ● healthy" in first
    assert "✖ no sample, it counts as a bad one: payload: JSON is malformed" in second
    assert "✖ endpoint down" in third
    assert "requests/s  0.0 errors/s (0.00%)" in third
    assert third.endswith("⚠ 1 missing")
    assert result.stderr == "d-0001: group vision, runs 1.0.0, a sample every 30 s\n"


def test_as_json_each_message_is_one_object_whatever_it_was_packed_in(bus: FakeBus) -> None:
    sends(bus, "d-0001", sample(1), encode_msgpack(sample(2)), b"{}")

    lines = [json.loads(line) for line in tidegate("tail", "d-0001", "--json", "--count", "3").stdout.splitlines()]

    assert [line["seq"] for line in lines] == [1, 2, None]
    assert [line["device"] for line in lines] == ["d-0001"] * 3
    assert "seq" in lines[2]["error"]


def test_a_device_that_sends_nothing_leaves_with_6_and_says_when_it_was_heard(bus: FakeBus, bench: Bench) -> None:
    bench.now += 125.0

    result = tidegate("tail", "d-0001", "--timeout", "0.1")

    assert result.exit_code == 6
    assert "nothing came from d-0001 for 0.1 s; the orchestrator last heard it 02:05 ago" in result.stderr
    assert "and knows it to send every 30 s" in result.stderr
    assert "Next: tidegate device d-0001" in result.stderr


def test_a_device_that_is_not_known_leaves_with_4_at_once(bus: FakeBus) -> None:
    result = tidegate("tail", "d-001")

    assert result.exit_code == 4
    assert "no device 'd-001'" in result.stderr
    assert "Next: tidegate health tail d-0001" in result.stderr
    assert bus.connections == 1
    assert "Next: tidegate devices" in tidegate("tail", "no id").stderr


def test_without_an_orchestrator_a_device_is_listened_to_all_the_same(bus: FakeBus) -> None:
    bus.answer = lambda _verb, _body: None
    sends(bus, "d-0001", sample(1))

    result = tidegate("tail", "d-0001", "--timeout", "0.1")

    assert "● healthy" in result.stdout
    assert "no orchestrator answers; listening to d-0001 all the same" in result.stderr
    assert result.exit_code == 6
    assert "nothing came from d-0001 for 0.1 s, and no orchestrator answers" in result.stderr


def test_a_broker_that_is_not_there_leaves_with_5(bus: FakeBus) -> None:
    bus.refuses = aiomqtt.MqttError("refused")

    assert tidegate("tail", "d-0001").exit_code == 5
    assert tidegate("top").exit_code == 5


@pytest.mark.usefixtures("bus")
def test_tail_is_of_a_device_or_of_a_group() -> None:
    for result in (tidegate("tail"), tidegate("tail", "d-0001", "--group", "vision")):
        assert result.exit_code == 1
        assert "Next: tidegate devices" in result.stderr


# Tail, a group.


def test_a_groups_summaries_are_lines_the_last_one_first(bus: FakeBus) -> None:
    topic = TREE.build(Kind.GROUP_SUMMARY, group="vision")
    bus.after = [[], [(topic, encode(summary("vision", healthy=9, error_rate=0.25)))]]

    result = tidegate("tail", "--group", "vision", "--count", "2")

    retained, published = result.stdout.splitlines()
    assert "vision  6/6 fresh  6/6 healthy" in retained
    assert "vision  10/10 fresh  9/10 healthy  1,000 requests  25.00% errors  p50 -  p95 40 ms" in published


@pytest.mark.usefixtures("bus")
def test_a_groups_summaries_as_json() -> None:
    (line,) = tidegate("tail", "--group", "vision", "--count", "1", "--json").stdout.splitlines()

    assert {"at", "group", "devices", "fresh", "healthy", "latency_p99_seconds"} <= set(json.loads(line))


@pytest.mark.usefixtures("bus")
def test_an_unknown_group_leaves_with_4_and_says_how_to_see_the_groups() -> None:
    tailed, topped = tidegate("tail", "--group", "visio"), tidegate("top", "--group", "visio")

    assert (tailed.exit_code, topped.exit_code) == (4, 4)
    assert "Next: tidegate health tail --group vision" in tailed.stderr
    assert "tidegate health top" in tailed.stderr
    assert "there is no device in group visio" in topped.stderr
    assert "Next: tidegate health top" in topped.stderr
    assert tidegate("top", "--group", 'x" or online').exit_code == 4


@pytest.mark.usefixtures("bus")
def test_a_group_that_is_summarized_no_more_leaves_with_6() -> None:
    result = tidegate("tail", "--group", "vision", "--timeout", "0.1")

    assert len(result.stdout.splitlines()) == 1
    assert result.exit_code == 6
    assert "no summary of vision came for 0.1 s; is the orchestrator running?" in result.stderr


# Top, groups.


def test_the_worst_group_stands_first(bus: FakeBus) -> None:
    ill, away = summary("ill", healthy=8), summary("away", fresh=3, healthy=3)
    for each in (summary("well"), summary("errors", error_rate=0.1), ill, away):
        bus.keep(Kind.GROUP_SUMMARY, each, group=each.group)
    bus.keep(Kind.GROUP_SUMMARY, b"\x00 of another version", group="strange")

    result = tidegate("top")

    rows = [line.split()[0] for line in result.stdout.splitlines()[1:6]]
    assert rows == ["ill", "errors", "away", "well", "vision"]
    assert "Next: tidegate health top --group ill" in result.stdout


def test_groups_as_one_json_object(bus: FakeBus) -> None:
    bus.keep(Kind.ORCHESTRATOR_AVAILABILITY, b"online")

    told = json.loads(tidegate("top", "--json").stdout)

    assert told["orchestrator"] == "online"
    assert [each["group"] for each in told["groups"]] == ["vision"]


def test_numbers_of_an_orchestrator_that_is_offline_are_said_to_be_its_last(bus: FakeBus) -> None:
    bus.keep(Kind.ORCHESTRATOR_AVAILABILITY, b"offline")

    assert tidegate("top").stdout.startswith("⚠ the orchestrator is offline: these are its last words, however old")


def test_without_any_summary_the_next_command_is_named(bus: FakeBus) -> None:
    bus.retained.clear()

    result = tidegate("top")

    assert result.exit_code == 4
    assert "Next: tidegate devices" in result.stderr


async def test_groups_are_followed_through_a_lost_connection(bus: FakeBus) -> None:
    topic = TREE.build(Kind.GROUP_SUMMARY, group="vision")
    bus.after = [[aiomqtt.MqttError("gone")], [(topic, encode(summary("vision", healthy=1)))]]
    heard = asyncio.Event()

    class Waited(Groups):
        def hear(self, address: Address, payload: bytes) -> None:
            super().hear(address, payload)
            if self.summaries["vision"].healthy == 1:
                heard.set()

    groups = Waited()
    async with asyncio.timeout(10):
        following = asyncio.create_task(follow_groups(URL, groups))
        await heard.wait()
        following.cancel()

    assert bus.connections == 2
    assert groups.trouble == ""


# Top, devices.


@pytest.mark.usefixtures("bus")
def test_a_device_with_three_bad_samples_shows_up_first_and_by_name(bench: Bench) -> None:
    for _ in range(3):
        bench.hear(TREE.build(Kind.HEALTH, device="d-0004"), b"no sample")

    shown = tidegate("top", "--group", "vision", "--limit", "2").stdout

    head, _, _, first, second, _, *commands = shown.splitlines()
    assert head == "6 devices in group vision: 0 not healthy, 1 with three bad samples or more, 0 silent"
    assert first.split()[0] == "d-0004"
    assert first.rstrip().endswith("3 bad samples in 30 min")
    assert second.rstrip().endswith("-")
    assert commands[0] == "Next: tidegate health tail d-0004"
    assert commands[1].strip() == "tidegate device d-0004"


@pytest.mark.usefixtures("bus")
def test_the_worst_devices_of_a_rollout_are_those_it_has_ordered(bench: Bench) -> None:
    bench.start()

    data = json.loads(tidegate("top", "--rollout", "r-001", "--json").stdout)["data"]

    assert [row["device"] for row in data["devices"]] == list(bench.wave(0))


@pytest.mark.usefixtures("bus")
def test_a_rollout_that_is_not_there_leaves_with_4_and_names_the_nearest(bench: Bench) -> None:
    bench.start()

    result = tidegate("top", "--rollout", "r-01")

    assert result.exit_code == 4
    assert "Next: tidegate health top --rollout r-001" in result.stderr


def test_a_filter_narrows_the_group_and_one_that_does_not_parse_shows_the_caret(bus: FakeBus) -> None:
    narrowed = tidegate("top", "--group", "vision", "--where", 'device == "d-0002" or offline', "--json")
    wrong = tidegate("top", "--where", 'grup == "vision"')

    assert bus.commands[0][1]["where"] == '(device == "d-0002" or offline) and group == "vision"'
    assert narrowed.exit_code == 1
    assert "did you mean group?" in wrong.stderr
    assert "Next: tidegate health top --help" in wrong.stderr


def test_the_table_is_narrow_where_the_terminal_is(bench: Bench) -> None:
    worst = Worst(bench.command("list", what="health").data or {}, "")

    narrow = on_screen(render_worst(worst, 79), 79)

    assert "WHY" in narrow
    assert "REQUESTS" not in narrow
    assert "REQUESTS" in on_screen(render_worst(worst, 120), 120)


async def test_what_goes_wrong_while_the_worst_are_asked_for_again_stands_beside_the_last_answer(bus: FakeBus) -> None:
    replies = iter([refused("busy", "too many plans at once"), ok(devices=[], count=6)])
    worst = Worst({"devices": [], "count": 5}, " in group vision")
    shown: list[str] = []
    answered = asyncio.Event()

    def answer(_verb: str, _body: object) -> Reply | None:
        shown.append(on_screen(render_worst(worst, 120)).splitlines()[0])
        reply = next(replies, None)
        if reply is None:
            answered.set()
        return reply

    bus.answer = answer
    async with asyncio.timeout(10):
        asking = asyncio.create_task(keep_asking(URL, {"what": "health"}, worst, timeout_seconds=5.0))
        await answered.wait()
        asking.cancel()

    assert shown[1] == "⚠ busy: too many plans at once"
    assert shown[2].startswith("6 devices in group vision")

"""``watch``, ``get`` and ``explain`` at the moments when a person looks, with what a real engine published."""

import json
from collections.abc import Callable

import aiomqtt
import pytest
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.cli import bus as real_bus
from orchestrator.cli.documents import Change
from orchestrator.cli.render import render_watch
from tests.cli import scenes
from tests.cli.fake_bus import FakeBus
from tests.cli.scenes import NOW, on_screen, recorded, seen
from tests.core.core_bench import Bench

MOMENTS = (scenes.soaking, scenes.awaiting_approval, scenes.halted, scenes.rolled_back)


def screen(bench: Bench, width: int = 120) -> str:
    return on_screen(render_watch(seen(bench), bench.now, width), width)


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> FakeBus:
    fake = FakeBus()
    monkeypatch.setattr(real_bus, "connect", fake.connect)
    monkeypatch.setattr("orchestrator.cli.watch.QUIET_SECONDS", 0.05)
    monkeypatch.setattr("orchestrator.cli.watch._RETRY_SECONDS", (0.01,))
    return fake


def publish(bus: FakeBus, bench: Bench) -> None:
    """Keep on the bus what the engine keeps there, and answer as it does."""
    bus.retained.update(bench.retained())
    bus.answer = lambda verb, body: bench.command(verb, **body)


def tidegate(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--broker", "mqtt://alice:secret@broker"])


# The picture.


def test_the_example_of_the_manual_shows_all_that_a_person_needs() -> None:
    lines = on_screen(render_watch(recorded(), NOW, 110), 110).splitlines()

    assert lines[0] == "r-042  vision-app 2 versions → 2.4.0   ⏸ AWAITING APPROVAL after canary"
    text = "\n".join(line.rstrip() for line in lines)
    assert "⏸ canary    3 (3%)   3/3        3       0        0      00:00  ✔ pass (4/4 checks)" in text
    assert "error_rate             0.42%     0.31%        2.31% (baseline + 2pp)     94%    5 412  ✔ pass" in text
    assert "tidegate approve r-042   go on with the next wave; the gate is judged again first" in text
    assert "or: mosquitto_pub -V 5 -q 1 -t fleet/v1/ops/$USER/cmd/approve -m r-042" in text


@pytest.mark.parametrize(
    ("moment", "says"),
    [
        (scenes.soaking, ["1.0.0 → 2.0.0", "◔ SOAKING at canary", "canary phase started  short-term", "offline 2"]),
        (scenes.awaiting_approval, ["⏸ AWAITING APPROVAL after canary", "It waits for you:", "waiting for approval"]),
        (scenes.halted, ["■ HALTED at wave-1", "2 of 4 finished in wave-1 failed", "tidegate resume r-001"]),
        (scenes.rolled_back, ["↩ ROLLED BACK", "✖ error_rate: 20.00% of 600 requests", "-900%"]),
    ],
)
def test_each_moment_says_where_it_is_and_why(moment: Callable[[], Bench], says: list[str]) -> None:
    shown = screen(moment())

    assert [each for each in says if each not in shown] == []


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("width", [50, 79, 80, 99, 100, 200])
def test_waves_and_verdicts_are_whole_at_any_width(moment: Callable[[], Bench], width: int) -> None:
    shown = screen(moment(), width)

    assert "canary" in shown
    assert "crash_count" in shown or "error_rate" in shown
    assert "WAVE" in shown
    assert "VERDICT" in shown
    table = shown[shown.index("WAVE") : shown.index("\n\n", shown.index("WAVE"))]
    assert "…" not in table or width < 60


def test_what_came_over_the_bus_cannot_steer_the_terminal() -> None:
    bench = scenes.make_bench()
    bench.start(reason="\x1b[2J\x07[red]now[/red]")

    shown = screen(bench)

    assert "\x1b" not in shown
    assert "\\x1b[2J\\x07[red]now[/red]" in shown


# Line by line.


def test_a_rollout_that_has_ended_is_told_and_its_outcome_is_the_exit_code(bus: FakeBus) -> None:
    publish(bus, scenes.rolled_back())

    result = tidegate("watch", "r-001", "--plain")

    assert result.exit_code == 1
    assert "r-001 phase: rolled back" in result.stdout


def test_json_is_one_object_a_line_and_each_reads_as_a_change(bus: FakeBus) -> None:
    publish(bus, scenes.rolled_back())

    result = tidegate("watch", "r-001", "--json")

    changes = [Change.model_validate_json(line) for line in result.stdout.splitlines()]
    assert {change.rollout for change in changes} == {"r-001"}
    assert {"plan", "phase"} <= {change.kind for change in changes}


def test_watching_ends_with_3_when_a_person_is_waited_for(bus: FakeBus) -> None:
    publish(bus, scenes.awaiting_approval())

    assert tidegate("watch", "--plain", "--exit-when-waiting").exit_code == 3


def test_watching_ends_with_6_when_the_time_is_over(bus: FakeBus) -> None:
    publish(bus, scenes.soaking())

    result = tidegate("watch", "r-001", "--plain", "--timeout", "0.3")

    assert result.exit_code == 6
    assert "watched 0.3 s and r-001 has not ended" in result.stderr


def test_a_lost_connection_is_said_and_tried_again(bus: FakeBus) -> None:
    publish(bus, scenes.soaking())
    bus.after = [[], [aiomqtt.MqttError("gone")], [aiomqtt.MqttError("gone again")]]

    result = tidegate("watch", "r-001", "--plain", "--timeout", "1")

    assert result.exit_code == 6
    assert bus.connections >= 4
    assert "connection lost, trying again" in result.stdout


def test_a_rollout_that_is_not_there_leaves_with_4_and_names_the_nearest(bus: FakeBus) -> None:
    publish(bus, scenes.soaking())

    result = tidegate("watch", "r-01")

    assert result.exit_code == 4
    assert "no rollout 'r-01'" in result.stderr
    assert "tidegate watch r-001" in result.stderr


def test_with_no_rollout_at_all_the_first_command_is_named(bus: FakeBus) -> None:
    assert bus.retained == {}

    result = tidegate("watch")

    assert result.exit_code == 4
    assert "there is no rollout yet" in result.stderr
    assert "tidegate plan POLICY --release RELEASE" in result.stderr


# Why it is where it is.


@pytest.mark.parametrize("moment", MOMENTS)
def test_explain_tells_what_led_here_with_its_evidence_and_what_may_be_typed(
    bus: FakeBus, moment: Callable[[], Bench]
) -> None:
    bench = moment()
    publish(bus, bench)

    shown = tidegate("explain", "r-001").stdout

    assert shown.startswith("r-001: ")
    assert "What led here" in shown
    assert "alice started it: app-2.0.0 to 30 devices in 3 waves" in shown
    assert "CHECK" in shown
    assert ("You can type" in shown) is (bench.phase() != "rolled_back")


def test_explain_as_json_is_the_whole_answer(bus: FakeBus) -> None:
    publish(bus, scenes.halted())

    data = json.loads(tidegate("explain", "r-001", "--json").stdout)["data"]

    assert {"summary", "why", "next", "facts"} <= set(data)


def test_explain_a_device_of_a_rollout(bus: FakeBus) -> None:
    bench = scenes.halted()
    publish(bus, bench)
    failed = bench.rollout.having("failed")[0]  # type: ignore[arg-type]  # the value of the enum

    shown = tidegate("explain", "r-001", failed).stdout

    assert shown.startswith(f"{failed} failed (wave-1 of r-001)")
    assert "smoke_test_failed" in shown


def test_get_says_where_it_is_and_what_may_follow(bus: FakeBus) -> None:
    publish(bus, scenes.awaiting_approval())

    shown = tidegate("get", "r-001").stdout

    assert "⏸ awaiting approval at canary" in shown
    assert "devices: 3/30 deployed" in shown
    assert "Next: tidegate approve r-001" in shown

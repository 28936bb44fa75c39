"""What is advised after a refusal does what was typed, with one name mended; the refusals are the orchestrator's."""

import json
import shlex
from typing import Any

import pytest

from orchestrator.cli import bus as real_bus
from schemas.documents import Reply
from tests.cli.fake_bus import FakeBus, always, refused
from tests.cli.test_ops import POLICY, tidegate
from tests.core.core_bench import Bench, make_info


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> FakeBus:
    fake = FakeBus()
    monkeypatch.setattr(real_bus, "connect", fake.connect)
    monkeypatch.delenv("TIDEGATE_BROKER", raising=False)
    return fake


@pytest.fixture
def asked(bus: FakeBus) -> FakeBus:
    """A bus with an orchestrator that has a fleet and a rollout r-001."""
    bench = Bench(fleet={f"cam-{number:04d}": make_info() for number in (1, 2)})
    bench.start()

    def answer(verb: str, body: dict[str, Any]) -> Reply:
        return bench.command(verb, **json.loads(json.dumps(body)))

    bus.answer = answer
    return bus


def advised(*arguments: str) -> list[str]:
    """Type a command that is refused and return what is to be typed next."""
    lines = tidegate(*arguments).stderr.splitlines()
    assert lines[0].startswith("error: "), lines
    return [line.removeprefix("Next:").strip() for line in lines[1:]]


NIGHT = ("--rollout", "r-night", "--activate", "manual", "--supersede", "--time-scale", "60")
MORE = (*NIGHT, "--plan", "ab" * 32, "--ignore-lint", "--reason", "it's late")


@pytest.mark.parametrize(
    ("typed", "wrong", "right"),
    [
        ("retry r-00 cam-0001", "r-00", "r-001"),
        ("retry r-001 cam-001 --reason 'new disk'", "cam-001", "cam-0001"),
        ("skip r-00 cam-0001", "r-00", "r-001"),
        ("skip r-001 cam-001", "cam-001", "cam-0001"),
        ("skip r-001 cam-0002 cam-001", "cam-001", "cam-0001"),
        ("approve r-00 --wave canary --reason ok", "r-00", "r-001"),
        ("approve r-001 --wave cannary", "cannary", "canary"),
        ("get r-00", "r-00", "r-001"),
        ("explain r-00", "r-00", "r-001"),
        ("explain r-00 cam-0001", "r-00", "r-001"),
        ("explain r-001 cam-001", "cam-001", "cam-0001"),
        ("device cam-001", "cam-001", "cam-0001"),
        ("quarantine cam-001 --reason smoke", "cam-001", "cam-0001"),
        ("release-device cam-001", "cam-001", "cam-0001"),
        ("health top --rollout r-00", "r-00", "r-001"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_what_was_typed_is_advised_again_with_the_nearest_name(typed: str, wrong: str, right: str) -> None:
    expected = [right if word == wrong else word for word in shlex.split(typed)]

    assert shlex.split(advised(*shlex.split(typed))[0]) == ["tidegate", *expected]


@pytest.mark.parametrize("verb", ["plan", "start"])
@pytest.mark.usefixtures("asked")
def test_a_start_of_a_release_that_is_not_there_keeps_all_that_was_typed(verb: str) -> None:
    options = NIGHT if verb == "plan" else MORE

    words = shlex.split(advised(verb, str(POLICY), "--release", "app-2.0.1", *options)[0])

    assert words[:5] == ["tidegate", verb, str(POLICY), "--release", "app-2.0.0"]
    assert sorted(words[5:]) == sorted(options)


def test_a_start_in_spite_of_lint_is_the_one_that_was_typed(bus: FakeBus) -> None:
    bus.answer = always(refused("lint_failed", "L003 can never pass"))
    options = [word for word in MORE if word != "--ignore-lint"]

    mended, anyway = advised("start", str(POLICY), "--release", "app-2.0.0", *options)

    plan = shlex.split(mended.removeprefix(f"mend {POLICY}, then: "))
    start = shlex.split(anyway.removeprefix("or: "))
    assert plan[:5] == ["tidegate", "plan", str(POLICY), "--release", "app-2.0.0"]
    assert sorted(plan[5:]) == sorted(NIGHT)
    assert start[:5] == ["tidegate", "start", str(POLICY), "--release", "app-2.0.0"]
    assert sorted(start[5:]) == sorted(MORE)


@pytest.mark.parametrize(
    ("message", "keeps_its_name"),
    [("rollout 'r-night' exists with another release or policy", False), ("the fleet has changed; plan again", True)],
)
def test_a_plan_after_a_conflict_has_the_name_that_was_typed_unless_it_is_taken(
    bus: FakeBus, message: str, *, keeps_its_name: bool
) -> None:
    bus.answer = always(refused("conflict", message))

    words = shlex.split(advised("start", str(POLICY), "--release", "app-2.0.0", *MORE)[0])

    assert words[:5] == ["tidegate", "plan", str(POLICY), "--release", "app-2.0.0"]
    assert sorted(words[5:]) == sorted(NIGHT if keeps_its_name else NIGHT[2:])


def test_another_person_approves_the_same_wave_for_reasons_of_their_own(bus: FakeBus) -> None:
    bus.answer = always(refused("four_eyes", "no"))

    first, _ = advised("approve", "r-001", "--wave", "canary", "--reason", "mine")

    assert first == "another person types: tidegate approve r-001 --wave canary"


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("device cam-001", "device"),
        ("explain r-001", "explain"),
        ("explain r-001 cam-001", "explain"),
        ("release-device cam-001", "release-device"),
        ("devices", "devices"),
        ("health top --rollout r-001", "health top"),
    ],
)
def test_help_is_that_of_the_command_that_was_typed(bus: FakeBus, typed: str, command: str) -> None:
    bus.answer = always(refused("unknown_command", "no"))

    assert advised(*typed.split()) == [f"tidegate {command} --help"]


def test_where_it_is_not_known_which_name_was_meant_nothing_is_advised_that_acts(bus: FakeBus) -> None:
    bus.answer = always(refused("not_found", "said otherwise", did_you_mean=["cam-0001"]))

    assert advised("skip", "r-001", "cam-001") == ["tidegate list"]


@pytest.mark.parametrize(
    ("typed", "command"),
    [("device x", "tidegate devices"), ("skip r-001 x", "tidegate devices"), ("get x", "tidegate list")],
)
@pytest.mark.usefixtures("asked")
def test_where_nothing_is_near_there_is_a_list_to_look_at(typed: str, command: str) -> None:
    assert advised(*typed.split()) == [command]

"""The campaign of ``make storm``: a small part of it, in quicker time."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.core import events as e
from tests.storm.figures import Figure, Outcome
from tests.storm.judging import twice, unsound
from tests.storm.light_device import Deeds, Pace
from tests.storm.scenarios import lose_the_broker, lose_the_orchestrator
from tests.storm.scene import Shape

SMALL = Shape(
    200, processes=1, time_scale=5.0, pace=Pace(health=0.5, install=(0.1, 0.5), trial=(0.1, 0.5)), say=lambda _: None
)
TIMED = {"converged", "command answered, p99"}
"""What a busy machine may miss."""


@pytest.mark.mosquitto
@pytest.mark.parametrize("scenario", [lose_the_broker, lose_the_orchestrator])
async def test_everybody_gets_the_new_version_once_though_broker_or_orchestrator_is_killed_in_the_middle(
    tmp_path: Path, scenario: Callable[[Shape, Path], Awaitable[Outcome]]
) -> None:
    outcome = await scenario(SMALL, tmp_path)
    assert outcome.wrong == []
    assert [str(each) for each in outcome.figures if not each.holds and each.name not in TIMED] == []


def done(nonces: tuple[str, str] = ("a", "b")) -> Deeds:
    used = Counter({(1, "activate"): 1, (1, "commit"): 1})
    return Deeds([1], [(1, "2.0.0")], [1], used, list(nonces), {nonce: {1} for nonce in nonces})


def journal(*nonces: str, device: str = "d-1") -> list[e.AnyEvent]:
    order = e.DevicesOrdered(rollout="r", action="install", generation=1, epoch=1, devices={device: "1.0.0"})
    grants = [
        e.GrantIssued(
            rollout="r", device=device, generation=1, step="activate", nonce=nonce, seq=1, in_flight=0, unavailable=0
        )
        for nonce in nonces
    ]
    commit = e.DeviceCommitted(rollout="r", device=device, generation=1, version="2.0.0")
    return [order, *grants, commit, e.RolloutEnded(rollout="r", outcome="completed", by="o", reason="")]


def test_an_undisturbed_rollout_is_sound() -> None:
    assert unsound({"d-1": ("2.0.0", done())}, journal("a", "b"), "2.0.0") == []
    assert twice({"d-1": ("2.0.0", done())}) == 0


@pytest.mark.parametrize(
    ("deeds", "facts", "says"),
    [
        (replace(done(), installs=[1, 2]), journal("a", "b"), "began 2 installs"),
        (replace(done(), activations=[(1, "2.0.0")] * 2), journal("a", "b"), "switched"),
        (replace(done(), commits=[]), journal("a", "b"), "committed []"),
        (replace(done(), used=Counter({(1, "activate"): 2})), journal("a", "b"), "used 2 grants to activate"),
        (replace(done(), goes={"a": {1, 2}}), journal("a", "b"), "heard goes {1, 2}"),
        (done(), journal("a"), "not in the journal"),
        (done(), journal("a", "b", "b"), "granted 2 times"),
        (done(), journal("a", "b")[1:], "0 orders"),
        (done(), journal("a", "b")[:-1], "ended as []"),
    ],
)
def test_the_judge_sees_what_happened_twice_or_never(deeds: Deeds, facts: list[e.AnyEvent], says: str) -> None:
    assert any(says in wrong for wrong in unsound({"d-1": ("2.0.0", deeds)}, facts, "2.0.0"))


def test_a_figure_that_never_came_misses_its_bar_and_is_no_number_for_machines() -> None:
    never = Figure("converged", float("inf"), "s", 60)
    assert not never.holds
    assert never.facts()["figure"] is None
    assert Figure("devices", 4, "", 3, is_floor=True).holds

"""Planted bugs: each must be caught by its invariant within a few seeds, or the simulation proves nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from schemas.topics import Kind, TopicTree
from simulator import Behavior, Faults, World, failing, make_scenario, simulate
from simulator.application import GOOD
from simulator.materials import NEXT_RELEASE, OLD_VERSION
from simulator.scenario import POLICY, ROLLOUT
from tests.simulation import planted
from tests.simulation.planted import Plant
from tests.simulation.story import wave, when

SEEDS = range(60)
TREE = TopicTree()
_RETAKEN = "INV-26"
"""Taking every decision again from the journal catches some of these bugs as well, where their own invariant cannot."""


@pytest.mark.parametrize(
    ("plant", "invariant", "faults"),
    [
        (planted.ignore_capacity, "INV-8", None),
        (planted.accept_every_grant, "INV-14", Faults(duplicate=0.1, delay_seconds=20.0, power_cut=0.005)),
        (planted.pass_without_evidence, "INV-11 gate", None),
        (planted.overlook_latency, "INV-11 nothing ill", None),
        (planted.count_crashes_thrice, "INV-11 no crash", None),
        (planted.forget_what_was_due, "INV-27 view", None),
        (planted.always_offer_a_rollback, "INV-27 view: orchestrator: rollback of", None),
        (planted.advise_what_is_over, "INV-27 view: orchestrator: tidegate retry", None),
        (planted.refuse_for_who_has_yet_to_come, "INV-27 view: orchestrator: rollback of", None),
        (planted.order_every_wave, "INV-10", None),
        (planted.switch_before_persisting, "INV-1 ", Faults(power_cut=0.05)),
        (planted.lose_audit_rows, "INV-15", None),
        (planted.skip_approval, "INV-7", None),
        (planted.let_the_staged_go, "INV-10 staging", Faults()),
        (planted.skip_the_short_term, "INV-11 canary phases", None),
        (planted.extend_for_ever, "INV-11 extensions", None),
        (planted.complete_after_the_canary, "INV-10 completion", None),
        (planted.grant_after_a_stop, "INV-12", None),
        (planted.end_a_rollback_unseen, "INV-6 rollbacks", None),
        (planted.try_for_ever, "INV-6 tries", Faults(step_failure=0.6)),
        (planted.give_up_at_once, "INV-6 tries are used", Faults(step_failure=0.6)),
        (planted.try_at_once, "INV-6 tries wait", Faults(step_failure=0.6)),
        (planted.lose_patience, "INV-19 nobody is late", None),
        (planted.hear_old_failures, "INV-19 failures", Faults(step_failure=0.6, cuts_per_hour=6.0)),
        (planted.suspect_everybody, "INV-18 quarantine has", None),
        (planted.commit_without_health, "INV-4", None),
        (planted.count_downtime_as_soak, "INV-11 soak", Faults(orchestrator_kills_per_hour=6.0)),
        (planted.decide_beside_the_journal, "INV-17", None),
        (planted.install_what_was_not_verified, "INV-2 no unverified", None),
        (planted.write_what_serves, "INV-24 only standby", None),
        (planted.take_everything_in, "INV-20 rate", Faults(floods_per_hour=3.0)),
        (planted.know_everybody, "INV-20 memory", Faults(lies_per_hour=60.0)),
        (planted.answer_later, "INV-20 control", Faults(floods_per_hour=3.0)),
        (planted.go_on_with_what_is_revoked, "INV-23 nothing revoked", Faults(revokes_per_hour=3.0)),
    ],
)
def test_planted_bug_is_caught(
    plant: Plant, invariant: str, faults: Faults | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for seed in SEEDS:
        violations = simulate(seed, device_count=10, faults=faults).violations
        if any(invariant in violation for violation in violations):
            return
        others = [each for each in violations if _RETAKEN not in each]
        assert not others, f"seed={seed}: expected {invariant}, got {others[0]}"
    pytest.fail(f"no seed of {SEEDS} has caught it")


def half_falls_silent() -> World:
    world = World(make_scenario(devices=20))
    for number in range(10):
        world.at(900.0, partial(world.devices[f"d-{number:04d}"].sleep, 3600.0))
    return world


def device_is_quarantined() -> World:
    world = World(make_scenario(devices=10))
    world.at(60.0, partial(world.person.command, "quarantine", device="d-0009", reason="smells of smoke"))
    return world


def one_falls_ill() -> World:
    world = World(make_scenario(devices=10))

    def behave(behavior: Behavior) -> None:
        world.devices[wave(world, 3)[0]].plant.spoil(OLD_VERSION, behavior)

    def fall_ill() -> None:
        behave(Behavior(sick_after_seconds=0.0))
        world.at(world.seconds + 3600.0, partial(behave, GOOD))

    when(world, lambda: world.phase() == "awaiting_approval", fall_ill)
    return world


def nobody_answers() -> World:
    world = World(make_scenario(devices=10))

    def has_begun() -> bool:
        return any(device.disk.record.trial is not None for device in world.devices.values())

    when(world, has_begun, partial(world.orchestrator.kill, 3600.0))
    return world


def another_takes_over() -> World:
    world = World(replace(make_scenario(devices=3), at_rest_within_seconds=5400.0))
    world.at(100.0, partial(world.orchestrator.hang, 300.0))
    return world


def fallback_rots() -> World:
    world = World(make_scenario(devices=3, release=failing(0.6, after_seconds=600.0)))

    def is_soaking() -> bool:
        return any(device.disk.record.trial is not None for device in world.devices.values())

    def rot() -> None:
        for device in world.devices.values():
            device.disk.slots["blue"].rotten_since = world.clock.now if device.disk.active == "green" else None

    when(world, is_soaking, lambda: world.at(world.seconds + 60.0, rot))
    return world


def nothing_starts() -> World:
    return World(make_scenario(devices=3, release=Behavior(starts=False)))


def newer_one_is_started() -> World:
    world = World(make_scenario(devices=6))
    fields = {"release": NEXT_RELEASE, "policy": POLICY, "rollout": "r-002", "supersede": True}
    world.at(1500.0, lambda: world.person.command("start", **fields))
    return world


def resume_comes_once_more() -> World:
    world = World(make_scenario(devices=6))
    person = world.person
    topic = TREE.build(Kind.COMMAND, actor=person.name, verb="resume")

    def deliver_again() -> None:
        replies = [reply for verb, reply in person.replies if verb == "resume"]
        payload = json.dumps({"rollout": ROLLOUT, "transaction": replies[0].transaction}).encode()
        person.client.publish(topic, payload, qos=1, retain=False)

    for seconds, verb in ((300.0, "pause"), (330.0, "resume"), (360.0, "pause"), (420.0, "resume")):
        world.at(seconds, partial(person.command, verb, rollout=ROLLOUT))
    world.at(390.0, deliver_again)
    return world


@pytest.mark.parametrize(
    ("plant", "invariant", "story"),
    [
        (planted.decide_in_the_silence, "INV-11 silence", half_falls_silent),
        (planted.forget_quarantine, "INV-18 quarantine", device_is_quarantined),
        (planted.take_everybody_for_healthy, "INV-9 floor", one_falls_ill),
        (planted.stay_on_trial, "INV-5", nobody_answers),
        (planted.go_on_after_another_took_over, "INV-13", another_takes_over),
        (planted.switch_without_reading, "INV-2 damage", fallback_rots),
        (planted.install_for_ever, "INV-24 disk", nothing_starts),
        (planted.forget_what_was_done, "INV-16 decided once", resume_comes_once_more),
        (planted.move_the_baseline, "INV-22 baselines stay", newer_one_is_started),
        (planted.call_everything_normal, "INV-22 baselines are normal", newer_one_is_started),
    ],
)
def test_planted_bug_is_caught_in_its_story(
    plant: Plant, invariant: str, story: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert story().run().violations == ()

    plant(monkeypatch)

    assert any(invariant in violation for violation in story().run().violations)

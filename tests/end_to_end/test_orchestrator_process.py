"""The orchestrator's process on a real broker: it decides, it is killed, it goes on where it was."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.adapters.snapshots import SNAPSHOT_NAME
from orchestrator.core import events as e
from tests.end_to_end.light_fleet import LightDevice, living
from tests.end_to_end.rollout_bench import (
    DEVICES,
    all_online,
    command,
    make_devices,
    start,
    until_phase,
    until_the_canary_passed,
)
from tests.end_to_end.stage import Stage, make_stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield make_stage(stack, tmp_path, DEVICES)


async def test_good_release_reaches_every_device_after_approval(stage: Stage) -> None:
    stage.start()
    devices = make_devices(stage)
    async with living(devices, stage.broker):
        await until_the_canary_passed(stage)
        assert sum(device.version == "1.2.0" for device in devices) == 2
        await command(stage, "approve", rollout="r-1", reason="looks good")
        await until_phase(stage, "completed")

    assert {device.version for device in devices} == {"1.2.0"}
    assert all(len(device.activations) == 1 for device in devices)
    stage.stop()
    assert stage.verify() == len(stage.facts())


async def test_rollout_goes_on_from_the_snapshot_after_a_clean_stop(stage: Stage) -> None:
    stage.start()
    devices = make_devices(stage)
    async with living(devices, stage.broker):
        await until_the_canary_passed(stage)
        await command(stage, "approve", rollout="r-1")
        stage.stop()
        kept = (stage.folder / SNAPSHOT_NAME).read_bytes()
        assert json.loads(kept.partition(b"\n")[0])["seq"] == len(stage.facts())
        stage.start()
        await until_phase(stage, "completed")

    assert all(len(device.activations) == 1 for device in devices)
    stage.stop()
    assert stage.verify() == len(stage.facts())
    assert not (stage.folder / "state.new").exists()


async def test_bad_release_is_rolled_back_and_only_canaries_ever_ran_it(stage: Stage) -> None:
    stage.start()
    devices = make_devices(stage, bad=frozenset({"1.1.0"}))
    async with living(devices, stage.broker):
        await all_online(stage)
        await start(stage, "lab-1.1.0")
        await until_phase(stage, "rolled_back")

    exposed = [device for device in devices if any(version == "1.1.0" for _, version in device.activations)]
    assert len(exposed) == 2
    assert {device.version for device in devices} == {"1.0.0"}
    ordered = [fact for fact in stage.facts() if isinstance(fact, e.RollbackOrdered)]
    assert [order.trigger for order in ordered] in (["error_rate_spike"], ["canary_gate"])
    assert all(order.evidence for order in ordered)


async def test_rollout_ends_as_it_would_have_when_the_orchestrator_is_killed_in_the_middle_of_a_wave(
    stage: Stage,
) -> None:
    stage.start()
    devices = make_devices(stage)
    async with living(devices, stage.broker):
        await until_the_canary_passed(stage)
        await command(stage, "approve", rollout="r-1")
        await third_device_switched(devices)
        stage.kill()
        stage.start()
        await until_phase(stage, "completed")

    assert {device.version for device in devices} == {"1.2.0"}
    assert all(len(device.activations) == 1 for device in devices), "no device was switched twice"
    stage.stop()
    facts = stage.facts()
    assert stage.verify() == len(facts)
    assert_each_decision_stands_once(facts)
    assert [fact.epoch for fact in facts if isinstance(fact, e.EpochOpened)] == [1, 2]


async def test_rollout_survives_a_kill_at_random_moments_again_and_again(stage: Stage) -> None:
    stage.start()
    devices = make_devices(stage)
    async with living(devices, stage.broker):
        await all_online(stage)
        await start(stage, "lab-1.2.0")
        for pause_seconds in (0.4, 1.3, 0.7):
            await asyncio.sleep(pause_seconds)
            stage.kill()
            stage.start()
        await until_phase(stage, "awaiting_approval")
        await command(stage, "approve", rollout="r-1")
        for pause_seconds in (0.5, 1.1):
            await asyncio.sleep(pause_seconds)
            stage.kill()
            stage.start()
        await until_phase(stage, "completed")

    assert {device.version for device in devices} == {"1.2.0"}
    stage.stop()
    facts = stage.facts()
    assert stage.verify() == len(facts)
    assert_each_decision_stands_once(facts)


async def third_device_switched(devices: list[LightDevice]) -> None:
    for _ in range(2000):
        if sum(device.version == "1.2.0" for device in devices) >= 3:
            return
        await asyncio.sleep(0.01)
    pytest.fail("no device of the first wave switched")


def assert_each_decision_stands_once(facts: list[e.AnyEvent]) -> None:
    """No wave starts twice, no device is committed or granted the same thing twice, nothing ends twice."""
    decisions: Counter[tuple[object, ...]] = Counter()
    for fact in facts:
        match fact:
            case e.RolloutStarted() | e.RolloutEnded():
                decisions[fact.kind, fact.rollout] += 1
            case e.WaveStarted() | e.SoakStarted() | e.RolloutApproved():
                decisions[fact.kind, fact.wave] += 1
            case e.DeviceCommitted():
                decisions[fact.kind, fact.device, fact.generation] += 1
            case e.GrantIssued():
                decisions[fact.kind, fact.nonce] += 1
            case e.DevicesOrdered():
                decisions[fact.kind, fact.generation] += 1
            case _:
                pass
    assert {key: count for key, count in decisions.items() if count > 1} == {}

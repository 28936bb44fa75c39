"""A policy tried out: the product's own cores roll a version with a chosen fault out to a virtual fleet.

In a fleet of some thousand devices nothing is approximated but the world: requests, latencies and memory are those of
``application``, the network is perfect, and a person approves a minute after being asked. What the rollout did is read
from its journal, what the devices suffered from the simulation's ground truth. The devices of a larger fleet are played
in bulk, see ``crowd``; the orchestrator decides as ever.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Final

import numpy as np

from orchestrator.reporting.build import build_report
from schemas.errors import FleetError
from schemas.inventory import DeviceEntry
from schemas.policy import Policy
from simulator.application import GOOD
from simulator.clock import stream
from simulator.crowd_rehearsal import tell_rehearsal
from simulator.crowd_world import CrowdWorld
from simulator.fault_text import Fault
from simulator.materials import NEW_VERSION, DeviceSpec
from simulator.rehearsal_result import Devices, Rehearsal, see
from simulator.scenario import ROLLOUT, Scenario, make_scenario
from simulator.world import World

WHOLE_MAX: Final = 3_000
"""So many devices are simulated whole, each with its disk and its messages; more would take hours."""
DEVICES_MAX: Final = 2_000_000
"""More would take more memory than a workstation has to spare."""
_TIME_MAX_SECONDS: Final = 14 * 24 * 3600.0
_UNKNOWN: Final = "device"

Tell = Callable[[str, int], None]
"""Told now and then where a rehearsal in bulk is: the rollout's phase, and how many devices have been let go."""


class RehearsalError(FleetError):
    """The caller's fault: this fleet, policy and fault make no rollout. The text says why."""


def fleet_of(entries: Mapping[str, DeviceEntry]) -> tuple[DeviceSpec, ...]:
    """Return the devices of an inventory; what it does not declare is the same for all."""
    return tuple(
        DeviceSpec(
            id=name,
            device_type=entry.device_type or _UNKNOWN,
            region=entry.region or "",
            group=entry.group or entry.device_type or _UNKNOWN,
            time_zone=entry.time_zone,
            arch=entry.arch or "aarch64",
            site=entry.site,
            tags=entry.tags or (),
            single_point_of_failure=bool(entry.single_point_of_failure),
            maintenance=bool(entry.maintenance),
            known_issues=entry.known_issues or (),
        )
        for name, entry in entries.items()
    )


def rehearse(
    policy: Policy,
    fleet: Sequence[DeviceSpec],
    fault: Fault,
    seed: int,
    *,
    whole_max: int = WHOLE_MAX,
    tell: Tell = lambda _where, _count: None,
) -> Rehearsal:
    """Run one rollout to its end.

    Args:
        policy: As it would be used.
        fleet: At most ``DEVICES_MAX`` devices.
        fault: What the new version does; which devices have it follows from the seed.
        seed: Also draws the canary, the waves and every moment.
        whole_max: In a larger fleet devices are played in bulk.
        tell: See ``Tell``.

    Raises:
        RehearsalError: The fleet is empty or too large, the fault hits no device, or the rollout does not start.
    """
    check_size(len(fleet))
    hit = _hit(fleet, fault, stream(seed, "fault"))
    scenario = _scenario(policy, tuple(fleet), fault, hit, seed)
    if len(fleet) <= whole_max:
        return _rehearse_whole(scenario, hit)
    return _rehearse_in_bulk(scenario, hit, tell)


def check_size(count: int) -> None:
    """Raise ``RehearsalError`` for a fleet that is empty or too large."""
    if not 0 < count <= DEVICES_MAX:
        raise RehearsalError(f"{count:,} devices: from 1 to {DEVICES_MAX:,} can be simulated; take a part of them")


def _hit(fleet: Sequence[DeviceSpec], fault: Fault, rng: random.Random) -> frozenset[str]:
    """Draw the devices on which the fault shows: the share of them, and at least one."""
    wanted = fault.device_type
    meant = [each.id for each in fleet if wanted is None or each.device_type.lower() == wanted]
    if not meant:
        types = ", ".join(sorted({each.device_type for each in fleet}))
        raise RehearsalError(f"the fault is about {wanted}, and the fleet has none; there are {types}")
    return frozenset(rng.sample(meant, max(1, round(fault.share * len(meant)))))


def _scenario(policy: Policy, fleet: tuple[DeviceSpec, ...], fault: Fault, hit: frozenset[str], seed: int) -> Scenario:
    if policy.distribution.activates_at is not None:  # A moment on the wall says nothing in a world of another time.
        by_hand = policy.distribution.model_copy(update={"activate": "manual"})
        policy = policy.model_copy(update={"distribution": by_hand})
    made = make_scenario(seed=seed, devices=fleet, release=fault.behavior, policy=policy)
    return replace(
        made,
        spared=frozenset(each.id for each in fleet) - hit,
        sample_seconds=policy.rollout.global_.health_check_interval_seconds,
        ignore_lint=True,
        at_rest_within_seconds=_TIME_MAX_SECONDS,
    )


def _rehearse_whole(scenario: Scenario, hit: frozenset[str]) -> Rehearsal:
    """Simulate each device as a whole one."""
    world = World(scenario)
    result = world.run()
    if not result.outcomes:
        refused = next((reply.error for verb, reply in world.person.replies if verb == "start" and reply.error), None)
        raise _not_started(refused.message if refused else None)
    report = build_report(world.orchestrator.journal.read(), ROLLOUT, world.clock.now)
    granted = sorted(each.granted_at for each in report.devices if each.granted_at is not None)
    ran = {name for name, truth in world.witness.truths.items() if NEW_VERSION in truth.ran}
    in_waves = Counter(each.wave for each in report.devices if each.granted_at is not None)
    devices = Devices(
        affected=len(hit & {each.device for each in report.devices}),
        harmed=0 if scenario.release == GOOD else len(hit & ran),
        exposure=[(at, count) for count, at in enumerate(granted, start=1)],
        planned=[wave.devices for wave in report.waves],
        exposed=[in_waves[number] for number in range(len(report.waves))],
    )
    return see(report, devices, seed=scenario.seed, now=world.clock.now, violations=result.violations)


def _rehearse_in_bulk(scenario: Scenario, hit: frozenset[str], tell: Tell) -> Rehearsal:
    """Play the devices together."""
    scenario = replace(scenario, fleet=tuple(sorted(scenario.fleet, key=attrgetter("id"))))
    has_fault = np.fromiter((spec.id in hit for spec in scenario.fleet), np.bool_, len(scenario.fleet))
    world = CrowdWorld(scenario, has_fault, tell)
    rollout = world.run()
    if rollout is None:
        raise _not_started(world.refused)
    return tell_rehearsal(world, rollout, scenario.seed)


def _not_started(why: str | None) -> RehearsalError:
    return RehearsalError(f"the rollout does not start: {why or 'it is not answered'}")

"""A policy tried out: the product's own cores roll a version with a chosen fault out to a virtual fleet.

Nothing is approximated but the world: requests, latencies and memory are those of ``application``, the network is
perfect, and a person approves a minute after being asked. What the rollout did is read from its journal, what the
devices suffered from the simulation's ground truth.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from orchestrator.reporting.build import build_report
from orchestrator.reporting.model import Evaluation, Report, Rollback, Stop
from schemas.errors import FleetError
from schemas.inventory import DeviceEntry
from schemas.policy import Policy
from simulator.application import GOOD
from simulator.clock import stream
from simulator.fault_text import Fault
from simulator.materials import NEW_VERSION, DeviceSpec
from simulator.scenario import ROLLOUT, Scenario, make_scenario
from simulator.world import World

DEVICES_MAX: Final = 3_000
"""Each is simulated whole; a larger fleet would take hours."""
_TIME_MAX_SECONDS: Final = 14 * 24 * 3600.0
_UNKNOWN: Final = "device"
_THROUGH: Final = frozenset({"completed", "finished"})


class RehearsalError(FleetError):
    """The caller's fault: this fleet, policy and fault make no rollout. The text says why."""


@dataclass(frozen=True, slots=True)
class WaveSeen:
    """What became of a wave; moments in seconds since the start, None where it was not reached.

    Attributes:
        verdict: The last verdict of its gate that was acted upon; empty if there was none.
    """

    name: str
    devices: int
    started_at: float | None
    ended_at: float | None
    exposed: int
    verdict: str


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What would have happened.

    Attributes:
        outcome: The phase in which the rollout ended, or stands for good.
        told: The same in words, with the numbers.
        stopped_by: Name of the trigger or check, or what else it waits for; empty if it went through.
        stopped_in: The wave it was in; empty if it went through.
        seconds: Until it was stopped, or over.
        targets: Devices that the plan has.
        affected: Targets on which the fault shows once they run the version.
        exposed: Devices that were let go to the new version.
        harmed: Those of the affected ones that ran it.
        exposure: When the count of exposed devices grew, and to what; seconds since the start.
        violations: Invariants of the product that were broken; each is a bug of it.
    """

    seed: int
    outcome: str
    told: str
    stopped_by: str
    stopped_in: str
    reached_last_wave: bool
    seconds: float
    targets: int
    affected: int
    exposed: int
    harmed: int
    waves: tuple[WaveSeen, ...]
    exposure: tuple[tuple[float, int], ...]
    violations: tuple[str, ...]

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped before the last wave began."""
        return bool(self.stopped_by) and not self.reached_last_wave

    def as_data(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self) | {"stopped_before_last_wave": self.is_stopped}


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


def rehearse(policy: Policy, fleet: Sequence[DeviceSpec], fault: Fault, seed: int) -> Rehearsal:
    """Run one rollout to its end.

    Args:
        policy: As it would be used.
        fleet: At most ``DEVICES_MAX`` devices.
        fault: What the new version does; which devices have it follows from the seed.
        seed: Also draws the canary, the waves and every moment.

    Raises:
        RehearsalError: The fleet is empty or too large, the fault hits no device, or the rollout does not start.
    """
    if not 0 < len(fleet) <= DEVICES_MAX:
        raise RehearsalError(f"{len(fleet):,} devices: from 1 to {DEVICES_MAX:,} can be simulated; take a part of them")
    hit = _hit(fleet, fault, stream(seed, "fault"))
    world = World(_scenario(policy, tuple(fleet), fault, hit, seed))
    result = world.run()
    refused = next((reply.error for verb, reply in world.person.replies if verb == "start" and reply.error), None)
    if not result.outcomes:
        raise RehearsalError(f"the rollout does not start: {refused.message if refused else 'it is not answered'}")
    return _seen(world, hit, result.violations)


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


def _seen(world: World, hit: frozenset[str], violations: tuple[str, ...]) -> Rehearsal:
    report = build_report(world.orchestrator.journal.read(), ROLLOUT, world.clock.now)
    header, start = report.header, report.header.started_at
    stop = _stop(report)
    granted = sorted(each.granted_at - start for each in report.devices if each.granted_at is not None)
    ran = {name for name, truth in world.witness.truths.items() if NEW_VERSION in truth.ran}
    ended_at = stop.at if stop is not None else header.ended_at or world.clock.now
    return Rehearsal(
        seed=world.scenario.seed,
        outcome=header.outcome,
        told=header.verdict,
        stopped_by=_cause(report, stop),
        stopped_in="" if stop is None else report.wave_name(stop.wave),
        reached_last_wave=report.waves[-1].started_at is not None,
        seconds=round(ended_at - start, 1),
        targets=header.targets,
        affected=len(hit & {each.device for each in report.devices}),
        exposed=len(granted),
        harmed=0 if world.scenario.release == GOOD else len(hit & ran),
        waves=tuple(_wave(report, number) for number in range(len(report.waves))),
        exposure=tuple((round(at, 1), count) for count, at in enumerate(granted, start=1)),
        violations=violations,
    )


def _stop(report: Report) -> Rollback | Stop | None:
    """Return what ended the rollout's way forward: the first of what concerns more than one device."""
    if report.header.outcome in _THROUGH:
        return None
    stops: list[Rollback | Stop] = [*(each for each in report.rollbacks if each.scope != "device"), *report.stops]
    return min(stops, key=lambda each: each.seq, default=None)


def _cause(report: Report, stop: Rollback | Stop | None) -> str:
    match stop:
        case Rollback(evidence=evidence, trigger=trigger):
            failing = [check.check for check in evidence if check.verdict == "fail"]
            return ", ".join(failing) or trigger
        case Stop(seq=seq):
            before = [each for each in report.evaluations if each.seq <= seq]
            return _not_passed(before[-1]) if before and before[-1].verdict != "pass" else stop.reason
        case _:
            return "" if report.header.outcome in _THROUGH else report.header.outcome


def _not_passed(evaluation: Evaluation) -> str:
    which = [check.check for check in evaluation.checks if check.verdict != "pass" and not check.dry_run]
    return f"{', '.join(which)} ({evaluation.verdict})"


def _wave(report: Report, number: int) -> WaveSeen:
    wave, start = report.waves[number], report.header.started_at
    judged = [each.verdict for each in report.evaluations if each.wave == number and each.decision != "watch"]
    return WaveSeen(
        name=wave.name,
        devices=wave.devices,
        started_at=None if wave.started_at is None else round(wave.started_at - start, 1),
        ended_at=None if wave.ended_at is None else round(wave.ended_at - start, 1),
        exposed=sum(each.wave == number and each.granted_at is not None for each in report.devices),
        verdict=judged[-1] if judged else "",
    )

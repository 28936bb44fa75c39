"""What a rehearsal has shown, read from the report of its rollout and from what became of the devices."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from orchestrator.reporting.model import Evaluation, Report, Rollback, Stop

_THROUGH: Final = frozenset({"completed", "finished"})


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
        in_bulk: The devices were played together, not each as a whole one, and no invariant was looked at.
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
    violations: tuple[str, ...] = ()
    in_bulk: bool = False

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped before the last wave began."""
        return bool(self.stopped_by) and not self.reached_last_wave

    def as_data(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self) | {"stopped_before_last_wave": self.is_stopped}


@dataclass(frozen=True, slots=True)
class Devices:
    """What became of the targets.

    Attributes:
        affected: Those on which the fault shows once they run the version.
        harmed: Those of them that ran it.
        exposure: When the count of those that were let go grew, and to what, in seconds since the epoch.
        planned: How many each wave has.
        exposed: How many of them were let go.
    """

    affected: int
    harmed: int
    exposure: Sequence[tuple[float, int]]
    planned: Sequence[int]
    exposed: Sequence[int]


def see(report: Report, devices: Devices, *, seed: int, now: float, **how: Any) -> Rehearsal:  # noqa: ANN401 - fields
    """Tell a rehearsal.

    Args:
        report: Of its rollout.
        devices: What became of them.
        seed: Of everything.
        now: When it was over, in seconds since the epoch.
        how: ``violations`` and ``in_bulk``.
    """
    header, start, stop = report.header, report.header.started_at, _stop(report)
    ended_at = stop.at if stop is not None else header.ended_at or now
    return Rehearsal(
        seed=seed,
        outcome=header.outcome,
        told=header.verdict,
        stopped_by=_cause(report, stop),
        stopped_in="" if stop is None else report.wave_name(stop.wave),
        reached_last_wave=report.waves[-1].started_at is not None,
        seconds=round(ended_at - start, 1),
        targets=header.targets,
        affected=devices.affected,
        exposed=sum(devices.exposed),
        harmed=devices.harmed,
        waves=tuple(_wave(report, number, devices) for number in range(len(report.waves))),
        exposure=tuple((round(at - start, 1), count) for at, count in devices.exposure),
        **how,
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


def _wave(report: Report, number: int, devices: Devices) -> WaveSeen:
    wave, start = report.waves[number], report.header.started_at
    judged = [each.verdict for each in report.evaluations if each.wave == number and each.decision != "watch"]
    return WaveSeen(
        name=wave.name,
        devices=devices.planned[number],
        started_at=None if wave.started_at is None else round(wave.started_at - start, 1),
        ended_at=None if wave.ended_at is None else round(wave.ended_at - start, 1),
        exposed=devices.exposed[number],
        verdict=judged[-1] if judged else "",
    )

"""A rollout as a trace: from facts and reports, as they come, to spans.

    rollout
      wave                                  from its start until the next begins, or the rollout ends
        gate_judged, rollout_halted, ...    what was decided: spans without length, with their numbers
        member                              one order to one device, until what came of it
          pick_up, download, verify, install, wait, drain, switch, trial, roll_back

A span is made when it ends, from the state, which outlives a restart; only where a device was in its order when the
process ended is not known any more, and that part begins when the device is heard again. Nothing is decided here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, assert_never

from orchestrator.core import events as e
from orchestrator.core.media import follows_media
from orchestrator.core.members import Progress
from orchestrator.core.rollout import Phase, Rollout
from orchestrator.core.state import State
from orchestrator.core.trace_ids import span_id, trace_id, wave_span_id
from schemas.documents import CheckResult
from schemas.messages import Reported

MEMBERS_MAX: Final = 1000
"""So many members of a wave, the first in the plan's order, are followed step by step; of others, only failures."""
FOLLOWED_MAX: Final = 20_000
"""So many devices are followed at a time, in all rollouts."""
PICK_UP: Final = "pick_up"
"""From the order until the device says that it has it: mostly, that it was not connected."""

Attribute = str | bool | int | float | tuple[str, ...]

_STEPS: Final[Mapping[str, str]] = {
    "downloading": "download",
    "verifying": "verify",
    "installing": "install",
    "ready": "wait",
    "waiting": "wait",
    "draining": "drain",
    "switching": "switch",
    "trial": "trial",
    "rolling_back": "roll_back",
}
"""What a device does, by the state that it reports; in the others it does nothing."""
_OVER: Final = frozenset(
    {Progress.COMMITTED, Progress.FAILED, Progress.RETURNED, Progress.STRANDED, Progress.SKIPPED, Progress.PENDING}
)
"""Members whose order has had its span, or who have none."""
_BAD_ENDS: Final = frozenset({"aborted", "rolled_back"})


@dataclass(frozen=True, slots=True)
class Span:
    """What one part of a rollout took.

    Attributes:
        trace_id: 128 bits, the rollout's.
        span_id: 64 bits.
        parent_id: The span that it is a part of; None for the rollout's own.
        began_at: Seconds since the epoch, as the orchestrator's clock has it; the same for all other times.
        ended_at: Never before it began.
        attributes: Names with the prefix ``tidegate.``.
        marks: What happened within it, and when.
        error: Why it went wrong; empty if it did not.
    """

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    began_at: float
    ended_at: float
    attributes: Mapping[str, Attribute]
    marks: tuple[tuple[str, float], ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Followed:
    """Where a device is in its order, and since when."""

    rollout: str
    generation: int
    step: str
    since: float


class _End(NamedTuple):
    """What came of an order."""

    outcome: str
    about: Mapping[str, Attribute] = {}
    error: str = ""


_MemberEvent = e.DeviceCommitted | e.DeviceFailed | e.DeviceRetried | e.DeviceReturned | e.DeviceSkipped


class Tracer:
    """Makes the spans; mutable, because it remembers since when each device has been where it is."""

    def __init__(self) -> None:
        self._followed: dict[str, _Followed] = {}

    def note_fact(self, state: State, event: e.AnyEvent, now: float) -> list[Span]:
        """Return the spans that a fact ends, which ``state`` does not hold yet."""
        match event:
            case e.StagingStarted():
                return [_started(state.rollouts[event.rollout], now)]
            case e.WaveStarted(wave=0):
                rollout = state.rollouts[event.rollout]
                return [] if rollout.phase is Phase.STAGING else [_started(rollout, now)]
            case e.WaveStarted():
                return [_wave(state.rollouts[event.rollout], now)]
            case e.RolloutEnded():
                rollout = state.rollouts[event.rollout]
                return [_decided(rollout, event, now), _wave(rollout, now), _ended(rollout, event, now)]
            case e.DevicesOrdered():
                return self._order(state, event, now)
            case (
                e.DeviceCommitted() | e.DeviceFailed() | e.DeviceRetried() | e.DeviceReturned() | e.DeviceSkipped()
            ):  # fmt: skip
                return list(self._end_member(state, event, now))
            case (
                e.SoakStarted()
                | e.SoakExtended()
                | e.CanaryPhaseStarted()
                | e.GateJudged()
                | e.RolloutActivated()
                | e.RolloutApproved()
                | e.RolloutPaused()
                | e.RolloutResumed()
                | e.RolloutHalted()
                | e.RollbackOrdered()
                | e.RollbackVerified()
            ):
                return [_decided(state.rollouts[event.rollout], event, now)]
            case _:
                return []

    def note_report(self, state: State, name: str, reported: Reported, now: float) -> list[Span]:
        """Return the span of the step that a device has left, if its report on the order at hand says so."""
        device = state.devices.get(name)
        if device is None or device.rollout is None or follows_media(reported):
            return []
        if reported.observed_generation != device.generation:
            return []
        rollout = state.rollouts[device.rollout]
        before = self._at_hand(name, device.generation)
        step = _STEPS.get(reported.state, "")
        if before is None and (rollout.members[name].progress in _OVER or not self._may_follow(rollout, name)):
            return []
        if before is not None and before.step == step:
            return []
        if step:
            self._followed[name] = _Followed(rollout.id, device.generation, step, now)
        else:
            self._followed.pop(name, None)
        return [] if before is None else [_step(rollout, name, before, now)]

    def _order(self, state: State, event: e.DevicesOrdered, now: float) -> list[Span]:
        """End the orders that are replaced, and follow the new ones."""
        spans: list[Span] = []
        for name in sorted(self._followed.keys() & event.devices.keys()):
            before = self._followed.pop(name)
            rollout = state.rollouts[before.rollout]
            end = _End("staged" if rollout.members[name].is_staged else "superseded")
            spans += [_step(rollout, name, before, now), _member(state, rollout, name, now, end)]
        if event.action != "hold":
            for name in _first_members(state.rollouts[event.rollout], event.devices):
                if len(self._followed) < FOLLOWED_MAX:
                    self._followed[name] = _Followed(event.rollout, event.generation, PICK_UP, now)
        return spans

    def _end_member(
        self,
        state: State,
        event: _MemberEvent,
        now: float,
    ) -> Iterator[Span]:
        rollout, name = state.rollouts[event.rollout], event.device
        member = rollout.members[name]
        if member.progress in _OVER:
            return
        followed = self._at_hand(name, member.generation)
        if followed is not None:
            yield _step(rollout, name, self._followed.pop(name), now)
        end = _end_of(event)
        if followed is not None or end.error or _is_first(rollout, name):
            yield _member(state, rollout, name, now, end)

    def _at_hand(self, name: str, generation: int) -> _Followed | None:
        followed = self._followed.get(name)
        return followed if followed is not None and followed.generation == generation else None

    def _may_follow(self, rollout: Rollout, name: str) -> bool:
        return _is_first(rollout, name) and (name in self._followed or len(self._followed) < FOLLOWED_MAX)


def _is_first(rollout: Rollout, name: str) -> bool:
    """Say whether a member is among those of its wave that are followed."""
    members = rollout.members
    return members.row(name) - members.starts[members[name].wave] < MEMBERS_MAX


def _first_members(rollout: Rollout, among: Mapping[str, object]) -> Iterator[str]:
    for wave in range(len(rollout.plan.waves)):
        rows = rollout.members.of_wave(wave)
        names = rollout.members.names[rows.start : min(rows.stop, rows.start + MEMBERS_MAX)]
        yield from (name for name in names if name in among)


def _started(rollout: Rollout, now: float) -> Span:
    """Return the command that a rollout began with: the first that is seen of its trace."""
    more = {"tidegate.by": rollout.by, "tidegate.reason": rollout.reason_given}
    return _point(rollout, "rollout_started", span_id(rollout, "rollout"), now, {**_about(rollout), **more})


def _ended(rollout: Rollout, event: e.RolloutEnded, now: float) -> Span:
    return Span(
        "rollout",
        trace_id(rollout),
        span_id(rollout, "rollout"),
        None,
        rollout.started_at,
        max(rollout.started_at, now),
        {**_about(rollout), "tidegate.outcome": event.outcome},
        error=event.reason if event.outcome in _BAD_ENDS else "",
    )


def _about(rollout: Rollout) -> dict[str, Attribute]:
    return {
        "tidegate.rollout": rollout.id,
        "tidegate.release": rollout.release.release,
        "tidegate.version": rollout.release.version,
        "tidegate.devices": len(rollout.members),
    }


def _wave(rollout: Rollout, now: float) -> Span:
    """Return the wave that is over now."""
    gate = rollout.gates.get(rollout.wave)
    about: dict[str, Attribute] = {
        "tidegate.rollout": rollout.id,
        "tidegate.wave": rollout.wave_name,
        "tidegate.devices": len(rollout.plan.waves[rollout.wave].members),
    }
    if gate is not None:
        about["tidegate.verdict"] = gate.verdict
    return Span(
        "wave",
        trace_id(rollout),
        wave_span_id(rollout, rollout.wave),
        span_id(rollout, "rollout"),
        rollout.wave_started_at,
        max(rollout.wave_started_at, now),
        about,
    )


def _decided(rollout: Rollout, event: e.AnyEvent, now: float) -> Span:
    """Return a decision: with the plain fields of the fact, and with its checks in words."""
    about: dict[str, Attribute] = {"tidegate.rollout": rollout.id}
    for name in type(event).model_fields:
        value = getattr(event, name)
        if name not in {"kind", "rollout", "wave", "plan_digest"} and isinstance(value, str | bool | int | float):
            about[f"tidegate.{name}"] = value
        elif name in {"checks", "evidence"} and value:
            about["tidegate.checks"] = tuple(map(_in_words, value))
    wave = getattr(event, "wave", rollout.wave)
    about["tidegate.wave"] = rollout.plan.waves[wave].name
    return _point(rollout, event.kind, wave_span_id(rollout, wave), now, about)


def _in_words(check: CheckResult) -> str:
    return f"{check.check}: {check.verdict}, {check.why}"


def _point(rollout: Rollout, name: str, parent_id: int, now: float, about: Mapping[str, Attribute]) -> Span:
    own_id = span_id(rollout, name, repr(now), *sorted(map(repr, about.items())))
    return Span(name, trace_id(rollout), own_id, parent_id, now, now, about)


def _end_of(event: _MemberEvent) -> _End:
    match event:
        case e.DeviceCommitted(fetched=fetched):
            return _End("committed", {f"tidegate.fetched.{name}_bytes": size for name, size in (fetched or {}).items()})
        case e.DeviceFailed():
            return _End("failed", error=f"{event.code}: {event.message}")
        case e.DeviceRetried():
            return _End("retried", {"tidegate.attempt": event.attempt}, event.code)
        case e.DeviceReturned():
            return _End("returned")
        case e.DeviceSkipped():
            return _End("skipped", {"tidegate.by": event.by})
        case _:
            assert_never(event)


def _member(state: State, rollout: Rollout, name: str, now: float, end: _End) -> Span:
    """Return the order that a member has, which is over now."""
    member = rollout.members[name]
    about: dict[str, Attribute] = {
        "tidegate.rollout": rollout.id,
        "tidegate.wave": rollout.plan.waves[member.wave].name,
        "tidegate.device": name,
        "tidegate.generation": member.generation,
        "tidegate.action": state.devices[name].action or "",
        "tidegate.from_version": member.from_version or "",
        "tidegate.outcome": end.outcome,
    }
    return Span(
        "member",
        trace_id(rollout),
        _member_id(rollout, name, member.generation),
        # The wave of an order ahead of it may never begin, and would have no span then.
        span_id(rollout, "rollout") if member.is_ahead else wave_span_id(rollout, member.wave),
        member.ordered_at,
        max(member.ordered_at, now),
        {**about, **end.about},
        () if member.granted_at is None else (("granted", member.granted_at),),
        end.error,
    )


def _step(rollout: Rollout, name: str, followed: _Followed, now: float) -> Span:
    """Return the step that a device has left."""
    about: dict[str, Attribute] = {"tidegate.device": name, "tidegate.generation": followed.generation}
    own_id = span_id(rollout, "step", name, followed.generation, followed.step, repr(followed.since))
    parent_id = _member_id(rollout, name, followed.generation)
    return Span(followed.step, trace_id(rollout), own_id, parent_id, followed.since, max(followed.since, now), about)


def _member_id(rollout: Rollout, name: str, generation: int) -> int:
    return span_id(rollout, "member", name, generation)

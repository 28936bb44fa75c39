"""Take the decisions of a journal once more, on the state that stood before each, and compare.

What people and devices said is given. What the orchestrator concluded from it must follow again: the plan from the
fleet and the seed, a verdict from its numbers, the next step from the verdict, a grant from the room there was, a stop
from the failures that were counted. What only was seen at the time (who was connected) is taken from the recorded
evidence.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.core import events as e
from orchestrator.core.capacity import Capacity, capacity, unavailable_max, unhealthy_max
from orchestrator.core.concluding import conclude, conclude_phase
from orchestrator.core.grants import may_ever
from orchestrator.core.members import Member
from orchestrator.core.orders import ORCHESTRATOR, order_back
from orchestrator.core.phases import PhaseVerdict
from orchestrator.core.rollout import Phase, Rollout
from orchestrator.core.soaking import phases_left, soaked_seconds
from orchestrator.core.staging import activate_when_due
from orchestrator.core.state import State, evolve
from orchestrator.core.stopping import FAILURE_THRESHOLD, judge_failures
from orchestrator.core.targets import plan_again
from orchestrator.telemetry.judgement import verdict_of
from schemas.conditions import GROWTHS
from schemas.documents import CheckResult
from schemas.messages import Ready
from schemas.policy import CHECK_METRICS
from schemas.verdicts import Verdict

_OPERATOR: Final = re.compile(r"<=|>=|<|>")
_BEYOND_CHANCE: Final = frozenset(name for name, metric in CHECK_METRICS.items() if metric in GROWTHS)
"""Checks that a number beyond the limit breaks only if it is more than chance, which the number does not say."""
_HOLDS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": lambda observed, limit: observed < limit,
    "<=": lambda observed, limit: observed <= limit,
    ">": lambda observed, limit: observed > limit,
    ">=": lambda observed, limit: observed >= limit,
}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A decision that does not follow from the journal before it."""

    seq: int
    kind: str
    message: str


@dataclass(slots=True)
class Replay:
    """What came of taking the decisions again.

    Attributes:
        entries: All entries of the journal.
        decisions: How many of each kind were taken again.
        mismatches: Those that came out differently; empty for a journal that tells the truth.
    """

    entries: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    mismatches: list[Mismatch] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One entry with its fact."""

    seq: int
    at: float
    event: e.AnyEvent


def replay(entries: Iterable[Recorded]) -> Replay:
    """Fold a journal from its beginning and take each decision again on the way."""
    result, state = Replay(), State()
    batch: list[Recorded] = []
    for entry in entries:
        if batch and entry.at != batch[0].at:
            _take(state, batch, result)
            batch = []
        batch.append(entry)
    _take(state, batch, result)
    return result


def _take(state: State, batch: Sequence[Recorded], result: Replay) -> None:
    """Take the decisions of one moment; what follows from one stands behind it in the same batch."""
    for place, entry in enumerate(batch):
        result.entries += 1
        again = _AGAIN.get(type(entry.event))
        if again is not None:
            problem = again(state, entry, batch[place:])
            if problem is not _NOT_OURS:
                result.decisions[entry.event.kind] += 1
            if problem:
                result.mismatches.append(Mismatch(entry.seq, entry.event.kind, problem))
        evolve(state, entry.event, entry.at)


_NOT_OURS: Final = ""
"""What a rule returns for a fact that a person decided."""
_Rule = Callable[[State, Recorded, Sequence[Recorded]], str | None]


def _started(state: State, entry: Recorded, _rest: Sequence[Recorded]) -> str | None:
    event = entry.event
    assert isinstance(event, e.RolloutStarted), "chosen by type"
    planned = plan_again(state, event.release, event.policy, event.plan)
    return None if planned.digest == event.plan.digest else f"the plan would be {planned.digest}"


def _judged(state: State, entry: Recorded, rest: Sequence[Recorded]) -> str | None:
    event = entry.event
    assert isinstance(event, e.GateJudged), "chosen by type"
    wrong = next((text for check in event.checks if (text := _check_again(check))), None)
    if wrong is not None:
        return wrong
    verdict = verdict_of(event.checks)
    if verdict.word != event.verdict:
        return f"the checks make it {verdict.word}, not {event.verdict}"
    if event.decision == "watch":
        return None
    rollout = state.rollouts[event.rollout]
    soaked = soaked_seconds(rollout, entry.at)
    if event.phase is None:
        return _compare(conclude(state, rollout, event.gate, verdict, event.checks, soaked=soaked), rest)
    shown = PhaseVerdict(event.phase, verdict, event.checks, event.not_judged)
    return _compare(conclude_phase(state, rollout, event.gate, shown, soaked=soaked), rest)


def _phase_started(state: State, entry: Recorded, _rest: Sequence[Recorded]) -> str | None:
    event = entry.event
    assert isinstance(event, e.CanaryPhaseStarted), "chosen by type"
    rollout = state.rollouts[event.rollout]
    shown, left = rollout.gates.get(0), phases_left(rollout)
    if shown is None or (shown.phase, shown.verdict) != (left[0], "pass") or event.phase != left[1]:
        return f"the {event.phase} phase does not follow from what the canary showed before"
    return None


def _check_again(check: CheckResult) -> str | None:
    found = _OPERATOR.search(check.limit_expr)
    if found is None or check.observed is None or check.limit is None or math.isclose(check.observed, check.limit):
        return None
    holds = _HOLDS[found.group()](check.observed, check.limit)
    if check.verdict == "pass" and not holds and check.check not in _BEYOND_CHANCE:
        return f"{check.check}: {check.observed:g} does not keep {check.limit_expr} ({check.limit:g})"
    if check.verdict == "fail" and holds:
        return f"{check.check}: {check.observed:g} keeps {check.limit_expr} ({check.limit:g})"
    return None


def _granted(state: State, entry: Recorded, _rest: Sequence[Recorded]) -> str | None:
    event = entry.event
    assert isinstance(event, e.GrantIssued), "chosen by type"
    rollout, device = state.rollouts[event.rollout], state.devices[event.device]
    ready = Ready(generation=event.generation, step=event.step, nonce=event.nonce)
    refusal = may_ever(state, device, rollout, ready)
    if refusal is not None:
        return f"{event.device} had to wait: {refusal.value}"
    there = capacity(rollout)
    if (event.in_flight, event.unavailable) != (there.in_flight, there.unavailable):
        return f"{there.in_flight} in flight and {there.unavailable} unavailable, not as recorded"
    is_new = event.step == "activate" and rollout.members[event.device].granted_at is None
    if not is_new:
        return None
    if there.in_flight >= rollout.policy.rollout.global_.max_parallel_deploys:
        return f"{there.in_flight} were in flight already"
    if device.action != "install":
        return None
    present = there.unavailable + (event.serving or 0)
    if there.unavailable >= unavailable_max(rollout, present):
        return f"{there.unavailable} of {present} were out of service already"
    return _floor_again(rollout, event, there)


def _floor_again(rollout: Rollout, event: e.GrantIssued, there: Capacity) -> str | None:
    """Who was healthy was only seen; a journal from before the floor counted health does not say it."""
    if event.present is None or event.healthy is None or event.serving is None:
        return None
    counted = event.present - there.unavailable
    if not event.healthy <= counted <= event.serving:
        return f"{event.healthy} healthy of {counted} that count, of {event.serving} that served"
    missing = event.present - event.healthy
    if event.was_healthy and missing >= unhealthy_max(rollout, event.present):
        return f"{missing} of {event.present} were not healthy or out of service already"
    return None


def _ordered_back(state: State, entry: Recorded, rest: Sequence[Recorded]) -> str | None:
    event = entry.event
    assert isinstance(event, e.RollbackOrdered), "chosen by type"
    rollout = state.rollouts[event.rollout]
    if event.trigger == FAILURE_THRESHOLD:
        return _compare(judge_failures(state, rollout), rest)
    wrong = next((text for check in event.evidence if (text := _firing_again(check))), None)
    if wrong is not None:
        return wrong
    again = order_back(
        state, rollout, event.scope, _in_scope(rollout, event),
        trigger=event.trigger, action=event.action, by=event.by, reason=event.reason, evidence=event.evidence,
        monitor_seconds=event.monitor_seconds,
    )  # fmt: skip
    return _compare(again[:1], rest)


def _in_scope(rollout: Rollout, event: e.RollbackOrdered) -> Sequence[str]:
    """Return the devices that a rollback of this scope is about."""
    if event.scope == "fleet":
        return rollout.members.names
    if event.scope == "device" or not event.devices:
        return event.devices
    return rollout.members.names[rollout.members.of_wave(rollout.members[event.devices[0]].wave)]


def _firing_again(check: CheckResult) -> str | None:
    """A trigger fires when its condition holds, a check fails when it does not; both are evidence of a rollback."""
    return None if check.verdict == "fail" else f"{check.check} is no reason to go back: {check.verdict}"


def _halted(state: State, entry: Recorded, rest: Sequence[Recorded]) -> str | None:
    event = entry.event
    assert isinstance(event, e.RolloutHalted), "chosen by type"
    rollout = state.rollouts[event.rollout]
    if rollout.phase is Phase.ROLLING_BACK:
        return None if rollout.verified is not None else "the rollback was not verified yet"
    counted = rollout.members.column(Member.failed) & ~rollout.members.column(Member.excused)
    if " finished in " in event.reason and counted.any():
        return _compare(judge_failures(state, rollout), rest)
    return _NOT_OURS


def _wave_started(state: State, entry: Recorded, _rest: Sequence[Recorded]) -> str | None:
    event = entry.event
    assert isinstance(event, e.WaveStarted), "chosen by type"
    rollout = state.rollouts[event.rollout]
    if event.wave == 0:
        return None if rollout.open_wave == 0 else "nobody has activated it"
    gate = rollout.gates.get(event.wave - 1)
    if gate is None or gate.verdict != "pass" or gate.phase is not None or rollout.wave != event.wave - 1:
        return f"wave {event.wave} does not follow from the gate before it"
    needs_person = event.wave == 1 and rollout.policy.rollout.canary.require_human_approval_after
    return "nobody has approved" if needs_person and 0 not in rollout.approvals else None


def _activated(state: State, entry: Recorded, rest: Sequence[Recorded]) -> str | None:
    event = entry.event
    assert isinstance(event, e.RolloutActivated), "chosen by type"
    rollout = state.rollouts[event.rollout]
    if rollout.phase is not Phase.STAGING or rollout.paused:
        return f"it is {rollout.phase.value}, not staged"
    return _NOT_OURS if event.by != ORCHESTRATOR else _compare(activate_when_due(rollout, entry.at), rest)


def _approved(state: State, entry: Recorded, _rest: Sequence[Recorded]) -> str | None:
    event = entry.event
    assert isinstance(event, e.RolloutApproved), "chosen by type"
    rollout = state.rollouts[event.rollout]
    if event.plan_digest != rollout.plan.digest:
        return "it is for another plan"
    if rollout.policy.four_eyes and event.by == rollout.by:
        return f"{event.by} approved what {event.by} started"
    if verdict_of(event.checks) is not Verdict.PASS:
        return "the gate had not passed"
    return "it was approved before" if event.wave in rollout.approvals else None


def _retried(state: State, entry: Recorded, _rest: Sequence[Recorded]) -> str | None:
    event = entry.event
    assert isinstance(event, e.DeviceRetried), "chosen by type"
    if event.by != ORCHESTRATOR:
        return _NOT_OURS
    rollout = state.rollouts[event.rollout]
    member, limit = rollout.members[event.device], rollout.policy.rollout.global_.max_retries
    return None if event.attempt == member.attempts + 1 <= limit else f"attempt {event.attempt} of {limit}"


_AGAIN: Final[Mapping[type[Any], _Rule]] = {
    e.RolloutStarted: _started,
    e.GateJudged: _judged,
    e.CanaryPhaseStarted: _phase_started,
    e.GrantIssued: _granted,
    e.RollbackOrdered: _ordered_back,
    e.RolloutHalted: _halted,
    e.RolloutActivated: _activated,
    e.WaveStarted: _wave_started,
    e.RolloutApproved: _approved,
    e.DeviceRetried: _retried,
}


def _compare(expected: Sequence[e.AnyEvent], rest: Sequence[Recorded]) -> str | None:
    """Say how what was decided differs from what follows; what devices ran was only seen, and is not compared."""
    for number, event in enumerate(expected):
        taken = rest[number].event if number < len(rest) else None
        if taken is None or _essence(taken) != _essence(event):
            return f"{event.kind} follows, {'nothing' if taken is None else taken.kind} was decided"
    return None


def _essence(event: e.AnyEvent) -> dict[str, Any]:
    body = event.model_dump(mode="json")
    if isinstance(event, e.DevicesOrdered):
        body["devices"] = sorted(body["devices"])
    return body

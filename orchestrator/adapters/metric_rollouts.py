"""Rollouts as metrics: those that go on, and those that ended lately."""

from collections.abc import Iterable, Iterator
from math import inf
from typing import Final

import numpy as np
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from orchestrator.core.context import Context
from orchestrator.core.explain_floor import awaited_count
from orchestrator.core.judging import current_gate, judge_now
from orchestrator.core.members import DEPLOYED, Member
from orchestrator.core.rollout import TERMINAL, WATCHING, Phase, Rollout
from orchestrator.core.state import State
from schemas.documents import CheckResult
from schemas.verdicts import Verdict

ACTIVE_MAX: Final = 50
RECENT_MAX: Final = 10
RECENT_SECONDS: Final = 24 * 3600.0
"""For so long an ended rollout is still shown."""
JUDGED_MAX: Final = 20_000
"""Up to so many deployed devices their checks are judged for whoever asks; of more the last verdict's are shown."""


def collect_rollouts(state: State, context: Context, now: float) -> Iterator[Metric]:
    """Yield all families about rollouts."""
    shown = _shown(state, now)
    yield _info(shown)
    yield _phases(shown)
    paused = _family("rollout_paused", "Whether a person has stopped it for now.", "rollout")
    for rollout in shown:
        paused.add_metric([rollout.id], float(rollout.paused))
    yield paused
    yield _blocking(shown)
    yield from _members(shown)
    yield _verdicts(shown)
    yield from _checks(state, shown, context, now)


def _shown(state: State, now: float) -> list[Rollout]:
    """Return the newest rollouts of those that go on, and of those that ended lately."""
    ended = [
        each
        for each in state.rollouts.values()
        if each.phase in TERMINAL and each.ended_at is not None and now - each.ended_at < RECENT_SECONDS
    ]
    return [*state.active[-ACTIVE_MAX:], *ended[-RECENT_MAX:]]


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tidegate_{name}", text, labels=labels)


def _info(shown: list[Rollout]) -> Metric:
    labels = ("rollout", "release", "from_version", "to_version", "strategy")
    family = _family("rollout_info", "What a rollout is about; from_version is what most of its devices ran.", *labels)
    for rollout in shown:
        counts = np.bincount(rollout.members.column(Member.from_version))
        values = rollout.members.vocabularies["from_version"].values
        counts[:1] = 0  # The first is None: it was not ordered yet, or nobody knew.
        before = values[int(counts.argmax())] if counts.any() else ""
        family.add_metric(
            [rollout.id, rollout.release.release, before, rollout.release.version, rollout.plan.strategy], 1
        )
    return family


def _phases(shown: list[Rollout]) -> Metric:
    family = _family("rollout_phase", "1 for the phase that a rollout is in, 0 for the others.", "rollout", "phase")
    for rollout in shown:
        for phase in Phase:
            family.add_metric([rollout.id, phase.value], float(phase is rollout.phase))
    return family


def _blocking(shown: list[Rollout]) -> Metric:
    family = _family(
        "rollout_blocking_devices",
        "Devices not seen to be healthy for which a rollout's healthy ones wait, by min_available; 0 if nobody waits.",
        "rollout",
    )
    for rollout in shown:
        family.add_metric([rollout.id], awaited_count(rollout))
    return family


def _members(shown: list[Rollout]) -> Iterator[Metric]:
    devices = _family(
        "rollout_devices", "Targets of a rollout by where they are; states with none are left out.",
        "rollout", "wave", "state",
    )  # fmt: skip
    progress = _family(
        "rollout_progress_ratio",
        "Share of its targets that run the new version and have shown their health.",
        "rollout",
    )
    for rollout in shown:
        members = rollout.members
        states = members.vocabularies["progress"].values
        wave_numbers = members.column(Member.wave).astype(np.int32)
        codes = wave_numbers * len(states) + members.column(Member.progress)
        counts = np.bincount(codes, minlength=len(rollout.plan.waves) * len(states)).reshape(-1, len(states))
        for wave, row in zip(rollout.plan.waves, counts.tolist(), strict=True):
            for state, count in zip(states, row, strict=True):
                if count:
                    devices.add_metric([rollout.id, wave.name, state.value], count)
        deployed = sum(int(counts[:, states.index(each)].sum()) for each in DEPLOYED)
        progress.add_metric([rollout.id], deployed / max(1, len(members)))
    yield devices
    yield progress


def _verdicts(shown: list[Rollout]) -> Metric:
    family = _family(
        "gate_verdict", "1 for what a rollout's last gate said, 0 for the other words.", "rollout", "gate", "verdict"
    )
    for rollout in shown:
        if rollout.gates:
            last = rollout.gates[max(rollout.gates)]
            for verdict in Verdict:
                family.add_metric([rollout.id, last.gate, verdict.word], float(verdict.word == last.verdict))
    return family


def _checks(state: State, shown: list[Rollout], context: Context, now: float) -> Iterator[Metric]:
    labels = ("rollout", "gate", "check")
    value = _family("gate_check_value", "What a check of a gate observes.", *labels)
    limit = _family("gate_check_limit", "The limit that a check is compared with.", *labels)
    margin = _family("gate_check_margin_ratio", "How much of the limit is left; below 0 the check is broken.", *labels)
    for rollout in shown:
        gate, checks = _judged(state, rollout, context, now)
        for check in _tightest(checks):
            at = [rollout.id, gate, check.check]
            if check.observed is not None:
                value.add_metric(at, check.observed)
            if check.limit is not None:
                limit.add_metric(at, check.limit)
            left = margin_ratio(check)
            if left is not None:
                margin.add_metric(at, left)
    yield from (value, limit, margin)


def _tightest(checks: Iterable[CheckResult]) -> Iterable[CheckResult]:
    """Return one result for each name: of several, the one that is nearest to its limit."""
    found: dict[str, CheckResult] = {}
    for check in checks:
        other = found.get(check.check)
        if other is None or _left(check) < _left(other):
            found[check.check] = check
    return found.values()


def _left(check: CheckResult) -> float:
    left = margin_ratio(check)
    return inf if left is None else left


def margin_ratio(check: CheckResult) -> float | None:
    """Return how much of a check's limit is left, as a share of it; None where there is nothing to compare."""
    if check.observed is None or not check.limit:
        return None
    must_be_high = ">" in check.limit_expr
    left = check.observed - check.limit if must_be_high else check.limit - check.observed
    return left / abs(check.limit)


def _judged(state: State, rollout: Rollout, context: Context, now: float) -> tuple[str, tuple[CheckResult, ...]]:
    """Return a gate and its checks: as they are now while somebody waits for them, else as they were judged last."""
    if rollout.phase in WATCHING and rollout.counts(*DEPLOYED) <= JUDGED_MAX:
        name, gate = current_gate(rollout)
        return name, judge_now(state, rollout, gate, context, now)[1]
    if not rollout.gates:
        return "", ()
    last = rollout.gates[max(rollout.gates)]
    return last.gate, last.checks

"""What lint is told of a fleet and its plan."""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from orchestrator.core.inventory import Device
from orchestrator.core.releases import StoredRelease
from orchestrator.core.state import State
from orchestrator.lint.facts import FleetFacts, GroupFacts
from orchestrator.planning.distribution import Distribution
from orchestrator.planning.plan import Plan
from orchestrator.telemetry.baseline import Baseline
from schemas.conditions import Metric
from schemas.messages import Info

NO_SPACE = "less than "
"""How the reason of a device begins that the release does not fit on."""


def fleet_facts(
    state: State,
    plan: Plan,
    release: StoredRelease,
    baselines: Mapping[str, Baseline],
    distribution: Distribution | None = None,
    *,
    time_scale: float = 1.0,
) -> FleetFacts:
    """Return the facts of ``plan`` for ``release``; every release on the shelf is signed."""
    assert release.by_arch, "a release holds an artifact"
    devices = state.devices
    rows = devices.rows(plan.targets)
    infos: list[Info] = devices.vocabularies["info"].values
    codes, counts = np.unique(devices.column(Device.info)[rows], return_counts=True)
    kinds = [(infos[code], int(count)) for code, count in zip(codes, counts, strict=True)]
    intervals = devices.column(Device.interval_seconds)[rows]
    known = intervals[~np.isnan(intervals)]
    sample_seconds = float(np.median(known)) if len(known) else None
    is_unwell = devices.unwell & devices.column(Device.is_online)
    return FleetFacts(
        waves={wave.name: len(wave.members) for wave in plan.waves},
        offline=plan.offline_count,
        types=_tally(kinds, lambda info: info.device_type),
        regions=_tally(kinds, lambda info: info.region),
        uncovered=plan.uncovered,
        groups=_groups(state, plan, kinds, baselines, sample_seconds),
        unwell=tuple(devices.names[row] for row in rows[is_unwell[rows]].tolist()),
        no_space=tuple(
            name for reason, names in plan.excluded.items() if reason.startswith(NO_SPACE) for name in names
        ),
        single_points=_single_points(state, plan),
        signals=_signals(kinds),
        lines=() if distribution is None else distribution.sites,
        artifact_bytes=max(each.artifact_size_bytes for each in release.by_arch.values()),
        time_scale=time_scale,
        sample_seconds=sample_seconds,
    )


def _tally(kinds: list[tuple[Info, int]], text: Callable[[Info], str]) -> dict[str, int]:
    tally: Counter[str] = Counter()
    for info, count in kinds:
        tally[text(info)] += count
    return dict(tally)


def _groups(
    state: State,
    plan: Plan,
    kinds: list[tuple[Info, int]],
    baselines: Mapping[str, Baseline],
    sample_seconds: float | None,
) -> dict[str, GroupFacts]:
    in_canary = Counter(state.devices[name].info.group for name in plan.waves[0].members)
    facts: dict[str, GroupFacts] = {}
    for group, targets in _tally(kinds, lambda info: info.group).items():
        baseline = baselines.get(group)
        rate = per_minute = None
        lacks: frozenset[Metric] = frozenset()
        if baseline is not None:
            rate, lacks = baseline.error_rate, _lacking(baseline)
            if sample_seconds and baseline.sample_count:
                per_minute = baseline.request_count / baseline.sample_count * 60 / sample_seconds
        facts[group] = GroupFacts(targets, in_canary[group], baseline is not None, rate, per_minute, lacks)
    return facts


def _lacking(baseline: Baseline) -> frozenset[Metric]:
    """Return what may be compared with a baseline, and not with this one."""
    known = {
        Metric.LATENCY_P50: baseline.latency_p50_seconds,
        Metric.LATENCY_P95: baseline.latency_p95_seconds,
        Metric.LATENCY_P99: baseline.latency_p99_seconds,
        Metric.CPU: baseline.cpu_ratio,
        Metric.QUALITY: baseline.quality or None,
    }
    return frozenset(metric for metric, value in known.items() if value is None)


def _single_points(state: State, plan: Plan) -> dict[str, tuple[str, ...]]:
    infos = state.devices.vocabularies["info"].values
    single = np.array([info.single_point_of_failure for info in infos], dtype=np.bool_)
    if not single.any():
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for wave in plan.waves:
        marks = single[state.devices.column(Device.info)[state.devices.rows(wave.members)]]
        if marks.any():
            found[wave.name] = tuple(name for name, mark in zip(wave.members, marks, strict=True) if mark)
    return found


def _signals(kinds: list[tuple[Info, int]]) -> dict[str, dict[str, int]]:
    signals: dict[str, Counter[str]] = {}
    for info, count in kinds:
        of_type = signals.setdefault(info.device_type, Counter())
        for signal in info.signals:
            of_type[signal] += count
    return {device_type: dict(counts) for device_type, counts in signals.items()}

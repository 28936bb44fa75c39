"""Rule L014: what device types announce that they report, and what is judged by it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from orchestrator.lint.facts import FleetFacts
from orchestrator.lint.finding import Finding, counted, name_some, note, warning
from orchestrator.lint.scene import Scene
from schemas.conditions import LATENCIES, Metric

SIGNALS: Final[Mapping[Metric, str]] = {
    Metric.ERROR_RATE: "error_rate",
    Metric.ERROR_RATE_RISES: "error_rate",
    **dict.fromkeys(sorted(LATENCIES), "latency"),
    Metric.CPU: "cpu",
    Metric.QUALITY: "quality",
    Metric.MEMORY_GROWTH: "memory",
    Metric.DISK_GROWTH: "disk",
    Metric.TEMPERATURE: "temperature",
    Metric.LOG_ERRORS: "log_errors",
    Metric.THROTTLE_EVENTS: "throttle_events",
}
"""What a device lists among its signals if a metric can be known of it; the others are every device's."""


def is_announced(scene: Scene, metric: Metric) -> bool:
    """Say whether any target reports what a metric is taken from; so does each without a signal of its own."""
    signal, facts = SIGNALS.get(metric), scene.facts
    return signal is None or facts is None or any(reporting.get(signal) for reporting in facts.signals.values())


def never_reported(scene: Scene) -> Iterator[Finding]:
    """L014: a metric of which a device type says nothing."""
    facts = scene.facts
    if facts is None:
        return
    unknown = {name for name, reporting in facts.signals.items() if not reporting}
    if unknown:
        devices = sum(facts.types.get(name, 0) for name in unknown)
        yield note(
            "L014",
            "health_gates",
            f"{counted(devices, 'device')} of {_kinds(unknown)} announce no signals: which checks can judge them shows "
            "only when they send samples",
            "let their client list the signals that it reports",
        )
    for check in scene.gate_checks:
        for name, signal, silent in _silent_types(facts, check.check.threshold.metric):
            yield warning(
                "L014",
                check.where,
                f"{silent} of type {name_some([name])} report no {signal}: the verdict stays inconclusive there",
                f"let their application report {signal}, or leave the check out for them in a policy of their own",
            )
    for trigger in scene.triggers:
        for name, signal, silent in _silent_types(facts, trigger.trigger.condition.metric):
            yield note(
                "L014",
                trigger.where,
                f"{silent} of type {name_some([name])} report no {signal}: {trigger.trigger.name} never fires for them",
                f"let their application report {signal}",
            )
    yield from _unjudged_phases(scene, facts)


def _silent_types(facts: FleetFacts, metric: Metric) -> Iterator[tuple[str, str, str]]:
    """Yield each type that announces other signals, with the one that is missing and of how many of its devices."""
    signal = SIGNALS.get(metric)
    for name, reporting in sorted(facts.signals.items()):
        devices = facts.types.get(name, 0)
        silent = devices - reporting.get(signal, 0) if signal is not None and reporting else 0
        if signal is not None and silent > 0:
            yield name, signal, f"{silent:,} of {counted(devices, 'device')}"


def _unjudged_phases(scene: Scene, facts: FleetFacts) -> Iterator[Finding]:
    """Name the phase checks that a type's canaries are never judged by; types that lack the same together."""
    lacking: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for name, reporting in facts.signals.items():
        missing = tuple(
            f"{check.phase}: {check.check.type}"
            for check in scene.phase_checks
            if reporting and SIGNALS.get(check.check.threshold.metric, "") not in {"", *reporting}
        )
        if missing:
            lacking[missing].add(name)
    for missing, names in sorted(lacking.items()):
        devices = sum(facts.types.get(name, 0) for name in names)
        yield note(
            "L014",
            "rollout.canary.phases",
            f"a canary among {counted(devices, 'device')} of {_kinds(names)} is not judged by "
            f"{counted(len(missing), 'check')} unless its samples hold what it does not announce: {', '.join(missing)}",
            "let their application report it, or leave these checks out of rollout.canary.phases",
        )


def _kinds(names: set[str]) -> str:
    return f"{'type' if len(names) == 1 else 'types'} {name_some(names)}"

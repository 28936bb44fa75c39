"""Rule L012: limits that need a baseline, and groups that have none to give."""

from collections import defaultdict
from collections.abc import Collection, Iterator

from orchestrator.lint.facts import FleetFacts
from orchestrator.lint.finding import Finding, counted, error, name_some, note
from orchestrator.lint.scene import PlacedCheck, Scene
from orchestrator.lint.signals import is_announced
from schemas.conditions import Metric


def no_baseline(scene: Scene) -> Iterator[Finding]:
    """L012: a group with nothing to be compared with, or not with what the policy compares."""
    if scene.facts is not None:
        yield from _unknown_groups(scene, scene.facts)
        yield from _missing_metrics(scene, scene.facts)


def _unknown_groups(scene: Scene, facts: FleetFacts) -> Iterator[Finding]:
    places = [each.where for each in scene.gate_checks if each.check.threshold.needs_baseline]
    places += [each.where for each in scene.triggers if each.trigger.condition.needs_baseline]
    phases = [
        each.where
        for each in scene.phase_checks
        if each.check.threshold.needs_baseline and is_announced(scene, each.check.threshold.metric)
    ]
    groups = [name for name, group in facts.groups.items() if not group.has_baseline and (places or group.canary)]
    places += phases
    if groups and places:
        devices = sum(facts.groups[name].targets for name in groups)
        yield error(
            "L012",
            places[0],
            f"{counted(len(groups), 'group')} with {counted(devices, 'device')} cannot be compared with a baseline: "
            f"{name_some(groups)}; {counted(len(places), 'limit')} of this policy must be",
            f"let them run until {scene.policy.baseline.min_samples} requests were seen, or give absolute limits",
        )


def _missing_metrics(scene: Scene, facts: FleetFacts) -> Iterator[Finding]:
    """Where a group has a baseline, and what a limit is taken from is not in it."""
    by_metric: defaultdict[Metric, list[PlacedCheck]] = defaultdict(list)
    for each in scene.gate_checks:
        if each.check.threshold.needs_baseline:
            by_metric[each.check.threshold.metric].append(each)
    for metric, checks in by_metric.items():
        of_canary = all(each.is_of_canary for each in checks)
        groups = _lacking(facts, metric, of_canary=of_canary)
        if groups:
            yield error(
                "L012",
                checks[0].where,
                f"{_named(groups)} never reported {metric}: {counted(len(checks), 'check')} against its baseline can "
                "only be inconclusive, and the rollout halts",
                f"an absolute limit, a policy without it for these devices, or an application that reports {metric}",
            )
    for placed in scene.triggers:
        condition = placed.trigger.condition
        groups = _lacking(facts, condition.metric, of_canary=False) if condition.needs_baseline else []
        if groups:
            yield note(
                "L012",
                placed.where,
                f"{_named(groups)} never reported {condition.metric}: {placed.trigger.name} never fires for them",
                "an absolute limit for them, in a policy of their own",
            )


def _lacking(facts: FleetFacts, metric: Metric, *, of_canary: bool) -> list[str]:
    groups = facts.groups.items()
    return [name for name, group in groups if metric in group.lacks and (group.canary or not of_canary)]


def _named(groups: Collection[str]) -> str:
    return f"{counted(len(groups), 'group')} ({name_some(groups)})"

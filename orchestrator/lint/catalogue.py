"""All rules by their ids, and how they are asked.

A rule is a function of a ``Scene``; what it finds carries its id. Ids are never used twice: policies silence by them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from orchestrator.lint.baselines import no_baseline
from orchestrator.lint.canary import exceeds_cap, misses_groups, single_points, underpowered
from orchestrator.lint.facts import FleetFacts
from orchestrator.lint.finding import Finding
from orchestrator.lint.fleet import (
    coverage_unreachable,
    development_settings,
    no_space,
    rounds_to_zero,
    too_few_healthy,
)
from orchestrator.lint.idle import hidden_limits, never_trips
from orchestrator.lint.lines import slow_lines
from orchestrator.lint.over_bus import over_bus
from orchestrator.lint.scene import Scene
from orchestrator.lint.signals import never_reported
from orchestrator.lint.silence import unknown_silence
from orchestrator.lint.tolerance import zero_tolerance
from orchestrator.lint.windows import ambiguous_percent, longer_than_soak
from orchestrator.lint.written import Written
from schemas.policy import Policy

RULES: Final[Mapping[str, Callable[[Scene], Iterator[Finding]]]] = {
    "L001": never_trips,
    "L002": zero_tolerance,
    "L003": underpowered,
    "L004": longer_than_soak,
    "L005": ambiguous_percent,
    "L006": coverage_unreachable,
    "L007": rounds_to_zero,
    "L008": misses_groups,
    "L009": exceeds_cap,
    "L010": hidden_limits,
    "L011": no_space,
    "L012": no_baseline,
    "L013": single_points,
    "L014": never_reported,
    "L015": development_settings,
    "L016": lambda scene: unknown_silence(scene, RULES),
    "L017": slow_lines,
    "L018": over_bus,
    "L019": too_few_healthy,
}

_ORDER: Final = ("error", "warning", "note")


def lint_policy(policy: Policy, *, text: str = "") -> tuple[Finding, ...]:
    """Return what can be said of a policy without a fleet, the worst first.

    Args:
        policy: What it says.
        text: How it was written, where that is known; percentages are ambiguous only as text.
    """
    return _lint(Scene(policy, None, Written(text)))


def lint_rollout(policy: Policy, facts: FleetFacts, *, text: str = "") -> tuple[Finding, ...]:
    """Return what can be said of a policy for this fleet and plan, the worst first; includes ``lint_policy``'s part."""
    return _lint(Scene(policy, facts, Written(text)))


def as_data(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as they stand in documents and answers."""
    return [each.model_dump(exclude_none=True) for each in findings]


def _lint(scene: Scene) -> tuple[Finding, ...]:
    accepted = scene.policy.lint.silence
    found = [_silenced(located(each, scene.file), accepted) for rule in RULES.values() for each in rule(scene)]
    return tuple(sorted(found, key=lambda each: (each.silenced is not None, _ORDER.index(each.severity))))


def _silenced(finding: Finding, accepted: Mapping[str, str]) -> Finding:
    """Mark what the policy accepts; an error stands, and says so."""
    reason = accepted.get(finding.id)
    if reason is None:
        return finding
    if finding.severity == "error":
        return finding.model_copy(update={"remedy": f"{finding.remedy}; an error is not silenced by {reason!r}"})
    return finding.model_copy(update={"silenced": reason})


def located(finding: Finding, file: Written) -> Finding:
    """Return a finding with its line and column, where the file holds them."""
    place = file.place(finding.where)
    return finding if place is None else finding.model_copy(update={"line": place[0], "column": place[1]})

"""All rules by their ids, and how they are asked.

A rule is a function of a ``Scene``; what it finds carries its id. Ids are never used twice: policies silence by them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from orchestrator.lint.canary import exceeds_cap, misses_groups, single_points, underpowered
from orchestrator.lint.facts import FleetFacts
from orchestrator.lint.finding import Finding
from orchestrator.lint.fleet import (
    coverage_unreachable,
    development_settings,
    never_reported,
    no_baseline,
    no_space,
    rounds_to_zero,
)
from orchestrator.lint.idle import hidden_limits, never_trips
from orchestrator.lint.scene import Scene
from orchestrator.lint.tolerance import zero_tolerance
from orchestrator.lint.windows import ambiguous_percent, longer_than_soak
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
}

CANNOT_PROCEED: Final = frozenset({"L006", "L012"})
"""Rules whose errors cannot be silenced: the rollout would be refused or wait for ever all the same."""

_ORDER: Final = ("error", "warning", "info")


def lint_policy(policy: Policy, *, text: str = "") -> tuple[Finding, ...]:
    """Return what can be said of a policy without a fleet, the worst first.

    Args:
        policy: What it says.
        text: How it was written, where that is known; percentages are ambiguous only as text.
    """
    return _lint(Scene(policy, None, text))


def lint_rollout(policy: Policy, facts: FleetFacts, *, text: str = "") -> tuple[Finding, ...]:
    """Return what can be said of a policy for this fleet and plan, the worst first; includes ``lint_policy``'s part."""
    return _lint(Scene(policy, facts, text))


def as_data(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as they stand in documents and answers."""
    return [each.model_dump(exclude_none=True) for each in findings]


def _lint(scene: Scene) -> tuple[Finding, ...]:
    accepted = scene.policy.lint.silence
    found = [_silence(each, accepted) for rule in RULES.values() for each in rule(scene)]
    return tuple(sorted(found, key=lambda each: (each.silenced is not None, _ORDER.index(each.severity))))


def _silence(finding: Finding, accepted: Mapping[str, str]) -> Finding:
    reason = accepted.get(finding.id)
    if reason is None or (finding.severity == "error" and finding.id in CANNOT_PROCEED):
        return finding
    return finding.model_copy(update={"silenced": reason})

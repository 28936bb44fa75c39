"""Rule L016: what the policy accepts and nobody says."""

from collections.abc import Collection, Iterator
from difflib import get_close_matches

from orchestrator.lint.finding import Finding, warning
from orchestrator.lint.scene import Scene


def unknown_silence(scene: Scene, rules: Collection[str]) -> Iterator[Finding]:
    """L016: a silence for a rule that this version does not have; it would hide nothing, and seem to."""
    for rule in sorted(set(scene.policy.lint.silence) - set(rules)):
        near = get_close_matches(rule, rules, n=1)
        yield warning(
            "L016",
            f"lint.silence.{rule}",
            f"{rule} is none of the {len(rules)} rules, so that its silence hides nothing",
            f"leave it out{f', or write {near[0]}' if near else ''}; docs/LINT.md lists the rules",
        )

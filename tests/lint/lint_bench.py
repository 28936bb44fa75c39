"""Builders of fleets for lint: what a plan of the reference's policy looks like for so many devices."""

from typing import Any

from orchestrator.lint.catalogue import lint_policy, lint_rollout
from orchestrator.lint.facts import FleetFacts, GroupFacts
from orchestrator.lint.finding import Finding
from orchestrator.lint.signals import SIGNALS
from orchestrator.planning.distribution import SiteShare
from schemas.conditions import percent_of
from schemas.messages import FetchLimits
from schemas.policy import Policy

REFERENCE = Policy()


def make_facts(devices: int = 100, canary: int | None = None, **changes: Any) -> FleetFacts:  # noqa: ANN401 - any field of the facts
    """Return a fleet of one type, region and group under the reference's waves: 15%, 35% and the rest."""
    first = min(-(-devices * 3 // 100), 10) if canary is None else canary
    pool = devices - first
    shares = [percent_of(pool, share)[1] for share in (15, 35)]
    sizes = {"canary": first, "wave-1": shares[0], "wave-2": shares[1], "wave-3": pool - sum(shares)}
    return FleetFacts(
        **{
            "waves": {name: size for name, size in sizes.items() if size},
            "types": {"pi": devices},
            "regions": {"north": devices},
            "groups": {"vision": make_group(devices, first)},
            "signals": {"pi": dict.fromkeys(set(SIGNALS.values()), devices)},
            **changes,
        }
    )


def make_group(targets: int = 100, canary: int = 3, **changes: Any) -> GroupFacts:  # noqa: ANN401 - any field of a group
    return GroupFacts(**{"targets": targets, "canary": canary, "error_rate": 0.003, **changes})


def make_line(*, without_http: int = 0, over_bus: int = 0, bus_bytes: int = 0, **limits: Any) -> SiteShare:  # noqa: ANN401 - any field of the limits
    """Return a site of ten devices that may take so much of its line, or have what they have from the broker."""
    return SiteShare(
        site="plant-7",
        through="registry",
        devices=10,
        without_http=without_http,
        over_bus=over_bus,
        bus_bytes=bus_bytes,
        wan_bytes=0,
        direct_bytes=0,
        limits=FetchLimits(**limits) if limits else None,
    )


def make_policy(**blocks: Any) -> Policy:  # noqa: ANN401 - any block of a policy
    """Return the reference's policy with some blocks written anew."""
    return Policy.model_validate(blocks)


def found(rule: str, policy: Policy, facts: FleetFacts | None = None, *, text: str = "") -> list[Finding]:
    """Return what one rule finds."""
    findings = lint_policy(policy, text=text) if facts is None else lint_rollout(policy, facts, text=text)
    return [each for each in findings if each.id == rule]

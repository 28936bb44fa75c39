"""What is watched of a canary, phase by phase, before its gate is judged.

In the immediate and the short-term phase a broken check brings the canary back. In the soak the short-term checks stay
in force, and a broken check of the soak itself is a caution: the soak is extended.

Source:
    Reference, "Canary Health Evaluation"; the limits that it leaves open: DECISIONS.md, 27.
"""

from typing import Final, Literal, get_args

from schemas.policy_block import Block
from schemas.policy_gates import CheckType, Gate

CanaryPhase = Literal["immediate", "short_term", "soak"]
CANARY_PHASES: Final[tuple[CanaryPhase, ...]] = get_args(CanaryPhase)

_FACTS: Final = frozenset({"crash_count", "log_errors", "throttle_events", "application_health", "version_match"})
"""What one sample can show."""


def _phase(description: str, *checks: tuple[CheckType, object, str | None]) -> Gate:
    rows = [
        {"type": type_, "threshold": threshold, "window": window, "min_samples": 1 if type_ in _FACTS else 20}
        for type_, threshold, window in checks
    ]
    return Gate.model_validate({"description": description, "checks": rows})


class CanaryPhases(Block):
    """The ``phases:`` of a canary; the reference's where they are not written."""

    immediate: Gate = _phase(
        "It starts, answers, is the version it should be, and logs no errors",
        ("crash_count", 0, None),
        ("application_health", "all_healthy", None),
        ("version_match", "all_matching", None),
        ("log_errors", 0, None),
    )
    short_term: Gate = _phase(
        "It serves as well as the version before and restarts nothing",
        ("error_rate", "baseline + 2%", "15m"),
        ("latency_p95", "baseline + 20%", "15m"),
        ("memory_trend", "growth < 1% per 10m", "15m"),
        ("cpu", "baseline + 20%", "15m"),
        ("application_health", "all_healthy", None),
        ("crash_count", 0, None),
    )
    soak: Gate = _phase(
        "Nothing drifts",
        ("memory_trend", "growth < 1% per 10m", "30m"),
        ("throttle_events", 0, "30m"),
        ("quality", "baseline - 5%", "30m"),
        ("disk_trend", "growth < 5% per 10m", "30m"),
    )

    def gate(self, phase: CanaryPhase) -> Gate:
        """Return what is watched in ``phase``."""
        gate: Gate = getattr(self, phase)
        return gate

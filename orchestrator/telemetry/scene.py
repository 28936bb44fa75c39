"""What triggers look at, and how a firing one shows its evidence."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from orchestrator.telemetry.evidence import Evidence
from orchestrator.telemetry.values import limit_text
from schemas.documents import CheckResult
from schemas.policy import Trigger
from schemas.verdicts import Verdict

Found = Iterable[tuple[Collection[str], CheckResult]]
"""The devices that each piece of evidence is about."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a trigger may look at: the evidence, and how the current wave went."""

    evidence: Evidence
    failed: frozenset[str]
    wave_size: int
    thermal_limit_celsius: float


def shown(
    trigger: Trigger, text: str, *, observed: float, limit: float, samples: int, baseline: float | None = None
) -> CheckResult:
    """Return evidence that breaks a trigger's limit."""
    return CheckResult(
        check=trigger.name,
        limit_expr=str(trigger.condition),
        observed=observed,
        baseline=baseline,
        limit=limit,
        samples=samples,
        verdict=Verdict.FAIL.word,
        why=f"{text}, {limit_text(trigger.condition, limit, baseline)}",
    )

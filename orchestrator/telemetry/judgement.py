"""How every check ends: broken, in doubt or passed, with the numbers and the reason."""

from collections.abc import Callable, Iterable
from typing import Final

from orchestrator.telemetry.evidence import Evidence, name_some
from orchestrator.telemetry.window import BAD_SAMPLES_MAX, Window
from schemas.documents import CheckResult
from schemas.policy import Check
from schemas.verdicts import Verdict, worst

Judge = Callable[[Check, Evidence], CheckResult]

_WHY_MAX: Final = 1024  # what the wire's text holds


def doubts(check: Check, limit: float | None, window: Window, samples: int, noun: str) -> list[str]:
    """Name what keeps any check from passing."""
    found = ["there is no limit without a baseline"] if limit is None else []
    if window.silent:
        found.append(f"no fresh sample of this version from {name_some(window.silent)}")
    if window.suspect:
        found.append(f"more than {BAD_SAMPLES_MAX} bad samples from {name_some(window.suspect)}")
    if samples < check.min_samples:
        found.append(f"{samples} {noun}, at least {check.min_samples} are needed")
    return found


def result(
    check: Check,
    *,
    is_broken: bool,
    doubts: list[str],
    text: str,
    observed: float | None,
    limit: float | None,
    samples: int,
    baseline: float | None = None,
) -> CheckResult:
    """Return a check's result: a fail on evidence, a pass only without a doubt."""
    verdict = Verdict.FAIL if is_broken else Verdict.INCONCLUSIVE if doubts else Verdict.PASS
    parts = [text, *doubts] if text else doubts
    return CheckResult(
        check=check.type,
        limit_expr=str(check.threshold),
        observed=observed,
        baseline=baseline,
        limit=limit,
        samples=samples,
        verdict=verdict.word,
        why="; ".join(parts)[:_WHY_MAX],
        dry_run=check.dry_run,
    )


def verdict_of(results: Iterable[CheckResult]) -> Verdict:
    """Return the worst verdict of those that are no dry runs; inconclusive where there are none."""
    return worst(Verdict.from_word(each.verdict) for each in results if not each.dry_run)

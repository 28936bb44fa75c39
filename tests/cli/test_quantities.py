import pytest

from orchestrator.cli.quantities import margin, margin_text
from schemas.documents import CheckResult
from schemas.verdicts import VerdictWord


def check(expr: str, observed: float | None, limit: float | None, baseline: float | None, verdict: str) -> CheckResult:
    return CheckResult.model_validate(
        {"check": "it", "limit_expr": expr, "observed": observed, "limit": limit, "baseline": baseline, "samples": 9,
         "verdict": verdict, "why": ""}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("expr", "observed", "limit", "baseline", "verdict", "left"),
    [
        ("error_rate <= baseline + 2pp", 0.01, 0.03, 0.01, "pass", 1.0),
        ("error_rate <= baseline + 2pp", 0.02, 0.03, 0.01, "pass", 0.5),
        ("error_rate <= baseline + 2pp", 0.05, 0.03, 0.01, "fail", -1.0),
        ("healthy_percentage >= 95%", 0.96, 0.95, None, "pass", 0.2),
        ("healthy_percentage >= 95%", 0.90, 0.95, None, "fail", -1.0),
        ("error_rate > baseline + 10pp", 0.5, 0.1, 0.0, "fail", -4.0),
        ("failed devices > 20% of wave", 0.3, 0.2, None, "fail", -0.5),
        ("crash_count <= 0", 0.0, 0.0, None, "pass", None),
        ("error_rate <= baseline + 2pp", None, 0.03, 0.01, "inconclusive", None),
        ("error_rate <= baseline + 2pp", 0.01, None, None, "inconclusive", None),
    ],
)  # fmt: skip
def test_the_margin_is_the_share_of_the_room_to_the_limit_and_negative_beyond_it(
    expr: str, observed: float | None, limit: float | None, baseline: float | None, verdict: VerdictWord,
    left: float | None,
) -> None:  # fmt: skip
    result = margin(check(expr, observed, limit, baseline, verdict))

    assert result == (None if left is None else pytest.approx(left))


def test_a_margin_is_written_as_a_percentage() -> None:
    assert margin_text(check("error_rate <= 3%", 0.015, 0.03, None, "pass")) == "50%"
    assert margin_text(check("error_rate <= 3%", None, 0.03, None, "inconclusive")) == "-"

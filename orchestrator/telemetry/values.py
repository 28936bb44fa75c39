"""How the numbers of checks and triggers are said."""

from schemas.conditions import GROWTHS, LATENCIES, RATES, Condition, GrowthPer, Metric
from schemas.times import format_duration


def format_value(metric: Metric, value: float | None) -> str:
    """Write a metric's value for people."""
    if value is None:
        return "nothing"
    if metric in RATES:
        return f"{value * 100:.2f}%"
    if metric in GROWTHS:
        return f"{value * 100:.3g}%"
    if metric in LATENCIES:
        return f"{value * 1000:.3g} ms" if value < 1 else format_duration(value)
    match metric:
        case Metric.ENDPOINT_DOWN:
            return format_duration(value)
        case Metric.TEMPERATURE:
            return f"{value:.1f} °C"
        case _:
            return f"{value:.4g}" if value % 1 else f"{value:g}"


def limit_text(condition: Condition, limit: float | None, baseline: float | None) -> str:
    """Write a limit for people, with the baseline it comes from."""
    if limit is None:
        return "no baseline to compare with"
    if isinstance(condition.limit, GrowthPer):
        return f"limit {condition.limit_text()}"
    text = f"limit {format_value(condition.metric, limit)}"
    if not condition.needs_baseline:
        return text
    added = str(condition).partition(" baseline")[2]
    return f"{text} (baseline {format_value(condition.metric, baseline)}{added})"

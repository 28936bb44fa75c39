"""Reads a policy's threshold and condition strings, and durations, as typed conditions.

What is printed by ``str(condition)`` reads as the same condition again. An error shows the text with a caret, examples,
and the nearest word that would have been understood.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

from lark import Lark, Token, Transformer, UnexpectedInput
from lark.exceptions import VisitError
from pydantic import ValidationError

from schemas.conditions import (
    GOOD,
    GROWTHS,
    LATENCIES,
    RATES,
    Absolute,
    BaselinePlus,
    BaselineTimes,
    Condition,
    GrowthPer,
    Limit,
    Metric,
    ThermalLimit,
)
from schemas.errors import PolicyError

_GRAMMAR: Final = r"""
    threshold: bound -> bare | NAME OPERATOR bound -> comparison | EVERYTHING -> everything
    quality: threshold | lower -> bare | NAME OPERATOR lower -> comparison
    growth: ("growth" | GROWTH)? OPERATOR NUMBER "%" "per" duration -> growing
    trigger: "device" "restarts" OPERATOR NUMBER "in" duration -> restarts
           | "health" "endpoint" "unreachable" "for" OPERATOR duration -> endpoint_down
           | "failed" "devices" OPERATOR NUMBER "%" "of" "wave" -> failed_devices
           | "error_rate" "increasing" "for" NUMBER "consecutive" "checks" ("of" duration)? -> rises
           | "temperature" "trending" "toward" "thermal" "limit" -> thermal
           | GROWTH OPERATOR NUMBER "%" "per" duration -> growing
           | NAME OPERATOR bound -> comparison
    bound: NUMBER -> number
         | NUMBER "%" -> percent
         | duration -> time
         | "baseline" "+" NUMBER "%" -> plus
         | "baseline" "+" NUMBER "pp" -> plus_points
         | "baseline" "+" NUMBER "%" "rel" -> plus_relative
         | "baseline" "*" NUMBER -> times
    lower: "baseline" "-" NUMBER "%" -> minus
         | "baseline" "-" NUMBER "%" "rel" -> minus
    duration: NUMBER UNIT
    NAME: /(error_rate|p(50|95|99)_latency|latency_p(50|95|99)|cpu|quality|crash_count|log_errors|throttle_events)\b/
        | /(healthy|matching|deployed)_percentage\b/
    GROWTH: /(memory|disk)_growth\b/
    EVERYTHING: /all_(healthy|matching|deployed)\b/
    OPERATOR: ">=" | "<=" | ">" | "<"
    UNIT: /(milliseconds?|ms|seconds?|minutes?|hours?|min|s|m|h)\b/
    NUMBER: /[0-9]+(\.[0-9]+)?/
    %ignore /[ \t]+/
"""
_UNIT_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_EXAMPLES: Final = {
    "threshold": (
        "baseline + 2%", "baseline * 1.5", "0", "250ms", "all_healthy", "healthy_percentage >= 95%",
        "deployed_percentage >= 95%",
    ),
    "quality": ("baseline - 5%", "0.9"),
    "growth": ("growth < 1% per 10m", "memory_growth < 1% per 10 minutes"),
    "trigger": (
        "device restarts > 3 in 5 minutes", "error_rate > baseline + 10%", "p95_latency > baseline * 2.0",
        "memory_growth > 5% per 10 minutes", "error_rate increasing for 3 consecutive checks",
        "temperature trending toward thermal limit", "health endpoint unreachable for > 2 minutes",
        "failed devices > 20% of wave",
    ),
    "duration": ("15m", "30s", "24h"),
}  # fmt: skip
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class _Bound:
    """A limit as written, before it is known of what."""

    kind: str
    number: float

    def of(self, metric: Metric) -> Limit:
        """Read it for a metric: an unmarked ``baseline + N%`` is points for rates and relative for magnitudes."""
        match self.kind:
            case "percent" if metric not in RATES:
                raise PolicyError(f"{self.number:g}% of what? {metric} is no rate")
            case "time" if metric not in LATENCIES:
                raise PolicyError(f"{metric} is no time")
            case "plus_points" if metric not in RATES:
                raise PolicyError(f"{metric} has no percentage points; write '% rel'")
            case "minus" if metric is not Metric.QUALITY:
                raise PolicyError(f"{metric} has no limit below its baseline; only quality has")
            case "percent":
                return Absolute(value=self.number / 100)
            case "number" | "time":
                return Absolute(value=self.number)
            case "times":
                return BaselineTimes(factor=self.number)
            case "minus":
                return BaselinePlus(amount=-self.number / 100, relative=True)
            case _:
                relative = self.kind == "plus_relative" or (self.kind == "plus" and metric not in RATES)
                return BaselinePlus(amount=self.number / 100, relative=relative)


class _Builder(Transformer[Token, Any]):
    """Turns a parse tree into a Condition; ``metric`` is what a bare threshold is about."""

    def __init__(self, metric: Metric | None) -> None:
        super().__init__()
        self._metric = metric

    def __default__(self, data: Token, children: list[Any], _meta: object) -> Any:  # noqa: ANN401 - lark's
        """Bounds that need no reading beyond their number, and rules that only pass on."""
        if data in {"threshold", "quality"}:
            return children[0]
        return _Bound(str(data), float(children[0]))

    def duration(self, items: list[Token]) -> float:
        unit = items[1]
        return float(items[0]) * (0.001 if unit.startswith(("ms", "milli")) else _UNIT_SECONDS[unit[0]])

    def bare(self, items: list[_Bound]) -> Condition:
        assert self._metric is not None, "a threshold belongs to a check"
        operator = ">=" if self._metric in GOOD else "<="
        return _condition(self._metric, operator, items[0].of(self._metric))

    def comparison(self, items: list[Any]) -> Condition:
        metric = _metric(items[0])
        return _condition(metric, items[1], items[2].of(metric))

    def everything(self, items: list[Token]) -> Condition:
        metric = Metric(f"{items[0].removeprefix('all_')}_percentage")
        return _condition(metric, ">=", Absolute(value=1.0))

    def growing(self, items: list[Any]) -> Condition:
        *name, operator, number, seconds = items
        metric = Metric(name[0]) if name else self._metric
        assert metric is not None, "a growth without a name belongs to a check"
        return _condition(metric, operator, GrowthPer(amount=float(number) / 100, per_seconds=seconds))

    def restarts(self, items: list[Any]) -> Condition:
        return _condition(Metric.DEVICE_RESTARTS, items[0], Absolute(value=float(items[1])), items[2])

    def endpoint_down(self, items: list[Any]) -> Condition:
        return _condition(Metric.ENDPOINT_DOWN, items[0], Absolute(value=items[1]))

    def failed_devices(self, items: list[Token]) -> Condition:
        return _condition(Metric.FAILED_PERCENTAGE, items[0], Absolute(value=float(items[1]) / 100))

    def rises(self, items: list[Any]) -> Condition:
        count = float(items[0])
        if not (count.is_integer() and 1 <= count <= _RISES_MAX):
            raise PolicyError(f"{items[0]} consecutive checks: write a whole number from 1 to {_RISES_MAX}")
        return _condition(Metric.ERROR_RATE_RISES, ">=", Absolute(value=count), *items[1:])

    def thermal(self, _items: list[Any]) -> Condition:
        return _condition(Metric.TEMPERATURE, ">=", ThermalLimit())


_RISES_MAX: Final = 10


def _metric(name: str) -> Metric:
    """Read a metric's name; the reference writes the latency's percentile in front as well."""
    percentile = name.removesuffix("_latency")
    return Metric(f"latency_{percentile}" if percentile != name else name)


def _condition(metric: Metric, operator: str, limit: Limit, window_seconds: float | None = None) -> Condition:
    return Condition.model_validate(
        {"metric": metric, "operator": str(operator), "limit": limit, "window_seconds": window_seconds}
    )


@cache
def _parser(start: str) -> Lark:
    return Lark(_GRAMMAR, start=start, parser="earley")


def _parse(text: str, start: str, metric: Metric | None = None) -> Any:  # noqa: ANN401 - one of two types by ``start``
    try:
        return _Builder(metric).transform(_parser(start).parse(text))
    except UnexpectedInput as error:
        column = error.column if error.column > 0 else len(text) + 1
        examples = ", ".join(f"'{example}'" for example in _EXAMPLES[start][:5])
        caret = " " * (column - 1) + "^"
        raise PolicyError(
            f"cannot read it from column {column} on{_suggestion(text, start, column)}; "
            f"write for example {examples}\n{text}\n{caret}"
        ) from error
    except VisitError as error:
        cause = error.orig_exc
        said = cause.errors()[0]["msg"] if isinstance(cause, ValidationError) else str(cause)
        raise PolicyError(f"{text[:80]!r}: {said.removeprefix('Value error, ')}") from error


def _suggestion(text: str, start: str, column: int) -> str:
    """Name the whole condition or the word that was probably meant."""
    if len(text) > _SUGGESTED_LENGTH_MAX:
        return ""
    word = next((found[0] for found in _WORD.finditer(text) if found.end() >= column), "")
    known = {known for example in _EXAMPLES[start] for known in _WORD.findall(example)}
    known |= {str(metric) for metric in Metric if metric not in GROWTHS} if start in {"threshold", "trigger"} else set()
    near = get_close_matches(word, sorted(known - {word}), n=1) if word else []
    near = near or get_close_matches(text, _EXAMPLES[start], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


_SUGGESTED_LENGTH_MAX: Final = 200


def parse_threshold(text: str, metric: Metric) -> Condition:
    """Parse a check's threshold: what must hold of ``metric``.

    Raises:
        PolicyError: It does not parse; the author's fault. The text shows a caret, examples and a suggestion.
    """
    start = "growth" if metric in GROWTHS else "quality" if metric is Metric.QUALITY else "threshold"
    condition = _parse(text, start, metric)
    assert isinstance(condition, Condition)
    if condition.metric is not metric:
        raise PolicyError(f"{text!r} is about {condition.metric}, this check is about {metric}")
    return condition


def parse_trigger(text: str) -> Condition:
    """Parse a trigger's condition: what must not happen.

    Raises:
        PolicyError: As for ``parse_threshold``.
    """
    condition = _parse(text, "trigger")
    assert isinstance(condition, Condition)
    return condition


def parse_duration(text: str) -> float:
    """Read ``15m``, ``30 s`` or ``5 minutes`` as seconds.

    Raises:
        PolicyError: No duration; the author's fault.
    """
    seconds = _parse(text, "duration")
    if not isinstance(seconds, float) or seconds <= 0:
        raise PolicyError(f"{text!r} is no duration above zero")
    return seconds

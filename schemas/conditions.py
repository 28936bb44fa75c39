"""Conditions are data: the policy's threshold and trigger strings, parsed once into one typed form.

A check's condition says what must hold (``error_rate <= baseline + 2 points``), a trigger's what must not. Both are the
same value, judged by the same functions, and print back the way they were understood. ``baseline + N%`` adds percentage
points for rates and N percent of the baseline for magnitudes; ``pp`` and ``rel`` say it explicitly.

Source:
    Reference, "Defining Health Gates" and "Trigger Definitions"; reading of percentages: DECISIONS.md, 1.
"""

from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Final, Literal

from lark import Lark, Token, Transformer, UnexpectedInput
from lark.exceptions import VisitError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import PolicyError
from schemas.times import format_duration


class Metric(StrEnum):
    """What can be observed. Rates are fractions 0..1, latencies and durations seconds, the rest counts."""

    ERROR_RATE = "error_rate"
    LATENCY_P95 = "latency_p95"
    CRASH_COUNT = "crash_count"
    HEALTHY_PERCENTAGE = "healthy_percentage"
    DEVICE_RESTARTS = "device restarts"
    ENDPOINT_DOWN = "health endpoint unreachable"
    FAILED_PERCENTAGE = "failed devices"


RATES: Final = frozenset({Metric.ERROR_RATE, Metric.HEALTHY_PERCENTAGE, Metric.FAILED_PERCENTAGE})
"""Metrics that are fractions of a whole: ``baseline + N%`` adds points to them."""

COMPARABLE: Final = frozenset({Metric.ERROR_RATE, Metric.LATENCY_P95})
"""Metrics that have a baseline."""

Operator = Literal["<", "<=", ">", ">="]


class _Limit(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Absolute(_Limit):
    """A fixed number in the metric's unit."""

    kind: Literal["absolute"] = "absolute"
    value: float


class BaselinePlus(_Limit):
    """The baseline plus ``amount``: in the metric's unit, or as a fraction of the baseline if ``relative``."""

    kind: Literal["baseline_plus"] = "baseline_plus"
    amount: float
    relative: bool


class BaselineTimes(_Limit):
    """The baseline multiplied by ``factor``."""

    kind: Literal["baseline_times"] = "baseline_times"
    factor: Annotated[float, Field(gt=0)]


Limit = Annotated[Absolute | BaselinePlus | BaselineTimes, Field(discriminator="kind")]


class Condition(BaseModel):
    """``metric operator limit``, with the time over which the metric is counted where the text names one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: Metric
    operator: Operator
    limit: Limit
    window_seconds: Annotated[float, Field(gt=0)] | None = None

    @property
    def needs_baseline(self) -> bool:
        """Whether it can be judged only against a baseline."""
        return not isinstance(self.limit, Absolute)

    def limit_value(self, baseline: float | None) -> float | None:
        """Return the limit in the metric's unit; None where a baseline is needed and there is none."""
        match self.limit:
            case Absolute(value=value):
                return value
            case BaselinePlus(amount=amount, relative=relative) if baseline is not None:
                return baseline * (1 + amount) if relative else baseline + amount
            case BaselineTimes(factor=factor) if baseline is not None:
                return baseline * factor
            case _:
                return None

    def holds(self, observed: float, limit: float) -> bool:
        """Say whether ``observed operator limit``."""
        match self.operator:
            case "<":
                return observed < limit
            case "<=":
                return observed <= limit
            case ">":
                return observed > limit
            case ">=":
                return observed >= limit

    def scaled(self, time_scale: float) -> "Condition":
        """Return the condition with its window divided by ``time_scale``; durations as limits likewise."""
        window = None if self.window_seconds is None else self.window_seconds / time_scale
        limit = self.limit
        if self.metric is Metric.ENDPOINT_DOWN and isinstance(limit, Absolute):
            limit = Absolute(value=limit.value / time_scale)
        return self.model_copy(update={"window_seconds": window, "limit": limit})

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self._limit_text()}{self._window_text()}"

    def _limit_text(self) -> str:
        match self.limit:
            case Absolute(value=value):
                return self._amount_text(value)
            case BaselinePlus(amount=amount, relative=True):
                return f"baseline + {amount * 100:g}% rel"
            case BaselinePlus(amount=amount):
                return f"baseline + {amount * 100:g}pp"
            case BaselineTimes(factor=factor):
                return f"baseline * {factor:g}"

    def _amount_text(self, value: float) -> str:
        if self.metric in RATES:
            return f"{value * 100:g}%"
        return format_duration(value) if self.metric is Metric.ENDPOINT_DOWN else f"{value:g}"

    def _window_text(self) -> str:
        return "" if self.window_seconds is None else f" in {format_duration(self.window_seconds)}"


_GRAMMAR: Final = r"""
    threshold: bound | HEALTHY OPERATOR NUMBER "%" -> comparison | "all_healthy" -> all_healthy
    trigger: "device" "restarts" OPERATOR NUMBER "in" duration -> restarts
           | "health" "endpoint" "unreachable" "for" OPERATOR duration -> endpoint_down
           | "failed" "devices" OPERATOR NUMBER "%" "of" "wave" -> failed_devices
           | RATE OPERATOR bound -> metric_bound
    bound: NUMBER -> absolute
         | NUMBER "%" -> absolute_percent
         | "baseline" "+" NUMBER "%" -> baseline_plus
         | "baseline" "+" NUMBER "pp" -> baseline_plus_points
         | "baseline" "+" NUMBER "%" "rel" -> baseline_plus_relative
         | "baseline" "*" NUMBER -> baseline_times
    duration: NUMBER UNIT
    HEALTHY: "healthy_percentage"
    RATE: "error_rate"
    OPERATOR: ">=" | "<=" | ">" | "<"
    UNIT: /(seconds|second|minutes|minute|hours|hour|min|s|m|h)\b/
    NUMBER: /[0-9]+(\.[0-9]+)?/
    %ignore /[ \t]+/
"""
_UNIT_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}


class _Builder(Transformer[Token, Any]):
    """Turns a parse tree into a Condition; ``metric`` is what a bare threshold is about."""

    def __init__(self, metric: Metric | None) -> None:
        super().__init__()
        self._metric = metric

    def duration(self, items: list[Token]) -> float:
        return float(items[0]) * _UNIT_SECONDS[items[1][0]]

    def absolute(self, items: list[Token]) -> Limit:
        return Absolute(value=float(items[0]))

    def absolute_percent(self, items: list[Token]) -> Limit:
        if self._metric not in {None, *RATES}:
            raise PolicyError(f"{items[0]}% of what? {self._metric} is no rate")
        return Absolute(value=float(items[0]) / 100)

    def baseline_plus(self, items: list[Token]) -> tuple[float, bool | None]:
        return float(items[0]) / 100, None

    def baseline_plus_points(self, items: list[Token]) -> Limit:
        return BaselinePlus(amount=float(items[0]) / 100, relative=False)

    def baseline_plus_relative(self, items: list[Token]) -> Limit:
        return BaselinePlus(amount=float(items[0]) / 100, relative=True)

    def baseline_times(self, items: list[Token]) -> Limit:
        return BaselineTimes(factor=float(items[0]))

    def threshold(self, items: list[Any]) -> Condition:
        assert self._metric is not None, "a threshold belongs to a check"
        operator: Operator = ">=" if self._metric is Metric.HEALTHY_PERCENTAGE else "<="
        return Condition(metric=self._metric, operator=operator, limit=_resolve(self._metric, items[0]))

    def comparison(self, items: list[Token]) -> Condition:
        return _percentage(Metric.HEALTHY_PERCENTAGE, items[1], items[2])

    def all_healthy(self, _items: list[Any]) -> Condition:
        return Condition(metric=Metric.HEALTHY_PERCENTAGE, operator=">=", limit=Absolute(value=1.0))

    def restarts(self, items: list[Any]) -> Condition:
        limit = Absolute(value=float(items[1]))
        return Condition(metric=Metric.DEVICE_RESTARTS, operator=items[0].value, limit=limit, window_seconds=items[2])

    def endpoint_down(self, items: list[Any]) -> Condition:
        return Condition(metric=Metric.ENDPOINT_DOWN, operator=items[0].value, limit=Absolute(value=items[1]))

    def failed_devices(self, items: list[Token]) -> Condition:
        return _percentage(Metric.FAILED_PERCENTAGE, items[0], items[1])

    def metric_bound(self, items: list[Any]) -> Condition:
        metric = Metric(items[0].value)
        return Condition(metric=metric, operator=items[1].value, limit=_resolve(metric, items[2]))


def _resolve(metric: Metric, bound: Limit | tuple[float, bool | None]) -> Limit:
    """Read an unmarked ``baseline + N%``: points for rates, relative for magnitudes."""
    return BaselinePlus(amount=bound[0], relative=metric not in RATES) if isinstance(bound, tuple) else bound


def _percentage(metric: Metric, operator: Token, number: Token) -> Condition:
    limit = Absolute(value=float(number) / 100)
    return Condition.model_validate({"metric": metric, "operator": operator.value, "limit": limit})


def check_sense(condition: Condition, *, must_hold: bool) -> None:
    """Refuse what reads well and can never stop anything.

    Args:
        condition: Of a check or a trigger.
        must_hold: True for a check, which is broken when the condition does not hold; False for a trigger.

    Raises:
        PolicyError: The comparison points the wrong way, a rate above 100%, or a baseline where there is none; the
            author's fault.
    """
    metric = condition.metric
    is_good = metric is Metric.HEALTHY_PERCENTAGE  # Of everything else, more is worse.
    if (condition.operator in {">", ">="}) is not (is_good is must_hold):
        verb = "must hold" if must_hold else "must not happen"
        raise PolicyError(f"'{condition}' is what {verb}: turn the comparison round")
    if not must_hold and condition.needs_baseline and metric not in COMPARABLE:
        raise PolicyError(f"there is no baseline of {metric}; give a number")
    if metric in RATES and _is_empty(condition):
        raise PolicyError(f"'{condition}' can never stop anything: a rate is 0 to 100%; 0.02 and 2% are the same")


def _is_empty(condition: Condition) -> bool:
    """Say whether a rate always keeps (a check) or never reaches (a trigger) the limit."""
    match condition.limit:
        case Absolute(value=value):
            return value > 1 or (condition.operator, value) in {("<=", 1.0), (">", 1.0), (">=", 0.0)}
        case BaselinePlus(amount=amount, relative=False):
            return amount >= 1
        case _:
            return False


@cache
def _parser(start: str) -> Lark:
    return Lark(_GRAMMAR, start=start, parser="earley")


def _parse(text: str, start: str, metric: Metric | None, examples: str) -> Any:  # noqa: ANN401 - one of two types by ``start``
    try:
        return _Builder(metric).transform(_parser(start).parse(text))
    except UnexpectedInput as error:
        column = error.column if error.column > 0 else len(text) + 1
        caret = " " * (column - 1) + "^"
        raise PolicyError(f"cannot read it from column {column} on; {examples}\n{text}\n{caret}") from error
    except VisitError as error:
        cause = error.orig_exc
        said = cause.errors()[0]["msg"] if isinstance(cause, ValidationError) else str(cause)
        raise PolicyError(f"{text[:80]!r}: {said}") from error


def parse_threshold(text: str, metric: Metric) -> Condition:
    """Parse a check's threshold: what must hold of ``metric``.

    Raises:
        PolicyError: It does not parse; the author's fault. The text shows a caret and examples.
    """
    examples = "write for example 'baseline + 2%', 'baseline * 1.5', '0', 'all_healthy', 'healthy_percentage >= 95%'"
    condition = _parse(text, "threshold", metric, examples)
    assert isinstance(condition, Condition)
    if condition.metric is not metric:
        raise PolicyError(f"{text!r} is about {condition.metric}, this check is about {metric}")
    return condition


def parse_trigger(text: str) -> Condition:
    """Parse a trigger's condition: what must not happen.

    Raises:
        PolicyError: As for ``parse_threshold``.
    """
    examples = "write for example 'device restarts > 3 in 5 minutes', 'error_rate > baseline + 10%'"
    condition = _parse(text, "trigger", None, examples)
    assert isinstance(condition, Condition)
    return condition


def parse_duration(text: str) -> float:
    """Read ``15m``, ``30 s`` or ``5 minutes`` as seconds.

    Raises:
        PolicyError: No duration; the author's fault.
    """
    seconds = _parse(text, "duration", None, "write for example '15m', '30s', '24h'")
    if not isinstance(seconds, float) or seconds <= 0:
        raise PolicyError(f"{text!r} is no duration above zero")
    return seconds


def percent_of(whole: int, percent: float) -> tuple[int, int]:
    """Return ``percent`` percent of ``whole`` rounded down and rounded up, exactly, to a thousandth of a percent."""
    thousandths = whole * round(percent * 1000)
    return thousandths // 100_000, -(-thousandths // 100_000)


def exceeds_percent(part: int, whole: int, percent: float) -> bool:
    """Say whether ``part`` is more than ``percent`` percent of ``whole``, exactly, to a thousandth of a percent.

    Raises:
        ValueError: ``whole`` is not positive: of nothing there is no share, and it is never a pass.
    """
    if whole <= 0:
        raise ValueError("a share of nothing")
    return part * 100_000 > round(percent * 1000) * whole

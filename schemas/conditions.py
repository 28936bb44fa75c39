"""Conditions are data: one typed form of the policy's thresholds and trigger conditions.

A check's condition says what must hold (``error_rate <= baseline + 2 points``), a trigger's what must not. Both are the
same value, judged by the same functions, and print back the way they were understood; the text forms are read in
``condition_text``. ``baseline + N%`` adds percentage points for rates and N percent of the baseline for magnitudes.

Source:
    Reference, "Defining Health Gates" and "Trigger Definitions"; reading of percentages: DECISIONS.md, 1.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import PolicyError


class Metric(StrEnum):
    """What can be observed. Rates are fractions 0..1, latencies and durations seconds, the rest as said."""

    ERROR_RATE = "error_rate"
    LATENCY_P50 = "latency_p50"
    LATENCY_P95 = "latency_p95"
    LATENCY_P99 = "latency_p99"
    CPU = "cpu"
    """Mean use of processors: 1.0 is one core."""
    QUALITY = "quality"
    """The application's own measures of its output, each against its own baseline; higher is better."""
    MEMORY_GROWTH = "memory_growth"
    """Relative growth of one device's memory over a stated time."""
    DISK_GROWTH = "disk_growth"
    """Fall of one device's free disk over a stated time, relative to what was free."""
    CRASH_COUNT = "crash_count"
    LOG_ERRORS = "log_errors"
    THROTTLE_EVENTS = "throttle_events"
    HEALTHY_PERCENTAGE = "healthy_percentage"
    MATCHING_PERCENTAGE = "matching_percentage"
    """Devices that report the version they were given."""
    DEPLOYED_PERCENTAGE = "deployed_percentage"
    """Targets that run the new version for good."""
    DEVICE_RESTARTS = "device restarts"
    ENDPOINT_DOWN = "health endpoint unreachable"
    FAILED_PERCENTAGE = "failed devices"
    ERROR_RATE_RISES = "error_rate increasing"
    """Consecutive checks, each with an error rate above the check before it."""
    TEMPERATURE = "temperature"
    """What a device's temperature will be, in degrees Celsius, if it goes on rising."""


SHARES: Final = frozenset(
    {
        Metric.ERROR_RATE,
        Metric.HEALTHY_PERCENTAGE,
        Metric.MATCHING_PERCENTAGE,
        Metric.DEPLOYED_PERCENTAGE,
        Metric.FAILED_PERCENTAGE,
    }
)
"""Metrics that are fractions of a whole, and so at most 1."""

RATES: Final = SHARES | {Metric.CPU}
"""Metrics that are said in percent: ``baseline + N%`` adds points to them."""

LATENCIES: Final = frozenset({Metric.LATENCY_P50, Metric.LATENCY_P95, Metric.LATENCY_P99})
GROWTHS: Final = frozenset({Metric.MEMORY_GROWTH, Metric.DISK_GROWTH})

COMPARABLE: Final = frozenset({Metric.ERROR_RATE, *LATENCIES, Metric.CPU, Metric.QUALITY})
"""Metrics that have a baseline."""

GOOD: Final = frozenset(
    {Metric.HEALTHY_PERCENTAGE, Metric.MATCHING_PERCENTAGE, Metric.DEPLOYED_PERCENTAGE, Metric.QUALITY}
)
"""Metrics of which more is better; of all others, more is worse."""

Operator = Literal["<", "<=", ">", ">="]


class _Limit(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


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


class GrowthPer(_Limit):
    """A fraction ``amount`` of the window's first level in each ``per_seconds``."""

    kind: Literal["growth_per"] = "growth_per"
    amount: Annotated[float, Field(ge=0)]
    per_seconds: Annotated[float, Field(gt=0)]


class ThermalLimit(_Limit):
    """The policy's ``thermal_limit_celsius``."""

    kind: Literal["thermal_limit"] = "thermal_limit"


Limit = Annotated[Absolute | BaselinePlus | BaselineTimes | GrowthPer | ThermalLimit, Field(discriminator="kind")]


class Condition(BaseModel):
    """``metric operator limit``, with the time over which the metric is counted where the text names one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    metric: Metric
    operator: Operator
    limit: Limit
    window_seconds: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _limit_fits(self) -> Self:
        if isinstance(self.limit, GrowthPer) is not (self.metric in GROWTHS):
            raise ValueError(f"{self.metric} is no growth" if self.metric not in GROWTHS else "growth in what time?")
        if isinstance(self.limit, ThermalLimit) is not (self.metric is Metric.TEMPERATURE):
            raise ValueError("the thermal limit is temperature's, and temperature's only limit")
        return self

    @property
    def needs_baseline(self) -> bool:
        """Whether it can be judged only against a baseline."""
        return isinstance(self.limit, BaselinePlus | BaselineTimes)

    def limit_value(self, baseline: float | None) -> float | None:
        """Return the limit in the metric's unit; None where it takes a baseline, or the policy, to know it."""
        match self.limit:
            case Absolute(value=value):
                return value
            case GrowthPer(amount=amount):
                return amount
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
        if isinstance(limit, GrowthPer):
            limit = limit.model_copy(update={"per_seconds": limit.per_seconds / time_scale})
        elif self.metric is Metric.ENDPOINT_DOWN and isinstance(limit, Absolute):
            limit = Absolute(value=limit.value / time_scale)
        return self.model_copy(update={"window_seconds": window, "limit": limit})

    def __str__(self) -> str:
        match self.metric:
            case Metric.TEMPERATURE:
                return "temperature trending toward thermal limit"
            case Metric.ERROR_RATE_RISES:
                of = "" if self.window_seconds is None else f" of {exact_duration(self.window_seconds)}"
                return f"error_rate increasing for {self.limit_text()} consecutive checks{of}"
            case Metric.ENDPOINT_DOWN:
                return f"{self.metric} for {self.operator} {self.limit_text()}"
            case Metric.FAILED_PERCENTAGE:
                return f"{self.metric} {self.operator} {self.limit_text()} of wave"
            case _:
                window = "" if self.window_seconds is None else f" in {exact_duration(self.window_seconds)}"
                return f"{self.metric} {self.operator} {self.limit_text()}{window}"

    def limit_text(self) -> str:
        """Write the limit alone, as a policy would."""
        match self.limit:
            case Absolute(value=value):
                return self._amount_text(value)
            case BaselinePlus(amount=amount, relative=relative):
                sign = "-" if amount < 0 else "+"
                return f"baseline {sign} {exact_number(abs(amount) * 100)}{'% rel' if relative else 'pp'}"
            case BaselineTimes(factor=factor):
                return f"baseline * {exact_number(factor)}"
            case GrowthPer(amount=amount, per_seconds=per_seconds):
                return f"{exact_number(amount * 100)}% per {exact_duration(per_seconds)}"
            case ThermalLimit():
                return "thermal limit"

    def _amount_text(self, value: float) -> str:
        if self.metric in RATES:
            return f"{exact_number(value * 100)}%"
        is_time = self.metric is Metric.ENDPOINT_DOWN or self.metric in LATENCIES
        return exact_duration(value) if is_time else exact_number(value)


def exact_number(value: float) -> str:
    """Write a number with up to twelve digits and no exponent, so that it can be read again."""
    return f"{Decimal(f'{value:.12g}'):f}"


def exact_duration(seconds: float) -> str:
    """Write a duration in the largest unit that divides it, so that it can be read again: ``5 min``, ``250 ms``."""
    written = float(f"{seconds:.12g}")  # Its unit is chosen as for what will be read.
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        number = exact_number(written / size)
        if written >= size and written % size == 0 and float(number) * size == written:
            return f"{number} {unit}"
    return f"{exact_number(written)} s" if written >= 1 else f"{exact_number(written * 1000)} ms"


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
    if (condition.operator in {">", ">="}) is not ((metric in GOOD) is must_hold):
        verb = "must hold" if must_hold else "must not happen"
        raise PolicyError(f"'{condition}' is what {verb}: turn the comparison round")
    if not must_hold and condition.needs_baseline and metric not in COMPARABLE:
        raise PolicyError(f"there is no baseline of {metric}; give a number")
    if metric in SHARES and _is_empty(condition):
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

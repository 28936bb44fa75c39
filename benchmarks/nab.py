"""Whether real failures are found, and nothing else: series of the Numenta Anomaly Benchmark as metrics of a device.

Each value is one sample, 30 s after the one before. The first 15% of a series (NAB's probation) teach the baseline;
then the device runs the new version, and after each sample the reference's rule is judged. Beside it stands a plain
reading of the same rule: the numbers of the window put into it, without a thought for noise. Where that does not hold
the rule must not fire; where it holds by chance alone, it should not.
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.gates import judge_gate
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.sample import Sample
from orchestrator.telemetry.triggers import judge_trigger
from schemas.policy import Gate, Trigger
from schemas.verdicts import Verdict

SAMPLE_SECONDS: Final = 30.0
PROBATION: Final = 0.15
THERMAL_MARGIN: Final = 1.1
"""The thermal limit is so much above what was seen while the baseline was learnt."""
STEP_CELSIUS: Final = 0.75
"""As exactly as a temperature is kept."""
CELL_SAMPLES: Final = 2
DEPLOYED: Final = {"device": "group"}

Values = NDArray[np.float64]


def _trigger(name: str, condition: str, window: str) -> Trigger:
    return Trigger.model_validate(
        {
            "name": name,
            "condition": condition,
            "scope": "all_deployed",
            "action": "rollback_all",
            "window": window,
            "min_samples": 5,
        }
    )


@dataclass(frozen=True)
class Rule:
    """One rule of the reference.

    Attributes:
        field: Of the sample that the series becomes, after ``scale``.
        judged: The trigger, or the gate's check.
        plain: Says by the numbers of a window, the learnt ones and the thermal limit whether the rule holds.
        points: Samples in its window, with what a cell more or less makes of it.
    """

    field: str
    scale: float
    judged: Trigger | Gate
    plain: Callable[[Values, Values, float], bool]
    points: range


def _lines(window: Values) -> Iterator[tuple[float, float]]:
    """Yield slope and beginning of lines through the window: by least squares, and by the median of all slopes."""
    at = np.arange(len(window))
    slope, level = np.polyfit(at, window, 1)
    yield float(slope), float(level)
    earlier, later = np.triu_indices(len(window), 1)
    slope = np.median((window[later] - window[earlier]) / (later - earlier))
    yield float(slope), float(np.median(window - slope * at))


def _growth(window: Values) -> float:
    """Return how much a line through the window rises in ten minutes, relative to where it begins."""
    return max(slope * 600 / SAMPLE_SECONDS / max(abs(level), 1e-9) for slope, level in _lines(window))


def _expected(window: Values) -> float:
    """Return where a line through the window leads after another window, or where it is, if that is more."""
    ends = [(level + slope * len(window), slope * len(window)) for slope, level in _lines(window)]
    return max(*(end + max(ahead, 0.0) for end, ahead in ends), float(window[-1]))


_CPU: Final = Gate.model_validate({"checks": [{"type": "cpu", "threshold": "baseline + 20%", "window": "15m"}]})
RULES: Final[Mapping[str, Rule]] = {
    "latency_spike": Rule(
        "latency_p95_seconds", 1e-3, _trigger("latency_spike", "p95_latency > baseline * 2.0", "5m"),
        lambda window, learnt, _: bool(np.median(window) > 2 * 0.98 * np.median(learnt)), range(9, 14),
    ),
    "memory_leak": Rule(
        "memory_bytes", 1e6, _trigger("memory_leak", "memory_growth > 5% per 10 minutes", "30m"),
        lambda window, *_: _growth(window) > 5 / 100, range(56, 65, 2),
    ),
    "thermal_escalation": Rule(
        "temperature_celsius", 1.0,
        _trigger("thermal_escalation", "temperature trending toward thermal limit", "30m"),
        lambda window, _, limit: _expected(window) >= limit - STEP_CELSIUS, range(56, 65, 2),
    ),
    "cpu": Rule(
        "cpu_ratio", 0.01, _CPU,
        lambda window, learnt, _: float(window.mean()) > float(learnt.mean()) + 0.2, range(28, 35),
    ),
}  # fmt: skip
REAL: Final = {
    "ambient_temperature_system_failure": "thermal_escalation",
    "cpu_utilization_asg_misconfiguration": "cpu",
    "ec2_request_latency_system_failure": "latency_spike",
    "machine_temperature_system_failure": "thermal_escalation",
}
"""What the real series are series of; those that are not here are no metrics of a device."""


@dataclass(frozen=True)
class Series:
    """A series with its labelled anomalies, as numbers of its values."""

    name: str
    values: Values
    anomalies: list[tuple[int, int]]
    minutes: float


@dataclass(frozen=True)
class Found:
    """What a rule made of a series.

    Attributes:
        anomalies: How many are labelled, after the probation.
        found: In how many of them it fired; ``plain_found`` likewise by the plain reading.
        after_samples: After how many samples of each, None where it did not; ``after_hours`` in the series' own time.
        outside: Stretches outside of anomalies in which it fired; ``plain_outside`` likewise by the plain reading.
        unfounded: Samples after which it fired and the plain reading did not hold, nor a cell before.
    """

    series: str
    rule: str
    anomalies: int
    found: int
    plain_found: int
    after_samples: list[int | None]
    after_hours: list[float | None]
    outside: int
    plain_outside: int
    unfounded: int


def read_series(folder: Path) -> Iterator[Series]:
    """Read all series, in the order of their names."""
    labels = json.loads((folder / "combined_windows.json").read_text())
    for path in sorted(folder.glob("*/*.csv")):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
        windows = labels[f"{path.parent.name}/{path.name}"]
        limits = [[datetime.fromisoformat(end) for end in window] for window in windows]
        anomalies = [(sum(time < start for time in times), sum(time <= end for time in times)) for start, end in limits]
        minutes = (times[1] - times[0]).total_seconds() / 60
        yield Series(path.stem, np.array([float(row["value"]) for row in rows]), anomalies, minutes)


def fires(rule: Rule, values: Values, learnt: int, thermal_limit: float) -> NDArray[np.bool_]:
    """Play a series and say after which samples the rule fires."""
    monitor = Monitor()
    rows = monitor.admit(["device"], [Place("group")])
    fired = np.zeros(len(values), dtype=np.bool_)
    baselines: dict[str, Baseline] = {}
    for seq, value in enumerate(values.tolist()):
        now = SAMPLE_SECONDS * (seq + 1)
        if seq == learnt:
            found = monitor.baseline("group", now=now, seconds=24 * 3600, excluding_version="2", min_samples=20)
            assert found is not None
            baselines = {"group": found}
        version = "1" if seq < learnt else "2"
        fields: dict[str, Any] = {rule.field: value}
        sample = Sample(seq=seq, boot_id="b", version=version, requests_total=100.0 * seq, errors_total=0.0, **fields)
        monitor.observe(rows, [sample], now)
        if seq >= learnt:
            fired[seq] = _holds(rule.judged, baselines, monitor, thermal_limit, now=now)
    return fired


def _holds(
    judged: Trigger | Gate, baselines: Mapping[str, Baseline], monitor: Monitor, thermal_limit: float, *, now: float
) -> bool:
    there = Devices.named(list(DEPLOYED), monitor.find(list(DEPLOYED)), DEPLOYED.values())
    if isinstance(judged, Gate):
        return judge_gate(judged, there, baselines, monitor, version="2", now=now)[0] is Verdict.FAIL
    firing = judge_trigger(
        judged, there, baselines, monitor, version="2", failed=(), wave_size=1, thermal_limit_celsius=thermal_limit,
        now=now,
    )  # fmt: skip
    return firing is not None


def plainly(rule: Rule, values: Values, learnt: int, thermal_limit: float) -> NDArray[np.bool_]:
    """Say after which samples the plain reading of the rule holds, in a window of one length or another."""
    holds = np.zeros(len(values), dtype=np.bool_)
    for end in range(learnt + min(rule.points), len(values)):
        windows = (values[max(learnt, end + 1 - count) : end + 1] for count in rule.points)
        holds[end] = any(rule.plain(window, values[:learnt], thermal_limit) for window in windows)
    return holds


def _stretches(fired: NDArray[np.bool_]) -> int:
    return int((np.diff(fired.astype(np.int8), prepend=0) == 1).sum())


def _late(holds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where it holds, or held a cell ago: a trend is taken from cells that have ended."""
    late = holds.copy()
    for samples in range(1, CELL_SAMPLES + 1):
        late[samples:] |= holds[:-samples]
    return late


def judge(series: Series, name: str) -> Found:
    """Judge a series by a rule."""
    rule = RULES[name]
    values = np.maximum(series.values * rule.scale, 0.0) if rule.scale != 1.0 else series.values
    learnt = int(PROBATION * len(values))
    thermal_limit = float(values[:learnt].max() * THERMAL_MARGIN)
    fired, plain = (how(rule, values, learnt, thermal_limit) for how in (fires, plainly))
    anomalies = [(start, end) for start, end in series.anomalies if end > learnt]
    is_outside = np.ones(len(values), dtype=np.bool_)
    for start, end in anomalies:
        is_outside[start:end] = False
    firsts = [int(fired[start:end].argmax()) if fired[start:end].any() else None for start, end in anomalies]
    return Found(
        series.name,
        name,
        len(anomalies),
        sum(first is not None for first in firsts),
        sum(bool(plain[start:end].any()) for start, end in anomalies),
        firsts,
        [None if first is None else round(first * series.minutes / 60, 1) for first in firsts],
        _stretches(fired & is_outside),
        _stretches(plain & is_outside),
        int((fired & ~_late(plain)).sum()),
    )


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="of the benchmark's data, with combined_windows.json")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    every = list(read_series(options.folder))
    work = [(series, rule) for series in every if series.name.startswith("art_") for rule in RULES]
    work += [(series, REAL[series.name]) for series in every if series.name in REAL]
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(_judge_pair, work))
    unfounded = sum(each.unfounded for each in found)
    if options.json:
        print(
            json.dumps({"name": "nab", "figure": unfounded, "bar": 0, "ratio": None, "found": list(map(asdict, found))})
        )
        return
    print("| Series | Rule | Found | After samples (hours of the series) | Fired elsewhere | A plain reading |")
    print("|---|---|---|---|--:|---|")
    for each in found:
        after = ", ".join(
            "never" if samples is None else f"{samples} ({hours:g} h)"
            for samples, hours in zip(each.after_samples, each.after_hours, strict=True)
        )
        print(
            f"| {each.series} | {each.rule} | {each.found} of {each.anomalies} | {after} | {each.outside} "
            f"| {each.plain_found} of {each.anomalies}, elsewhere {each.plain_outside} |"
        )
    print(f"\nfired where the plain reading of the rule does not hold: {unfounded} times, bar 0")


def _judge_pair(pair: tuple[Series, str]) -> Found:
    return judge(*pair)


if __name__ == "__main__":
    main()

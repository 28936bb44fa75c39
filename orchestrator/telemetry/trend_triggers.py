"""Triggers on what gets worse little by little: memory, disk, temperature, the error rate."""

from typing import Final

from orchestrator.telemetry.evidence import format_value
from orchestrator.telemetry.growth import read_growths, read_slopes
from orchestrator.telemetry.scene import Found, Scene, shown
from orchestrator.telemetry.trend_checks import say_growth
from orchestrator.telemetry.trends import rates_rise
from schemas.conditions import Metric
from schemas.policy import Trigger
from schemas.times import format_duration

_PARTS: Final = 5  # of each check: their scatter tells a burst from a trend


def watch_growth(trigger: Trigger, scene: Scene) -> Found:
    """Each device whose memory grows, or whose disk fills up, beyond chance and beyond the limit."""
    condition, limit = trigger.condition, trigger.condition.limit_value(None)
    growths, _ = read_growths(condition, scene.evidence, _window(trigger))
    for growth in sorted(growths, key=lambda it: -it.amount):
        points = growth.slope.points
        if limit is None or not growth.is_certain or points < trigger.min_samples:
            continue
        if condition.holds(growth.amount, limit):
            text = say_growth(condition, growth)
            yield (growth.device,), shown(trigger, text, observed=growth.amount, limit=limit, samples=points)


def watch_temperature(trigger: Trigger, scene: Scene) -> Found:
    """Each device that will reach the thermal limit within another window if it goes on as it did, or is there."""
    seconds, limit = _window(trigger), scene.thermal_limit_celsius
    slopes, untold = read_slopes(trigger.condition.metric, scene.evidence, seconds)
    for device, slope in slopes.items():
        ahead = slope.per_second * seconds if slope.rises(len(slopes) + len(untold)) else 0.0
        expected = slope.last + ahead
        if slope.points >= trigger.min_samples and trigger.condition.holds(expected, limit):
            said = f"{device} is at {slope.last:.1f} °C"
            said += f" and will be at {expected:.1f} °C in {format_duration(seconds)}" if ahead else ""
            yield (device,), shown(trigger, said, observed=expected, limit=limit, samples=slope.points)


def watch_error_rate(trigger: Trigger, scene: Scene) -> Found:
    """Each group whose error rate rose from check to check; devices that were not there from the start are left out."""
    evidence, seconds, limit = scene.evidence, _window(trigger), trigger.condition.limit_value(None)
    if limit is None:
        return
    count = int(limit) + 1  # the first has none before it
    moments = [evidence.now - seconds * (count - part / _PARTS) for part in range(count * _PARTS + 1)]
    groups = sorted(set(evidence.deployed.values()))
    for group in groups:
        devices = [
            device
            for device, its in evidence.deployed.items()
            if its == group and evidence.monitor.kept_since(device, version=evidence.version) <= moments[0]
        ]
        parts = evidence.monitor.traffic(devices, moments, version=evidence.version).values()
        windows = [
            [pair for its in parts for pair in its[check * _PARTS : (check + 1) * _PARTS]] for check in range(count)
        ]
        requests = [sum(pair[0] for pair in window) for window in windows]
        if min(requests) < trigger.min_samples or not rates_rise(windows, tests=len(groups)):
            continue
        rates = [sum(pair[1] for pair in window) / asked for window, asked in zip(windows, requests, strict=True)]
        said = ", ".join(format_value(Metric.ERROR_RATE, rate) for rate in rates)
        text = f"error rate of group {group} over {count} checks of {format_duration(seconds)}: {said}"
        yield devices, shown(trigger, text, observed=float(count - 1), limit=limit, samples=sum(requests))


def _window(trigger: Trigger) -> float:
    assert trigger.window_seconds is not None, "the policy gives every trend a window"
    return trigger.window_seconds

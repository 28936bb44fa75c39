"""Triggers on what gets worse little by little: memory, disk, temperature, the error rate."""

import numpy as np

from orchestrator.telemetry.growth import read_growths, read_slopes
from orchestrator.telemetry.scene import Found, Scene, shown
from orchestrator.telemetry.trend_checks import say_growth
from orchestrator.telemetry.trends import rates_rise
from orchestrator.telemetry.values import format_value
from schemas.conditions import Metric
from schemas.policy import Trigger
from schemas.times import format_duration


def watch_growth(trigger: Trigger, scene: Scene) -> Found:
    """Each device whose memory grows, or whose disk fills up, beyond chance and beyond the limit."""
    condition, limit = trigger.condition, trigger.condition.limit_value(None)
    for growth in read_growths(condition, scene.evidence, _window(trigger), must_hold=False).broken:
        if limit is not None and growth.samples >= trigger.min_samples:
            text = say_growth(condition, growth)
            yield (growth.device,), shown(trigger, text, observed=growth.amount, limit=limit, samples=growth.samples)


def watch_temperature(trigger: Trigger, scene: Scene) -> Found:
    """Each device that will reach the thermal limit within another window if it goes on as it did, or is there."""
    seconds, limit = _window(trigger), scene.thermal_limit_celsius
    slopes = read_slopes(trigger.condition.metric, scene.evidence, seconds, reaching=limit)
    ahead = np.where(slopes.rises(), slopes.per_second * seconds, 0.0)
    expected = slopes.last + ahead
    told = slopes.can_tell() & (slopes.samples >= trigger.min_samples)
    for index in np.flatnonzero(told & (expected >= limit)).tolist():
        device, there = slopes.devices[index], float(expected[index])
        if trigger.condition.holds(there, limit):
            said = f"{device} is at {slopes.last[index]:.1f} °C"
            said += f" and will be at {there:.1f} °C in {format_duration(seconds)}" if ahead[index] else ""
            samples = int(slopes.samples[index])
            yield (device,), shown(trigger, said, observed=there, limit=limit, samples=samples)


def watch_error_rate(trigger: Trigger, scene: Scene) -> Found:
    """Each group whose error rate rose from check to check; devices that were not there from the start are left out."""
    evidence, seconds, limit = scene.evidence, _window(trigger), trigger.condition.limit_value(None)
    if limit is None:
        return
    count = int(limit) + 1  # the first has none before it
    traffic = evidence.monitor.traffic(
        evidence.deployed, version=evidence.version, seconds=seconds, count=count, now=evidence.now
    )
    groups = list(traffic.devices.places_by_group())
    for group, which in groups:
        requests, errors = (each[:, :, which].reshape(count, -1) for each in (traffic.requests, traffic.errors))
        asked = requests.sum(axis=1)
        if asked.min() < trigger.min_samples or not rates_rise(requests, errors, tests=len(groups)):
            continue
        said = ", ".join(format_value(Metric.ERROR_RATE, float(rate)) for rate in errors.sum(axis=1) / asked)
        text = f"error rate of group {group} over {count} checks of {format_duration(seconds)}: {said}"
        devices = traffic.devices.take(which)
        yield devices, shown(trigger, text, observed=float(count - 1), limit=limit, samples=int(asked.sum()))


def _window(trigger: Trigger) -> float:
    assert trigger.window_seconds is not None, "the policy gives every trend a window"
    return trigger.window_seconds

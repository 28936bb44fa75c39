"""Triggers: evidence so bad that a rollback is ordered while the rollout runs.

Each metric is one function, listed in ``TRIGGERS``. A trigger without evidence does not fire: silence, missing
baselines and too few samples are the gates' business and the orchestrator's, and no reason to send devices back.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.evidence import Evidence, name_some, share_holds
from orchestrator.telemetry.measures import read_groups
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.scene import Found, Scene, shown
from orchestrator.telemetry.trend_triggers import watch_error_rate, watch_growth, watch_temperature
from orchestrator.telemetry.values import format_value
from schemas.conditions import Condition, Metric
from schemas.documents import CheckResult
from schemas.policy import Scope, Trigger, TriggerAction

EVIDENCE_MAX: Final = 16
"""Results that a firing carries; its devices are always complete."""


@dataclass(frozen=True, slots=True)
class Firing:
    """A trigger that fired.

    Attributes:
        trigger: Its name in the policy.
        devices: The devices that the evidence is about, sorted; who goes back is the scope's business.
    """

    trigger: str
    scope: Scope
    action: TriggerAction
    devices: tuple[str, ...]
    evidence: tuple[CheckResult, ...]


def judge_trigger(
    trigger: Trigger,
    deployed: Devices,
    baselines: Mapping[str, Baseline],
    monitor: Monitor,
    *,
    version: str,
    failed: Collection[str],
    wave_size: int,
    thermal_limit_celsius: float,
    now: float,
) -> Firing | None:
    """Say whether a trigger fires now, on the devices that run the new version (given with their groups).

    Args:
        trigger: The rule.
        deployed: Devices that were given the new version, with their groups.
        baselines: By group.
        monitor: What the samples say.
        version: The new version; samples of others are no evidence.
        failed: Devices of the current wave that failed.
        wave_size: All devices of the current wave.
        thermal_limit_celsius: The policy's.
        now: Seconds.

    Raises:
        KeyError: No trigger is defined for the condition's metric; the policy should have been refused.
    """
    if not len(deployed) and trigger.condition.metric is not Metric.FAILED_PERCENTAGE:
        return None
    scene = Scene(
        Evidence(deployed, baselines, monitor, version, now), frozenset(failed), wave_size, thermal_limit_celsius
    )
    found = list(TRIGGERS[trigger.condition.metric](trigger, scene))
    if not found:
        return None
    devices = {device for devices, _ in found for device in devices}
    results = tuple(result for _, result in found[:EVIDENCE_MAX])
    return Firing(trigger.name, trigger.scope, trigger.action, tuple(sorted(devices)), results)


def _crash_loop(trigger: Trigger, scene: Scene) -> Found:
    """Each device that restarted too often."""
    it, seconds = scene.evidence, trigger.window_seconds
    restarts = it.monitor.restarts(it.deployed, version=it.version, seconds=seconds, now=it.now)
    return _single_devices(trigger, restarts, "{value} restarts of {device}")


def _endpoint_down(trigger: Trigger, scene: Scene) -> Found:
    """Each device whose health endpoint has been seen down for too long."""
    evidence = scene.evidence
    down = evidence.monitor.endpoints_down(evidence.deployed, version=evidence.version, now=evidence.now)
    return _single_devices(trigger, down, "health endpoint of {device} down for {value}")


def _single_devices(trigger: Trigger, values: Mapping[str, float], said: str) -> Found:
    condition = trigger.condition
    limit = condition.limit_value(None)
    if limit is None:
        return
    for device, value in values.items():
        if condition.holds(value, limit):
            text = said.format(device=device, value=format_value(condition.metric, value))
            yield (device,), shown(trigger, text, observed=float(value), limit=limit, samples=1)


def _wave_failure_rate(trigger: Trigger, scene: Scene) -> Found:
    """The share of the wave's devices that failed."""
    condition, failed, size = trigger.condition, scene.failed, scene.wave_size
    limit = condition.limit_value(None)
    if limit is not None and failed and size > 0 and share_holds(condition.operator, len(failed), size, limit):
        text = f"{len(failed)} of {size} devices of the wave failed: {name_some(failed)}"
        yield failed, shown(trigger, text, observed=len(failed) / size, limit=limit, samples=size)


def _group_metric(trigger: Trigger, scene: Scene) -> Found:
    """Each group of deployed devices that is beyond its baseline, where there are samples enough."""
    condition, evidence = trigger.condition, scene.evidence
    if condition.metric is Metric.ERROR_RATE:
        evidence = _with_bad_groups(evidence, condition, trigger.window_seconds)
    for reading in read_groups(condition.metric, condition, evidence, trigger.window_seconds):
        it = reading.observation
        if it.value is None or reading.limit is None or it.samples < trigger.min_samples:
            continue
        if condition.holds(it.value, reading.limit):
            yield (
                reading.devices,
                shown(
                    trigger,
                    reading.said,
                    observed=it.value,
                    baseline=it.normal,
                    limit=reading.limit,
                    samples=it.samples,
                ),
            )


def _with_bad_groups(evidence: Evidence, condition: Condition, seconds: float | None) -> Evidence:
    """Leave out the groups whose error rate is within its limit: it is looked at all the time, and mostly it is."""
    traffic = evidence.monitor.traffic_by_group(
        evidence.deployed, version=evidence.version, seconds=seconds, now=evidence.now
    )
    bad = set()
    for group, (requests, errors) in traffic.items():
        baseline = evidence.baselines.get(group)
        limit = condition.limit_value(None if baseline is None else baseline.error_rate)
        if requests and limit is not None and condition.holds(min(errors / requests, 1.0), limit):
            bad.add(group)
    return replace(evidence, deployed=evidence.deployed.in_groups(bad))


TRIGGERS: Final[Mapping[Metric, Callable[[Trigger, Scene], Found]]] = {
    Metric.DEVICE_RESTARTS: _crash_loop,
    Metric.ENDPOINT_DOWN: _endpoint_down,
    Metric.FAILED_PERCENTAGE: _wave_failure_rate,
    Metric.ERROR_RATE: _group_metric,
    Metric.LATENCY_P50: _group_metric,
    Metric.LATENCY_P95: _group_metric,
    Metric.LATENCY_P99: _group_metric,
    Metric.CPU: _group_metric,
    Metric.MEMORY_GROWTH: watch_growth,
    Metric.DISK_GROWTH: watch_growth,
    Metric.ERROR_RATE_RISES: watch_error_rate,
    Metric.TEMPERATURE: watch_temperature,
}
"""Where each trigger of the policy is defined, by the metric of its condition."""

OF_SINGLE_DEVICES: Final = frozenset({Metric.DEVICE_RESTARTS, Metric.ENDPOINT_DOWN})
"""Those that the samples of one device decide alone."""

"""The part of L001 about evidence: a judgement that waits for more than its devices can send."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from orchestrator.lint.finding import Finding, counted, error, long_enough, name_some, note, warning
from orchestrator.lint.numbers import READINGS_MAX, points_to_tell
from orchestrator.lint.scene import PlacedCheck, Scene
from orchestrator.lint.signals import is_announced
from schemas.conditions import GROWTHS, LATENCIES, Metric
from schemas.times import format_duration

PEAK: Final = 10.0
"""At most so much busier than its average of a day a group is taken to be."""
HASTE: Final = 1.5
"""At most so much more often than usual a device is taken to send samples."""

_PER_REQUEST: Final = frozenset({Metric.ERROR_RATE, *LATENCIES})
_PER_SAMPLE: Final = frozenset(
    {
        Metric.CRASH_COUNT,
        Metric.HEALTHY_PERCENTAGE,
        Metric.MATCHING_PERCENTAGE,
        Metric.LOG_ERRORS,
        Metric.THROTTLE_EVENTS,
    }
)
_PER_SAMPLE_OF_GROUP: Final = frozenset({Metric.CPU, Metric.QUALITY})
_DEVICE_TRENDS: Final = GROWTHS | {Metric.TEMPERATURE}
_WAITS: Final = "the verdict stays inconclusive"


@dataclass(frozen=True, slots=True)
class _Supply:
    """What some devices send a minute on average; ``most`` is the factor that they never exceed."""

    sender: str
    noun: str
    devices: int
    per_minute: float
    most: float


def too_few_samples(scene: Scene) -> Iterator[Finding]:
    """Say where even all devices together send less than ``min_samples``, or each too little to tell a trend."""
    said = set()
    for check in scene.checks:
        metric = check.check.threshold.metric
        if check.phase is not None and not is_announced(scene, metric):
            continue
        for finding in (*_of_check(scene, check), *_trend_of_check(scene, check)):
            if (metric, finding.message) not in said:  # The canary's phases and its gate often look at the same.
                yield finding
            said.add((metric, finding.message))
    for placed in scene.triggers:
        trigger, window, so = placed.trigger, placed.trigger.window_seconds, f"{placed.trigger.name} never fires"
        if window is None:
            continue
        for supply in _supplies(scene, trigger.condition.metric, of_canary=False):
            if _expected(supply, window) < trigger.min_samples:
                yield _short(f"{placed.where}.min_samples", supply, window, trigger.min_samples, so)
        if trigger.condition.metric in _DEVICE_TRENDS:
            yield from _trend_of_trigger(scene, placed.where, window, so)


def _of_check(scene: Scene, each: PlacedCheck) -> Iterator[Finding]:
    wanted, window = each.check.min_samples, each.check.window
    watched = max((soak for _, soak in scene.watched_seconds(each)), default=0.0)
    seconds = min(window or float("inf"), watched)
    for supply in _supplies(scene, each.check.threshold.metric, of_canary=each.is_of_canary):
        if _expected(supply, seconds) < wanted:
            # Without a window every extension of the soak brings more.
            is_hopeless = window is not None and _expected(supply, window) * supply.most < wanted
            yield _short(f"{each.where}.min_samples", supply, seconds, wanted, _WAITS, is_hopeless=is_hopeless)


def _expected(supply: _Supply, seconds: float) -> float:
    return supply.per_minute * supply.devices * seconds / 60


def _supplies(scene: Scene, metric: Metric, *, of_canary: bool) -> Iterator[_Supply]:
    facts = scene.facts
    if facts is None:
        return
    if metric in _PER_REQUEST:
        for name, group in facts.groups.items():
            devices = group.canary if of_canary else group.targets
            if group.requests_per_minute is not None and devices and metric not in group.lacks:
                yield _Supply(f"group {name_some([name])}", "request", devices, group.requests_per_minute, PEAK)
    elif metric in _PER_SAMPLE_OF_GROUP and facts.sample_seconds:
        for name, group in facts.groups.items():
            devices = group.canary if of_canary else group.targets
            if devices and metric not in group.lacks:
                yield _Supply(f"group {name_some([name])}", "sample", devices, 60 / facts.sample_seconds, HASTE)
    elif metric in _PER_SAMPLE and facts.sample_seconds:
        devices = facts.canary if of_canary else facts.targets
        sender = "the canary" if of_canary else "the fleet"
        yield _Supply(sender, "sample", devices, 60 / facts.sample_seconds, HASTE)


def _short(where: str, supply: _Supply, seconds: float, wanted: int, so: str, *, is_hopeless: bool = False) -> Finding:
    per_minute = supply.per_minute * supply.devices
    expected = _expected(supply, seconds)
    longer = long_enough(wanted, per_minute)
    even = f", and even {supply.most:g} times as many would not do" if is_hopeless else ""
    say = error if is_hopeless else warning
    return say(
        "L001",
        where,
        f"{supply.sender} ({counted(supply.devices, 'device')}) sends about {counted(int(expected), supply.noun)} in "
        f"{format_duration(seconds)}, {wanted} are needed{even}: {so}",
        f"min_samples: {max(1, int(expected / 2))}{f', or {longer}' if longer else ''}",
    )


def _trend_of_check(scene: Scene, each: PlacedCheck) -> Iterator[Finding]:
    """Hold a trend's points against the fewest that could show one, in the wave where that is worst."""
    window, between = each.check.window, _reading_seconds(scene)
    if each.check.threshold.metric not in GROWTHS or window is None or between is None:
        return
    sizes = dict(scene.judged_devices(each))
    for name, watched in scene.watched_seconds(each):
        needed, seconds = points_to_tell(sizes[name]), min(window, watched)
        if seconds / between >= needed:
            continue
        is_hopeless = window / between * HASTE < points_to_tell(min(sizes.values()))
        say = error if is_hopeless else warning
        yield say("L001", f"{each.where}.window", *_untold(name, sizes[name], seconds, between, _WAITS))
        return


def _trend_of_trigger(scene: Scene, where: str, window: float, so: str) -> Iterator[Finding]:
    between = _reading_seconds(scene)
    if between is not None and window / between < points_to_tell(1):
        yield note("L001", where, *_untold("any wave", 1, window, between, so))


def _reading_seconds(scene: Scene) -> float | None:
    """Return how far apart the readings of a trend are: one of each sample, at most thirty in the longest window."""
    if scene.facts is None or not scene.facts.sample_seconds:
        return None
    return max(scene.facts.sample_seconds, (scene.policy.longest_window_seconds or 0.0) / READINGS_MAX)


def _untold(name: str, devices: int, seconds: float, between: float, so: str) -> tuple[str, str]:
    needed, come = points_to_tell(devices), int(seconds / between)
    message = (
        f"a trend of {counted(devices, 'device')} in {name} takes {needed} readings of each; in "
        f"{format_duration(seconds)} come {come}, one in {format_duration(between)}: {so}"
    )
    return message, f"a window and a soak of {format_duration(needed * between)}, or samples more often"

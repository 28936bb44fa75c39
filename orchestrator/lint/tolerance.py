"""Rule L002: limits below one device, and limits that only luck keeps."""

from collections.abc import Iterator
from math import ceil, floor
from typing import Final

from orchestrator.lint.deadlines import always_late
from orchestrator.lint.finding import Finding, counted, note, percent, warning
from orchestrator.lint.numbers import (
    EXECUTED_MIN,
    chance_of_false_stop,
    chance_of_more_events,
    events_tolerated,
    failures_tolerated,
    tolerant_from,
)
from orchestrator.lint.scene import PlacedCheck, PlacedWave, Scene
from orchestrator.telemetry.evidence import share_holds
from schemas.conditions import Absolute, Condition, Metric
from schemas.times import format_duration

BAD_LUCK: Final = 0.02
"""Share of installs that are taken to fail whatever the version is."""
RESTARTS_PER_DEVICE_DAY: Final = 1 / 30
"""How often a device is taken to restart by itself where that is not known."""
FALSE_STOP_MAX: Final = 0.05
"""A good wave that is stopped more often than this is worth a warning."""

_RARE: Final = 0.01
_DAY_SECONDS: Final = 86400.0
_SHARES: Final = frozenset({Metric.HEALTHY_PERCENTAGE, Metric.MATCHING_PERCENTAGE, Metric.DEPLOYED_PERCENTAGE})


def zero_tolerance(scene: Scene) -> Iterator[Finding]:
    """L002: a limit below one device, one that luck alone must keep, or one that no device can keep."""
    yield from always_late(scene)
    waves = list(scene.waves)
    for wave in waves:
        yield from _below_one_device(wave, waves) if wave.devices is None else _strict_wave(wave, wave.devices)
    for check in scene.checks:
        limit = check.check.threshold.limit
        if not isinstance(limit, Absolute):
            continue
        if check.check.threshold.metric in _SHARES:
            yield from _strict_share(scene, check, limit.value)
        elif check.check.threshold.metric is Metric.CRASH_COUNT:
            yield from _strict_crashes(scene, check, limit.value)


def _below_one_device(each: PlacedWave, waves: list[PlacedWave]) -> Iterator[Finding]:
    """Say it of the first of the waves that have the same limit."""
    limit = each.wave.failure_threshold_percent
    alike = [other.wave.name for other in waves if other.wave.failure_threshold_percent == limit]
    if alike[0] != each.wave.name:
        return
    tolerant = tolerant_from(limit)
    below = "of any size" if tolerant is None else f"below {tolerant} devices"
    yield note(
        "L002",
        f"{each.where}.failure_threshold_percent",
        f"failed > {limit:g}% is zero tolerance in waves {below}: the first failure stops {' or '.join(alike)}",
        _tolerate_one(EXECUTED_MIN),
    )


def _strict_wave(each: PlacedWave, devices: int) -> Iterator[Finding]:
    limit, name = each.wave.failure_threshold_percent, each.wave.name
    chance, tolerant = chance_of_false_stop(devices, limit, BAD_LUCK), tolerant_from(limit)
    is_strict = tolerant is None or devices < tolerant
    if devices == 1 or not (is_strict or chance > FALSE_STOP_MAX):
        return
    first = "the first failure" if is_strict or tolerant is None else f"a failure among the first {tolerant - 1}"
    say = warning if chance > FALSE_STOP_MAX else note
    yield say(
        "L002",
        f"{each.where}.failure_threshold_percent",
        f"failed > {limit:g}% of {counted(devices, 'device')}: {first} stops {name}; "
        f"if {percent(BAD_LUCK)} of installs fail by bad luck, {percent(chance)} of such waves stop",
        _tolerate_one(devices),
    )


def _tolerate_one(devices: int) -> str:
    """Say what tolerating one failure from the start takes, and what that lets through."""
    first = min(devices, EXECUTED_MIN)
    limit = -(-100 // first)
    lets = f", and {failures_tolerated(devices, limit)} of all {devices:,}" if devices > first else ""
    tolerates = f"failure_threshold_percent: {limit} tolerates 1 of the first {first}{lets}"
    return f"a person's resume excuses it by name; {tolerates}"


def _strict_share(scene: Scene, each: PlacedCheck, limit: float) -> Iterator[Finding]:
    if limit == 1 and (each.is_of_canary or each.check.threshold.metric is not Metric.HEALTHY_PERCENTAGE):
        return  # All are meant.
    said, judged = each.check.threshold, scene.judged_devices(each)
    tolerant = _tolerant(said, limit)
    if not judged:
        below = "of any number" if tolerant is None else f"of fewer than {tolerant} devices"
        yield note("L002", each.where, f"{said} {below} means all of them", "lower the limit if one may be missing")
        return
    strict = [(name, devices) for name, devices in judged if tolerant is None or devices < tolerant]
    if not strict:
        return
    name, devices = strict[-1]
    reached = "never tolerated" if tolerant is None else f"tolerated from {tolerant} devices on"
    yield note(
        "L002",
        each.where,
        f"{said} of {counted(devices, 'device')} (after {name}) means all {devices:,}; one is {reached}",
        f"{each.check.threshold.metric} >= {100 + -100 // devices}% leaves out one of {devices:,}"
        if devices > 1
        else "of one device there is no share to leave out",
    )


def _tolerant(condition: Condition, limit: float) -> int | None:
    """Return the fewest devices of which one may be missing; None: never."""
    tolerant = tolerant_from(100 - limit * 100)
    if tolerant is not None and not share_holds(condition.operator, tolerant - 1, tolerant, limit):
        return tolerant + 1  # ``>`` of an exact share.
    return tolerant


def _strict_crashes(scene: Scene, each: PlacedCheck, limit: float) -> Iterator[Finding]:
    judged = scene.judged_devices(each)
    if scene.facts is None or not judged:
        return
    name, devices = judged[-1]
    seconds = each.check.window or dict(scene.watched_seconds(each)).get(name, 0.0)
    known = scene.facts.restarts_per_device_day
    rate = RESTARTS_PER_DEVICE_DAY if known is None else known
    expected = rate * devices * seconds / _DAY_SECONDS
    tolerated = ceil(limit) - 1 if each.check.threshold.operator == "<" else floor(limit)
    chance = chance_of_more_events(tolerated, expected)
    if chance <= FALSE_STOP_MAX:
        return
    often = f"{rate:.3g} times a day" if rate >= 1 else f"once in {1 / rate:.3g} days"
    yield warning(
        "L002",
        each.where,
        f"{each.check.threshold} of {devices:,} devices in {format_duration(seconds)} fails in {percent(chance)} of "
        f"good rollouts ({'if ' if known is None else ''}a device restarts by itself {often})",
        f"threshold: {events_tolerated(expected, _RARE)} fails in at most {percent(_RARE)} of them; "
        "a device that restarts often is a trigger's",
    )

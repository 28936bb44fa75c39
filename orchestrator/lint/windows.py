"""Rules about what a threshold is taken over and what its percent means."""

import re
from collections.abc import Iterator
from typing import Final

from orchestrator.lint.finding import Finding, counted, note, warning
from orchestrator.lint.scene import COMPLETION_GATE, PlacedCheck, Scene
from schemas.conditions import GROWTHS, RATES, BaselinePlus, Condition, Metric
from schemas.times import format_duration

_UNMARKED: Final = re.compile(r"baseline\s*[+-]\s*[0-9.]+\s*%(?!\s*rel)")
_DEVICE_TRENDS: Final = GROWTHS | {Metric.TEMPERATURE}


def longer_than_soak(scene: Scene) -> Iterator[Finding]:
    """L004: a window reaches back behind the soak, to the switch or to nothing."""
    for each in scene.checks:
        window = each.check.window
        short = [(name, soak) for name, soak in _watched(scene, each) if window and soak < window]
        if window is None or not short:
            continue
        name, soak = min(short, key=lambda pair: pair[1])
        also = f" and {counted(len(short) - 1, 'other wave')}" if len(short) > 1 else ""
        soaks = (
            f"{name}{also} soaks" if not each.is_of_canary else f"{name} lasts" if each.phase else f"{name} is watched"
        )
        yield warning(
            "L004",
            f"{each.where}.window",
            f"looks {format_duration(window)} back, but {soaks} {format_duration(soak)}: "
            "of those devices it sees less, the minutes after the switch included",
            _soak_remedy(each, name, window, soak),
        )

    yield from _trends_of_the_last_wave(scene)


def _watched(scene: Scene, each: PlacedCheck) -> list[tuple[str, float]]:
    """Return for how long each part of the rollout is watched when a check judges it; a trend has its phase alone."""
    watched = scene.watched_seconds(each)
    if each.phase is None:
        return watched
    name = f"the canary's {each.phase.replace('_', '-')} phase"
    if each.check.threshold.metric in GROWTHS:
        return [(name, scene.policy.rollout.canary.phase_seconds(each.phase))]
    return [(f"the canary up to the end of its {each.phase.replace('_', '-')} phase", watched[0][1])]


def _trends_of_the_last_wave(scene: Scene) -> Iterator[Finding]:
    """Nothing is watched once the last soak is over and the rollout is complete."""
    for name, soak in scene.soaks[-1:]:
        for each in scene.triggers:
            window = each.trigger.window_seconds
            if each.trigger.condition.metric in _DEVICE_TRENDS and window is not None and window > soak:
                yield note(
                    "L004",
                    each.where,
                    f"{each.trigger.name} looks {format_duration(window)} back, but {name} soaks "
                    f"{format_duration(soak)} and then nothing is watched: of its devices it sees no more than that",
                    f"soak_minutes: {window / 60:g} for {name}, or watch them by other means",
                )


def _soak_remedy(each: PlacedCheck, name: str, window: float, soak: float) -> str:
    wanted, given = f"{window / 60:g}", f"{soak / 60:g}m"
    if each.phase is not None:
        return f"a longer {each.phase}_minutes of the canary, or window: {given}"
    if each.is_of_canary:
        return f"a longer soak_minutes of the canary, or window: {given}"
    is_last = each.gate == COMPLETION_GATE
    which = f"soak_minutes: {wanted} for {name}" if is_last else f"soak_minutes: {wanted} in each wave"
    return f"{which}, or window: {given}"


def ambiguous_percent(scene: Scene) -> Iterator[Finding]:
    """L005: ``baseline + N%`` is read in two ways; this is how it was read here. It needs the file's own words."""
    places = [(f"{each.where}.threshold", each.check.threshold) for each in scene.checks]
    places += [(f"{each.where}.condition", each.trigger.condition) for each in scene.triggers]
    found = [(where, condition) for where, condition in places if _UNMARKED.search(scene.file.text(where))]
    for is_rate in (True, False):
        alike = [(where, condition) for where, condition in found if (condition.metric in RATES) is is_rate]
        if alike:
            yield _reading(*alike[0], len(alike) - 1, is_rate=is_rate)


def _reading(where: str, condition: Condition, others: int, *, is_rate: bool) -> Finding:
    limit = condition.limit
    assert isinstance(limit, BaselinePlus), "only an amount added to the baseline is ambiguous"
    amount, sign = abs(limit.amount) * 100, "-" if limit.amount < 0 else "+"
    also = f" (and in {counted(others, 'other place')} the same way)" if others else ""
    said = f"baseline {sign} {amount:g}% of {condition.metric}"
    if is_rate:
        message = f"{said} adds {amount:g} percentage points: a baseline of 1% may become {1 + amount:g}%{also}"
        return note("L005", where, message, f"'baseline + {amount:g}pp' says so; '% rel' takes a share of the baseline")
    return note(
        "L005",
        where,
        f"{said} is a share of the baseline: 100 may become {100 + 100 * limit.amount:g}{also}",
        f"'baseline {sign} {amount:g}% rel' says so",
    )

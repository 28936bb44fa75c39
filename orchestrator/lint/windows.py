"""Rules about what a threshold is taken over and what its percent means."""

import re
from collections.abc import Iterator
from typing import Any, Final

from ruamel.yaml import YAML

from orchestrator.lint.finding import Finding, counted, info, warning
from orchestrator.lint.scene import CANARY_GATE, COMPLETION_GATE, Scene
from schemas.conditions import GROWTHS, RATES, BaselinePlus, Condition, Metric
from schemas.times import format_duration

_UNMARKED: Final = re.compile(r"baseline\s*[+-]\s*[0-9.]+\s*%(?!\s*rel)")
_DEVICE_TRENDS: Final = GROWTHS | {Metric.TEMPERATURE}
_STEPS: Final = re.compile(r"[a-z_]+|[0-9]+")


def longer_than_soak(scene: Scene) -> Iterator[Finding]:
    """L004: a window reaches back behind the soak, to the switch or to nothing."""
    for each in scene.checks:
        window = each.check.window
        short = [(name, soak) for name, soak in scene.watched_seconds(each.gate) if window and soak < window]
        if window is None or not short:
            continue
        name, soak = min(short, key=lambda pair: pair[1])
        also = f" and {counted(len(short) - 1, 'other wave')}" if len(short) > 1 else ""
        yield warning(
            "L004",
            f"{each.where}.window",
            f"looks {format_duration(window)} back, but {name}{also} soaks {format_duration(soak)}: "
            "of those devices it sees less, the minutes after the switch included",
            _soak_remedy(each.gate, name, window, soak),
        )

    yield from _trends_of_the_last_wave(scene)


def _trends_of_the_last_wave(scene: Scene) -> Iterator[Finding]:
    """Nothing is watched once the last soak is over and the rollout is complete."""
    for name, soak in scene.watched_seconds(COMPLETION_GATE):
        for each in scene.triggers:
            window = each.trigger.window_seconds
            if each.trigger.condition.metric in _DEVICE_TRENDS and window is not None and window > soak:
                yield info(
                    "L004",
                    each.where,
                    f"{each.trigger.name} looks {format_duration(window)} back, but {name} soaks "
                    f"{format_duration(soak)} and then nothing is watched: of its devices it sees no more than that",
                    f"soak_minutes: {window / 60:g} for {name}, or watch them by other means",
                )


def _soak_remedy(gate: str, name: str, window: float, soak: float) -> str:
    wanted, given = f"{window / 60:g}", f"{soak / 60:g}m"
    if gate == CANARY_GATE:
        return f"a longer soak_minutes of the canary, or window: {given}"
    which = f"soak_minutes: {wanted} for {name}" if gate == COMPLETION_GATE else f"soak_minutes: {wanted} in each wave"
    return f"{which}, or window: {given}"


def ambiguous_percent(scene: Scene) -> Iterator[Finding]:
    """L005: ``baseline + N%`` is read in two ways; this is how it was read here. It needs the file's own words."""
    if not scene.text:
        return
    tree = YAML(typ="safe", pure=True).load(scene.text)
    places = [(f"{each.where}.threshold", each.check.threshold) for each in scene.checks]
    places += [(f"{each.where}.condition", each.trigger.condition) for each in scene.triggers]
    found = [(where, condition) for where, condition in places if _UNMARKED.search(_written(tree, where))]
    for is_rate in (True, False):
        alike = [(where, condition) for where, condition in found if (condition.metric in RATES) is is_rate]
        if alike:
            yield _reading(*alike[0], len(alike) - 1, is_rate=is_rate)


def _written(tree: Any, where: str) -> str:  # noqa: ANN401 - YAML holds anything
    """Return what the file says at a path; empty where it leaves it to the default."""
    for key in _STEPS.findall(where):
        try:
            tree = tree[int(key) if key.isdigit() else key]
        except (KeyError, IndexError, TypeError):
            return ""
    return str(tree)


def _reading(where: str, condition: Condition, others: int, *, is_rate: bool) -> Finding:
    limit = condition.limit
    assert isinstance(limit, BaselinePlus), "only an amount added to the baseline is ambiguous"
    amount, sign = abs(limit.amount) * 100, "-" if limit.amount < 0 else "+"
    also = f" (and in {counted(others, 'other place')} the same way)" if others else ""
    said = f"baseline {sign} {amount:g}% of {condition.metric}"
    if is_rate:
        message = f"{said} adds {amount:g} percentage points: a baseline of 1% may become {1 + amount:g}%{also}"
        return info("L005", where, message, f"'baseline + {amount:g}pp' says so; '% rel' takes a share of the baseline")
    return info(
        "L005",
        where,
        f"{said} is a share of the baseline: 100 may become {100 + 100 * limit.amount:g}{also}",
        f"'baseline {sign} {amount:g}% rel' says so",
    )

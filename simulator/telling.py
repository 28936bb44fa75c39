"""The story of a seed in words: what was drawn, what happened one after another, and how it ended.

Every line comes from the trace, and what the orchestrator wrote into its journal stands in the words of its audit, so
nothing is told that did not happen. Steps of many devices at the same time are put together.
"""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import groupby
from typing import Final, NamedTuple

from orchestrator.reporting.audit import audit_row
from orchestrator.reporting.entries import Body
from orchestrator.reporting.words import count_text, name_some
from simulator.application import GOOD, Behavior
from simulator.faults import NO_FAULTS, Faults
from simulator.scenario import Scenario
from simulator.world import Result, World

_ORCHESTRATOR: Final = "orchestrator"
_UNTOLD: Final = frozenset({"command_answered", "connections_lost", "soak_progressed"})
"""Entries that people see elsewhere, or that say only that time goes on."""
_STEP: Final = " (generation "
_NAMED_MAX: Final = 4
_TEXT_MAX: Final = 200


class Line(NamedTuple):
    """One thing that happened.

    Attributes:
        seconds: When, after the world began.
        who: A device, a person, the orchestrator, the broker or the world.
        kind: Lines of one kind that follow each other are told as one.
    """

    seconds: float
    who: str
    kind: str
    text: str


def tell(world: World, result: Result) -> Iterator[str]:
    """Tell what became of a world.

    Args:
        world: It has run.
        result: What its run returned.
    """
    yield from _cast(world.scenario)
    yield ""
    lines = sorted([*_lines(world, result), *map(_violation, result.violations)], key=lambda line: line.seconds)
    for _, run in groupby(lines, key=lambda line: line.kind or id(line)):
        together = list(run)
        yield from _steps(together) if together[0].kind == _STEP else _many(together)
    yield ""
    yield from _end(result)


def _cast(scenario: Scenario) -> Iterator[str]:
    """Tell what was drawn."""
    equipped = sum(spec.setup.has_router for spec in scenario.fleet)
    fleet = count_text(len(scenario.fleet), "device")
    late = f"; {len(scenario.absent)} appear later" if scenario.absent else ""
    yield f"Seed {scenario.seed}: {fleet}, {equipped} with a router{late}."
    yield f"The new version: {_differences(scenario.release, GOOD) or 'a good one'}."
    yield f"What goes wrong: {_differences(scenario.faults, NO_FAULTS) or 'nothing'}."
    approves = scenario.habits.approve_after_seconds
    waits = "never approves" if approves is None else f"approves after {approves:.0f} s"
    clumsy = "; she and others press wrong buttons too" if scenario.habits.is_clumsy else ""
    yield f"Alice {waits}, and resumes at most {count_text(scenario.habits.resumes, 'time')}{clumsy}."


def _differences(value: Faults | Behavior, usual: Faults | Behavior) -> str:
    """Name every field that is not as usual."""
    changed = ((each.name, getattr(value, each.name)) for each in fields(value))
    return ", ".join(f"{name} {_short(found)}" for name, found in changed if found != getattr(usual, name))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _lines(world: World, result: Result) -> Iterator[Line]:
    """Read the trace; each of its lines about the journal is one entry, in the same order."""
    entries = iter(world.orchestrator.journal.read())
    entry = next(entries, None)
    for line in result.trace:
        when, who, text = line.split(maxsplit=2)
        if who == _ORCHESTRATOR and entry is not None and text.split()[0] == entry.kind:
            if entry.kind not in _UNTOLD:
                row = audit_row(entry, Body(entry.body))
                said = f"{row.device}: {row.text}" if row.device and row.device not in row.text else row.text
                yield Line(float(when), who, f"{row.kind} {row.outcome}", said[:_TEXT_MAX])
            entry = next(entries, None)
        else:
            yield Line(float(when), who, _STEP if _STEP in text else "", text)


def _violation(text: str) -> Line:
    when, _, what = text.partition(" ")
    return Line(float(when), "VIOLATED", "", what)


def _many(lines: list[Line]) -> Iterator[str]:
    """Tell a few one by one, and more of the same kind by the first and the last."""
    if len(lines) <= _NAMED_MAX:
        yield from (_told(each.seconds, each.who, each.text) for each in lines)
        return
    yield _told(lines[0].seconds, lines[0].who, lines[0].text)
    yield _told(lines[-1].seconds, lines[-1].who, f"… and {len(lines) - 2} more until {lines[-1].text}")


def _steps(lines: list[Line]) -> Iterator[str]:
    """Tell devices that went through the same steps together."""
    by_device: dict[str, list[Line]] = {}
    for line in lines:
        by_device.setdefault(line.who, []).append(line)
    alike: dict[tuple[str, ...], list[list[Line]]] = {}
    for each in by_device.values():
        alike.setdefault(tuple(_word(line.text) for line in each), []).append(each)
    for steps, devices in alike.items():
        names = name_some(tuple(each[0].who for each in devices), _NAMED_MAX)
        yield _told(devices[0][0].seconds, names, f"{', '.join(steps)}{_generations(devices)}")


def _word(text: str) -> str:
    return text.partition(_STEP)[0].replace("_", " ")


def _generations(devices: Iterable[list[Line]]) -> str:
    numbers = dict.fromkeys(line.text.partition(_STEP)[2].rstrip(")") for each in devices for line in each)
    return f" (generation {', '.join(numbers)})"


def _told(seconds: float, who: str, text: str) -> str:
    return f"{seconds:9.1f} s  {who}: {text}"


def _end(result: Result) -> Iterator[str]:
    for rollout, phase in result.outcomes.items():
        yield f"{rollout} ended {phase.replace('_', ' ')}."
    for version, devices in result.ran.items():
        yield f"{count_text(len(devices), 'device')} ever ran {version}."
    yield from (f"Violated: {each}" for each in result.violations)
    if not result.violations:
        yield "Every invariant held."

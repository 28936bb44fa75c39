"""Shrinking a seed that violates something: what goes wrong there without need is taken away, one thing after another.

What is left has names, so it can be replayed: ``tidegate simulate --seed N --only NAME,NAME``.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from typing import Final

from device_client.core.setup import Setup
from simulator.application import GOOD
from simulator.faults import NO_FAULTS
from simulator.scenario import Scenario, draw_scenario
from simulator.world import World

_PARTS: Final[dict[str, Callable[[Scenario], Scenario]]] = {
    "release": lambda scenario: replace(scenario, release=GOOD),
    "late": lambda scenario: replace(scenario, absent=frozenset()),
    "setups": lambda scenario: replace(scenario, fleet=tuple(replace(each, setup=Setup()) for each in scenario.fleet)),
    "resumes": lambda scenario: replace(scenario, habits=replace(scenario.habits, resumes=0)),
}
"""What a seed draws beside the faults."""
_FAULTS: Final = tuple(each.name for each in fields(NO_FAULTS) if each.name != "stop_seconds")
NAMES: Final = (*_FAULTS, *_PARTS)
"""Everything that can be taken away."""
NOTHING: Final = "nothing"
"""The name of no fault at all."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The least that still violates the same invariant.

    Attributes:
        needed: What was drawn and cannot be taken away.
        violation: The first of that invariant.
        runs: How many worlds were tried.
    """

    seed: int
    device_count: int
    needed: tuple[str, ...]
    violation: str
    runs: int

    @property
    def replay(self) -> str:
        """The command that shows it again."""
        only = ",".join(self.needed) or NOTHING
        return f"tidegate simulate --seed {self.seed} --devices {self.device_count} --only {only} --explain"


def keep_only(scenario: Scenario, names: Collection[str]) -> Scenario:
    """Return the scenario with only these of ``NAMES``; they are left as they were drawn."""
    for name in NAMES:
        if name not in names:
            scenario = _take_away(scenario, name)
    return scenario


def shrink(
    seed: int, device_count: int, on_try: Callable[[int, str], None] = lambda _run, _what: None
) -> Shrunk | None:
    """Take away from a seed what its first violation does not need.

    Args:
        seed: As for ``simulate``.
        device_count: The same; fewer are tried too.
        on_try: Told before each world, with its number and what is tried.

    Returns:
        None where nothing is violated.
    """
    drawn = draw_scenario(seed, device_count=device_count)
    needed = tuple(name for name in NAMES if _take_away(drawn, name) != drawn)
    search = _Search(seed, on_try)
    violation = search.violation(device_count, needed, "all that is drawn")
    if violation is None:
        return None
    for name in needed:
        fewer = tuple(each for each in needed if each != name)
        found = search.violation(device_count, fewer, f"without {name}")
        if found is not None:
            needed, violation = fewer, found
    while device_count > 1:
        found = search.violation(device_count // 2, needed, f"with {device_count // 2} devices")
        if found is None:
            break
        device_count, violation = device_count // 2, found
    return Shrunk(seed, device_count, needed, violation, search.runs)


class _Search:
    """Runs worlds of one seed and looks for the invariant that the first one has violated."""

    def __init__(self, seed: int, on_try: Callable[[int, str], None]) -> None:
        self.runs = 0
        self._seed = seed
        self._on_try = on_try
        self._invariant = ""

    def violation(self, device_count: int, names: Collection[str], what: str) -> str | None:
        """Return how a world with only these violates that invariant, if it does."""
        self.runs += 1
        self._on_try(self.runs, what)
        scenario = keep_only(draw_scenario(self._seed, device_count=device_count), names)
        violations = World(scenario).run().violations
        if violations and not self._invariant:
            self._invariant = _invariant(violations[0])
        return next((each for each in violations if _invariant(each) == self._invariant), None)


def _take_away(scenario: Scenario, name: str) -> Scenario:
    if name in _PARTS:
        return _PARTS[name](scenario)
    faults = replace(scenario.faults, **{name: getattr(NO_FAULTS, name)})
    return replace(scenario, faults=faults, habits=replace(scenario.habits, is_clumsy=faults.clumsy_humans))


def _invariant(violation: str) -> str:
    """Return the name of the invariant: a violation begins with a moment and ends with who and what."""
    return violation.split(" ", 1)[1].partition(":")[0]

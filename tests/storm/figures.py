"""What a scenario came to: figures beside their bars, and what must not be."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured; at most ``bar``, or at least that where ``is_floor``; None: no bar."""

    name: str
    figure: float
    unit: str
    bar: float | None = None
    is_floor: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is within its bar."""
        if self.bar is None:
            return True
        return self.figure >= self.bar if self.is_floor else self.figure <= self.bar

    def facts(self) -> dict[str, Any]:
        """Return it for machines; what never came is None."""
        known = math.isfinite(self.figure)
        return {
            "name": self.name, "figure": round(self.figure, 3) if known else None, "unit": self.unit, "bar": self.bar,
            "ratio": round(self.figure / self.bar, 3) if known and self.bar else None, "holds": self.holds,
        }  # fmt: skip

    def __str__(self) -> str:
        shown = f"{self.figure:.4g} {self.unit}" if math.isfinite(self.figure) else "never"
        if self.bar is None:
            return f"{self.name}: {shown}"
        word = "at least" if self.is_floor else "bar"
        return f"{self.name}: {shown}, {word} {self.bar:g}" + ("" if self.holds else "  MISSED")


@dataclass
class Outcome:
    """One run of a scenario.

    Attributes:
        wrong: What must not be, in words.
        load: How busy the machine was when it ended.
    """

    scenario: str
    figures: list[Figure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    load: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong and each figure is within its bar."""
        return not self.wrong and all(each.holds for each in self.figures)

    def facts(self) -> dict[str, Any]:
        """Return it for machines."""
        figures = [each.facts() for each in self.figures]
        return {
            "scenario": self.scenario, "holds": self.holds, "wrong": self.wrong, "load": self.load, "figures": figures
        }  # fmt: skip

"""What devices did together in some stretch of time, in a form that can be merged without losing what it claims."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from math import inf

from orchestrator.telemetry.sketch import Sketch, merge


@dataclass(slots=True)
class Cell:
    """What a cohort did in one cell of time, or in several.

    Attributes:
        percentiles: What devices without a sketch report of their own p50, p95 and p99.
        means: Sum and count behind a mean by its name; processor use has the empty one.
    """

    start: float
    end: float
    requests: float = 0.0
    errors: float = 0.0
    samples: int = 0
    latency: Sketch = field(default_factory=Sketch)
    percentiles: tuple[Sketch, Sketch, Sketch] = field(default_factory=lambda: (Sketch(), Sketch(), Sketch()))
    means: dict[str, tuple[float, int]] = field(default_factory=dict)


def merged(cells: Iterable[Cell]) -> Cell:
    """Return what several cells hold together."""
    every = list(cells)
    means: dict[str, tuple[float, int]] = {}
    for name, (total, count) in chain.from_iterable(each.means.items() for each in every):
        before, counted = means.get(name, (0.0, 0))
        means[name] = (before + total, counted + count)
    p50, p95, p99 = (merge(*(each.percentiles[place] for each in every)) for place in range(3))
    return Cell(
        min((each.start for each in every), default=inf),
        max((each.end for each in every), default=-inf),
        sum(each.requests for each in every),
        sum(each.errors for each in every),
        sum(each.samples for each in every),
        merge(*(each.latency for each in every)),
        (p50, p95, p99),
        means,
    )

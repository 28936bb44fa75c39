"""One picture of some rehearsals: how many devices had been let go to the new version, hour by hour."""

from collections.abc import Sequence
from typing import Final

from orchestrator.reporting.markup import Html, el, join
from orchestrator.reporting.words import count_text
from simulator.rehearsal_result import Rehearsal

_WIDTH: Final = 720
_HEIGHT: Final = 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 44, 44
_STYLE: Final = Html(
    "<style>text{font:12px system-ui,sans-serif;fill:#333}.title{font-weight:600}.axis{stroke:#999}"
    ".run{fill:none;stroke:#2563eb;stroke-width:1.5;stroke-opacity:.5}.stop{stroke:#dc2626;stroke-width:2}"
    ".through{fill:#16a34a}</style>"
)


def plot_svg(title: str, seen: Sequence[Rehearsal]) -> str:
    """Return an SVG that needs nothing else: a line for each run, with a cross where it stopped or a dot at its end."""
    hours = max(max(each.seconds for each in seen) / 3600, 1 / 60)
    most = max(each.targets for each in seen)
    parts = [
        _STYLE, el("rect", width=_WIDTH, height=_HEIGHT, fill="#fff"), el("text", title, x=_LEFT, y=22, class_="title"),
        *(_run(each, hours, most) for each in seen), *_axes(hours, most, in_bulk=any(each.in_bulk for each in seen)),
    ]  # fmt: skip
    svg = el("svg", join(parts), xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}")
    return f"{svg}\n"


def _run(seen: Rehearsal, hours: float, most: int) -> Html:
    """Draw steps: each moment at which a device was let go."""
    x, y = _x(0.0, hours), _y(0, most)
    steps = [f"M{x} {y}"]
    for at, count in seen.exposure:
        steps.append(f"H{_x(at / 3600, hours)}V{_y(count, most)}")
    x, y = _x(seen.seconds / 3600, hours), _y(seen.exposed, most)
    steps.append(f"H{x}")
    end = (
        el("path", d=f"M{x - 5} {y - 5}l10 10m0-10l-10 10", class_="stop")
        if seen.stopped_by
        else el("circle", cx=x, cy=y, r=4, class_="through")
    )
    return el("g", el("title", f"seed {seen.seed}: {seen.told}"), el("path", d="".join(steps), class_="run"), end)


def _axes(hours: float, most: int, *, in_bulk: bool) -> list[Html]:
    legend = "let go to the new version; ✕ stopped, ● went through"
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    return [
        el("line", x1=_LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"),
        el("line", x1=_LEFT, x2=_LEFT, y1=_TOP, y2=bottom, class_="axis"),
        el("text", "0", x=_LEFT, y=bottom + 18),
        el("text", f"{hours:.1f} hours", x=right, y=bottom + 18, text_anchor="end"),
        el("text", count_text(most, "device"), x=_LEFT, y=_TOP - 6),
        el("text", f"{legend}{', played in bulk' if in_bulk else ''}", x=right, y=_TOP - 6, text_anchor="end"),
    ]


def _x(at_hours: float, hours: float) -> float:
    return round(_LEFT + min(at_hours / hours, 1.0) * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(count: int, most: int) -> float:
    return round(_HEIGHT - _BOTTOM - count / most * (_HEIGHT - _TOP - _BOTTOM), 1)

"""Rehearsals in words: one with its waves, or many as chances and ranges."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.terminal import words
from orchestrator.reporting.words import count_text, seconds_text
from simulator.rehearsal_result import Rehearsal

IN_BULK: Final = (
    "So many devices were played in bulk: planner, limits, gates, triggers and telemetry are tidegate's own, and each "
    "device prepares, switches, proves itself and returns at moments of its own. Left out: messages, network, disks."
)
_VERDICTS = {"pass": "green", "fail": "bold red", "caution": "yellow", "inconclusive": "yellow"}


def render_one(seen: Rehearsal) -> RenderableType:
    """Show one rehearsal."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("WAVE", "DEVICES", "BEGAN AFTER", "TOOK", "LET GO", "GATE"):
        table.add_column(name, justify="left" if name in {"WAVE", "GATE"} else "right")
    for wave in seen.waves:
        took = None if wave.started_at is None or wave.ended_at is None else wave.ended_at - wave.started_at
        table.add_row(
            words(wave.name, "" if wave.started_at is not None else "dim"), f"{wave.devices:,}",
            seconds_text(wave.started_at), seconds_text(took), f"{wave.exposed:,}",
            words(wave.verdict or "–", _VERDICTS.get(wave.verdict, "dim")),
        )  # fmt: skip
    harm = (
        f"{seen.harmed:,} of the {count_text(seen.affected, 'device')} with the fault ran it" if seen.affected else ""
    )
    exposed = f"{seen.exposed:,} of {count_text(seen.targets, 'device')} were let go to the new version"
    return Group(
        _headline(seen), words(seen.told), Text(""), table, Text(""),
        words(f"{exposed}{f'; {harm}' if harm else ''}."), *_left_out((seen,)), *_violations((seen,)),
    )  # fmt: skip


def _headline(seen: Rehearsal) -> Text:
    if not seen.stopped_by:
        return words(f"It reaches the whole fleet, in {seconds_text(seen.seconds)}", "bold")
    where = f"in {seen.stopped_in}" if seen.stopped_in else "on the way"
    late = "" if seen.is_stopped else ", when the last wave had begun"
    return words(f"It stops {where} after {seconds_text(seen.seconds)}, by {seen.stopped_by}{late}", "bold")


def summary(seen: Sequence[Rehearsal]) -> dict[str, Any]:
    """Return what many rehearsals have in common; counts are of devices, at least one of them is given."""
    stopped = sum(each.is_stopped for each in seen)
    return {
        "runs": len(seen),
        "stopped_before_last_wave": stopped,
        "exposed": _range([each.exposed for each in seen]),
        "harmed": _range([each.harmed for each in seen]),
        "seconds": _range([each.seconds for each in seen]),
        "stopped_by": dict(Counter(each.stopped_by or "nothing" for each in seen).most_common()),
        "stopped_in": dict(Counter(each.stopped_in or "nowhere" for each in seen).most_common()),
        "violations": sorted({each for one in seen for each in one.violations}),
    }


def _range(values: Sequence[float]) -> dict[str, float]:
    """Return the half and the nineteen in twenty that were not more; values of runs, nothing in between."""
    ordered = sorted(values)
    at = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in _SHARES.items()}
    return {"min": ordered[0], **at, "max": ordered[-1]}


_SHARES = {"p50": 0.5, "p95": 0.95}


def render_many(seen: Sequence[Rehearsal]) -> RenderableType:
    """Show many rehearsals."""
    told = summary(seen)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("", "LEAST", "P50", "P95", "MOST"):
        table.add_column(name, justify="right" if name else "left")
    for name, key in (("devices let go", "exposed"), ("devices harmed", "harmed")):
        table.add_row(name, *(f"{value:,}" for value in told[key].values()))
    table.add_row("time until it stopped or ended", *(seconds_text(value) for value in told["seconds"].values()))
    stops = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    stops.add_column("RUNS", justify="right")
    stops.add_column("STOPPED BY")
    for cause, count in told["stopped_by"].items():
        stops.add_row(f"{count:,}", words(cause))
    chance = (
        f"{told['stopped_before_last_wave']:,} of {count_text(len(seen), 'run')} stopped before the last wave began"
    )
    about = f"{count_text(seen[0].targets, 'device')} in {count_text(len(seen[0].waves), 'wave')}"
    return Group(
        words(chance, "bold"), words(about), Text(""), table, Text(""), stops, *_left_out(seen), *_violations(seen)
    )  # fmt: skip


def _left_out(seen: Sequence[Rehearsal]) -> list[RenderableType]:
    """Say what a rehearsal in bulk does not show."""
    return [Text(""), words(IN_BULK, "dim")] if any(each.in_bulk for each in seen) else []


def _violations(seen: Sequence[Rehearsal]) -> list[RenderableType]:
    broken = sorted({each for one in seen for each in one.violations})
    return [words(f"✖ this is a mistake of tidegate's own, please report it: {each}", "bold red") for each in broken]

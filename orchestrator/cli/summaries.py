"""Rollouts as tables: the list of all, one of them, and what a command on one led to."""

from collections.abc import Mapping
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.answers import Answer, Data, read
from orchestrator.cli.explaining import choices_of
from orchestrator.cli.phases import Look, phase_look, phase_words
from orchestrator.cli.quantities import ago, clock
from orchestrator.cli.terminal import command_lines, words
from schemas.times import Timestamp

_DEPLOYED: Final = ("committed", "proven")
_PAUSED: Final = Look("⏸", "yellow", waits=True)


class Summary(Answer):
    """A rollout as ``get`` and ``list`` tell of it."""

    rollout: str
    release: str
    version: str
    phase: str
    wave: str | None = None
    paused: bool = False
    counts: Mapping[str, int] = {}
    soaked_seconds: float = 0.0
    soak_required_seconds: float = 0.0
    reason: str = ""
    started_at: Timestamp
    started_by: str
    summary: str = ""
    by: str = ""
    already_applied: bool = False

    @property
    def done(self) -> str:
        """How many of its targets run the new version."""
        return f"{sum(self.counts.get(name, 0) for name in _DEPLOYED)}/{self.counts.get('total', 0)}"

    @property
    def look(self) -> Look:
        """How its phase is shown."""
        look = phase_look(self.phase)
        return _PAUSED if self.paused and look.ending is None else look

    @property
    def place(self) -> Text:
        """Its phase, in words."""
        paused = ", paused" if self.paused and self.look.ending is None else ""
        return words(f"{self.look.symbol} {phase_words(self.phase)}{paused}", self.look.style)


class Listing(Answer):
    """The answer to ``list``."""

    rollouts: tuple[Summary, ...]


def render_list(data: Data, now: float) -> RenderableType:
    """Show rollouts, the newest first."""
    rollouts = sorted(read(Listing, data).rollouts, key=lambda each: each.started_at, reverse=True)
    if not rollouts:
        return Group(words("no rollouts yet"), command_lines(["tidegate plan POLICY --release RELEASE"]))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("ROLLOUT", "RELEASE", "PHASE", "WAVE", "DONE", "FAILED", "AGE", "REASON"):
        right = column in {"DONE", "FAILED", "AGE"}
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "REASON")
    for each in rollouts:
        failed = each.counts.get("failed_ever", 0)
        wave = each.wave if each.look.ending is None else "-"
        table.add_row(
            words(each.rollout, "bold"), words(each.release), each.place, words(wave or "-"), each.done,
            words(failed, "red" if failed else ""), ago(each.started_at, now), words(each.reason, "dim"),
        )  # fmt: skip
    active = next((each for each in rollouts if each.look.ending is None), rollouts[0])
    return Group(table, Text(""), command_lines([f"tidegate watch {active.rollout}"]))


def render_get(data: Data, now: float) -> RenderableType:
    """Show one rollout: where it is, how far, and what may follow."""
    got = read(Summary, data)
    wave = f" at {got.wave}" if got.wave and got.look.ending is None else ""
    lines: list[RenderableType] = [
        words(f"{got.rollout}  {got.release}   ", "bold") + got.place + words(wave),
        words(f"started {ago(got.started_at, now)} ago by {got.started_by}", "dim"),
    ]
    if got.summary:
        lines.append(words(got.summary))
    if got.reason and got.reason not in got.summary:
        lines.append(words(f"why: {got.reason}", got.look.style))
    tally = {name: count for name, count in got.counts.items() if count and name not in {"total", "failed_ever"}}
    told = ", ".join(f"{count} {phase_words(name)}" for name, count in tally.items())
    lines.append(words(f"devices: {got.done} deployed ({told})"))
    if got.phase == "soaking":
        lines.append(words(f"soaked {clock(got.soaked_seconds)} of {clock(got.soak_required_seconds)}"))
    commands = [f"tidegate watch {got.rollout}", f"tidegate explain {got.rollout}"]
    return Group(*lines, command_lines([*choices_of(data), *commands]))


def render_done(data: Data, verb: str) -> RenderableType:
    """Say what a command on a rollout led to."""
    got = read(Summary, data)
    head = (
        f"{verb} {got.rollout}: nothing changed, it was so already" if got.already_applied else f"{verb} {got.rollout}"
    )
    mark = words("✔ ", "green") + words(head, "bold")
    wave = f" at {got.wave}" if got.wave and got.look.ending is None else ""
    where = words("  it is ") + got.place + words(f"{wave}, {got.done} devices deployed")
    return Group(mark, where, command_lines([f"tidegate watch {got.rollout}"]))

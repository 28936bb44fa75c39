"""What the demo shows while it runs: lines that stay, and below them a live picture of the current rollout."""

import sys
from collections.abc import Callable
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.demo.observer import Observed
from schemas.documents import CheckResult, GateResult, StatusDocument, WaveDocument

_SQUARES: Final = {
    "pending": ("·", "dim"),
    "ordered": ("▫", "cyan"),
    "granted": ("▣", "yellow"),
    "returning": ("◪", "magenta"),
    "held": ("▫", "dim"),
    "proven": ("■", "cyan"),
    "committed": ("■", "green"),
    "failed": ("■", "red"),
    "returned": ("◩", "magenta"),
    "stranded": ("■", "red"),
}
_MARKS: Final = {"pass": "✔", "caution": "!", "inconclusive": "?", "fail": "✖"}
_COLOURS: Final = {"pass": "green", "caution": "yellow", "inconclusive": "yellow", "fail": "red"}


class Screen:
    """Prints lines, and where there is a terminal a live picture of ``seen`` below them.

    Args:
        seen: What the observer keeps up to date.
        quiet: Print nothing at all; for ``--json``.
    """

    def __init__(self, seen: Observed, elapsed: Callable[[], float], *, quiet: bool) -> None:
        self._console = Console(file=sys.stderr if quiet else sys.stdout, quiet=quiet, highlight=False)
        self._seen = seen
        self._elapsed = elapsed
        self.rollout: str | None = None
        self.is_live = self._console.is_terminal and not quiet
        self._live = Live(get_renderable=self._picture, console=self._console, refresh_per_second=4, transient=True)
        self._last_plain = ""

    def __enter__(self) -> Self:
        if self.is_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str, style: str = "") -> None:
        """Print a line that stays, with the time since the start."""
        self._console.print(Text(f"{self._elapsed():6.1f} s  ", style="dim") + Text(text, style=style), soft_wrap=True)

    def refresh(self) -> None:
        """Without a terminal, print the state of the rollout when it has changed."""
        status = self._seen.status.get(self.rollout or "")
        if self.is_live or status is None:
            return
        line = f"{status.rollout} {status.version}: {status.phase}, {_counts(status)}"
        if line != self._last_plain:
            self._last_plain = line
            self.say(line, "dim")

    def _picture(self) -> RenderableType:
        status = self._seen.status.get(self.rollout or "")
        if status is None:
            return Text("")
        waves = self._seen.waves.get(status.rollout, {})
        gates = self._seen.gates.get(status.rollout, {})
        title = Text(f"\n{status.rollout}  {status.release}  {status.phase.upper().replace('_', ' ')}", style="bold")
        reasons = Text("; ".join(status.reasons), style="dim")
        gate = gates.get(status.wave or "") or next(reversed(gates.values()), None)
        parts: list[RenderableType] = [title, reasons, _wave_table(list(waves.values()))]
        return Group(*parts, gate_table(gate)) if gate is not None else Group(*parts)


def _wave_table(waves: list[WaveDocument]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("WAVE", "DEVICES", "", "STATE"):
        table.add_column(column)
    for wave in waves:
        squares = Text()
        for state, (square, colour) in _SQUARES.items():
            squares.append(square * wave.counts.get(state, 0), colour)
        table.add_row(wave.wave, str(wave.device_count), squares, wave.state.replace("_", " "))
    return table


def gate_table(gate: GateResult) -> Table:
    """Show a verdict with the numbers behind it."""
    table = Table(box=None, padding=(0, 2), header_style="dim", title_justify="left", title_style="")
    table.title = f"{gate.gate}: {gate.verdict}, {gate.decision} ({gate.devices} devices)"
    for column in ("CHECK", "OBSERVED", "BASELINE", "LIMIT", "SAMPLES", "VERDICT"):
        table.add_column(column)
    for check in gate.checks:
        mark = Text(f"{_MARKS[check.verdict]} {check.verdict}", style=_COLOURS[check.verdict])
        table.add_row(check.check, *(_value(check, each) for each in (check.observed, check.baseline, check.limit)),
                      str(check.samples), mark)  # fmt: skip
    return table


def _value(check: CheckResult, value: float | None) -> str:
    if value is None:
        return "-"
    if check.check.startswith("latency"):
        return f"{value * 1000:.1f} ms"
    return f"{value:g}" if check.check == "crash_count" else f"{value * 100:.2f}%"


def _counts(status: StatusDocument) -> str:
    counts = {name: count for name, count in status.counts.items() if count and name not in {"total", "failed_ever"}}
    return ", ".join(f"{count} {name}" for name, count in counts.items()) + f" of {status.counts['total']}"

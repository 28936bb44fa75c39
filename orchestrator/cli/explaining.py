"""``tidegate explain``: the chain of reasons, each with its evidence, and what to type next."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.answers import Data, read
from orchestrator.cli.checks import check_table, reasons_of
from orchestrator.cli.quantities import clock, time_of_day
from orchestrator.cli.steps import command_table
from orchestrator.cli.terminal import words
from orchestrator.core.explanation import Awaited, Explanation, Step
from schemas.times import parse_timestamp


def choices_of(data: Data) -> list[str]:
    """Return the commands that an answer says are possible now; none if it does not say."""
    return [choice.command for choice in read(Explanation, data).next] if "why" in data else []


def render_explanation(data: Data, subject: str, now: float, width: int) -> RenderableType:
    """Show why a rollout or a device is where it is.

    Args:
        data: The orchestrator's answer.
        subject: What was asked about.
        now: Seconds since the epoch, of the reader.
        width: Columns of the terminal.
    """
    given = read(Explanation, data)
    head = given.summary if given.summary.startswith(subject) else f"{subject}: {given.summary}"
    parts: list[RenderableType] = [words(head, "bold"), Text("")]
    if given.facts:
        parts += [_facts(given), Text("")]
    if given.why:
        parts.append(words("What led here", "dim"))
        for number, step in enumerate(given.why, 1):
            parts += _step(number, step, width)
        parts.append(Text(""))
    if given.awaited is not None:
        parts += _awaited(given.awaited, now)
    if given.next:
        rows = [(choice.command, choice.effect) for choice in given.next]
        parts += [words("You can type", "dim"), command_table(rows)]
    return Group(*parts)


def _awaited(awaited: Awaited, now: float) -> list[Text]:
    since = Text("")
    if awaited.since:
        since = words(f", for {clock(now - parse_timestamp(awaited.since))} (since {awaited.since})", "dim")
    line = words("Waits for  ", "dim") + words(awaited.text, "yellow") + since + _until(awaited.by, now)
    return [line, words("What helps  ", "dim") + words(awaited.help)] if awaited.help else [line]


def _facts(given: Explanation) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in given.facts.items():
        table.add_row(words(name), words(value))
    return table


def _step(number: int, step: Step, width: int) -> list[RenderableType]:
    at = f"{time_of_day(step.at)}Z" if step.at else " " * 9
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_column(style="dim", no_wrap=True)
    line.add_column(style="dim", no_wrap=True)
    line.add_column()
    line.add_row(f"{number:>2}.", at, words(step.text))
    parts: list[RenderableType] = [line]
    if step.evidence:
        parts += [_indented(check_table(step.evidence, width=width)), *reasons_of(step.evidence)]
    if step.devices:
        rows = Table(box=None, padding=(0, 2, 0, 4), show_header=False)
        rows.add_column(no_wrap=True, style="bold")
        rows.add_column()
        for device, told in step.devices.items():
            rows.add_row(words(device), words(told))
        parts.append(rows)
    return parts


def _indented(table: Table) -> Table:
    outer = Table.grid(padding=0)
    outer.add_column(width=4)
    outer.add_column()
    outer.add_row("", table)
    return outer


def _until(by: str | None, now: float) -> Text:
    if by is None:
        return Text("")
    left = parse_timestamp(by) - now
    return words(f", at the latest in {clock(left)} ({time_of_day(by)}Z)" if left > 0 else ", overdue", "dim")

"""What to type next: the commands that are allowed now, each with what it does."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.phases import as_message, look_of
from orchestrator.cli.terminal import words
from orchestrator.core.explanation import choices
from schemas.documents import StatusDocument


def next_steps(status: StatusDocument) -> RenderableType:
    """Return what a person may do: all of it where a person is waited for, else on one line."""
    rollout, look = status.rollout, look_of(status)
    may = [(choice.command, choice.effect) for choice in choices(rollout, status.allowed)]
    why = f"tidegate explain {rollout}"
    if look.waits and may:
        first = may[0][0].split()[1]
        table = command_table([*may, (why, "why it is here")])
        return Group(words("It waits for you:", "bold yellow"), table, by_message(rollout, first))
    line = "Next: " + " | ".join([why, *(command for command, _ in may)])
    return words(line, "dim") if look.ending is None else words(line)


def command_table(rows: list[tuple[str, str]]) -> Table:
    """Return commands with what each does; what is typed is never cut."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True, overflow="ignore")
    table.add_column(style="dim")
    for command, effect in rows:
        table.add_row(words(f"  {command}"), words(effect))
    return table


def by_message(rollout: str, verb: str) -> Text:
    """Return the first command for whoever has only an MQTT client."""
    text = words(f"  or: {as_message(rollout, verb)}", "dim")
    text.no_wrap, text.overflow = True, "ignore"
    return text

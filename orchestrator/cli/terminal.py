"""What is written to a terminal: nothing that came over the bus may steer it."""

import sys
from typing import Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.text import Text

_PIPED_WIDTH: Final = 160
"""Columns where nobody looks: ids and reasons stay whole for ``grep``."""
_TEXT_MAX: Final = 1200


def printable(text: object, limit: int = _TEXT_MAX) -> str:
    """Return ``text`` on one line, bounded, with every control and format character escaped."""
    told = str(text)
    whole = told if len(told) <= limit else told[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in whole)


def words(text: object, style: str = "") -> Text:
    """Return ``text`` for a rich renderable: escaped, and never read as markup."""
    return Text(printable(text), style=style)


def make_console(stream: TextIO | None = None) -> Console:
    """Return a console on ``stream`` (standard output if omitted): colours on a terminal only, `NO_COLOR` is kept."""
    file = stream or sys.stdout
    _tolerate(file)
    width = None if file.isatty() else _PIPED_WIDTH
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def show(renderable: RenderableType, stream: TextIO | None = None) -> None:
    """Print to ``stream`` (standard output if omitted); a command to type is longer than a line rather than cut."""
    # A text by itself would be joined with others, and forget that it is not to be wrapped.
    make_console(stream).print(Group(renderable), crop=False)


def note(text: str) -> None:
    """Print one line of chatter."""
    print(printable(text), file=sys.stderr)


def complain(text: str) -> None:
    """Print an error, which may have more lines than one: an expression, and below it a caret."""
    for line in text.split("\n"):
        note(line)


def command_lines(commands: list[str]) -> Text:
    """Return commands to type, one a line and never wrapped, so that they can be copied whole."""
    lines = [f"{'Next:' if not number else '     '} {printable(line)}" for number, line in enumerate(commands)]
    return Text("\n".join(lines), style="bold", no_wrap=True, overflow="ignore")


def unbroken(text: Text) -> Text:
    """Return ``text`` as one line, however long it is."""
    text.no_wrap, text.overflow = True, "ignore"
    return text


def _tolerate(file: TextIO) -> None:
    """A terminal that cannot show a symbol gets a question mark instead of an error."""
    reconfigure = getattr(file, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")

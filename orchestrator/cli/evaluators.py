"""``tidegate evaluators``: who reads which part of the fleet's health, and what nobody reads."""

from typing import Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.answers import Answer, Data, read, run
from orchestrator.cli.options import DEFAULT_BROKER, LOOK, BrokerOption, JsonOption, TimeoutOption
from orchestrator.cli.quantities import clock
from orchestrator.cli.terminal import command_lines, words

app = typer.Typer()

_COLUMNS: Final = ("EVALUATOR", "READS", "WOULD READ", "HEARD")
_NONE: Final = "none"


class _Evaluator(Answer):
    evaluator: str
    reads: str
    would_read: str
    heard_seconds: float
    late: bool


class _Readers(Answer):
    evaluators: tuple[_Evaluator, ...]
    orchestrator_reads: str
    unread: str


@app.command("evaluators", rich_help_panel=LOOK)
def evaluators(
    broker: BrokerOption = DEFAULT_BROKER, timeout: TimeoutOption = 10.0, as_json: JsonOption = False
) -> None:
    """Show which evaluators are alive, who reads which shards of the fleet's health, and what nobody reads."""
    run(broker, "list", {"what": "evaluators"}, timeout_seconds=timeout, as_json=as_json, shown=render_readers)


def render_readers(data: Data) -> RenderableType:
    """Show who reads, and what it means where nobody does."""
    readers = read(_Readers, data)
    parts: list[RenderableType] = []
    if readers.evaluators:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in _COLUMNS:
            table.add_column(column, no_wrap=column == "EVALUATOR")
        for each in readers.evaluators:
            heard = words(f"{clock(each.heard_seconds)} ago", "bold red" if each.late else "dim")
            spare = each.reads == _NONE
            reads = words("none, a spare" if spare else each.reads, "dim" if spare else "")
            table.add_row(words(each.evaluator, "bold"), reads, words(each.would_read), heard)
        parts += [table, Text("")]
    else:
        parts.append(words("no evaluator is alive", "dim"))
    own = readers.orchestrator_reads
    parts.append(words(f"the orchestrator reads {'no shards' if own == _NONE else f'shards {own}'} itself"))
    if readers.unread != _NONE:
        said = f"✖ nobody reads shards {readers.unread}: meanwhile no gate passes and no soak counts"
        parts += [words(said, "bold red"), command_lines([f"tidegate evaluator --shards {readers.unread}"])]
    return Group(*parts)

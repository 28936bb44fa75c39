"""``tidegate replay``: take the decisions of a journal once more, and say which do not follow from it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.progress import track
from rich.table import Table

from orchestrator.adapters.journal import JOURNAL_NAME, Journal, JournalReader
from orchestrator.cli.audit import FolderOption
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.options import ACCOUNT
from orchestrator.cli.terminal import command_lines, show, words
from orchestrator.core.events import event_from_json
from orchestrator.core.replaying import Recorded, Replay, replay
from schemas.errors import FleetError

app = typer.Typer()

_SHOWN_MAX: Final = 50
_BAR_FROM_ENTRIES: Final = 20_000


@app.command("replay", rich_help_panel=ACCOUNT)
def replay_journal(
    folder: FolderOption, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Re-run the decisions from the journal: they must come out as they were taken. Leaves with 1 if one does not.

    The chain of hashes is checked first. Plans, verdicts, grants, stops, rollbacks and waves are decided again from
    what stood in the journal before each; what people commanded and devices said is given.
    """
    with reported():
        reader = Journal.open_reader(folder / JOURNAL_NAME)
        try:
            count = reader.verify().entry_count
            done = replay(_recorded(reader, count))
        finally:
            reader.close()
    if as_json:
        print(json.dumps(_document(done)))
    else:
        show(render_replay(done, folder))
    raise typer.Exit(Exit.FAILED if done.mismatches else Exit.OK)


def _recorded(reader: JournalReader, count: int) -> Iterator[Recorded]:
    console = Console(stderr=True)
    entries = reader.read()
    if count >= _BAR_FROM_ENTRIES and console.is_terminal:
        entries = iter(track(entries, "replaying", total=count, console=console, transient=True))
    for entry in entries:
        try:
            yield Recorded(entry.seq, entry.at, event_from_json(entry.body))
        except ValueError as error:
            raise FleetError(
                f"entry {entry.seq} ({entry.kind}) cannot be read by this version; replay with the one that wrote it"
            ) from error


def _document(done: Replay) -> dict[str, object]:
    return {
        "entries": done.entries,
        "decisions": dict(done.decisions.most_common()),
        "mismatches": [{"seq": each.seq, "kind": each.kind, "message": each.message} for each in done.mismatches],
    }


def render_replay(done: Replay, folder: Path) -> RenderableType:
    """Say how many decisions were taken again, and which came out differently."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("DECISION")
    table.add_column("AGAIN", justify="right")
    for kind, count in done.decisions.most_common():
        table.add_row(words(kind.replace("_", " ")), f"{count:,}")
    total = f"{done.entries:,} entries, {done.decisions.total():,} decisions taken again"
    if not done.mismatches:
        return Group(table, words(f"✔ {total}: all came out the same", "bold"))
    wrong = [words(f"  entry {each.seq}, {each.kind}: {each.message}") for each in done.mismatches[:_SHOWN_MAX]]
    more = len(done.mismatches) - len(wrong)
    wrong += [words(f"  and {more:,} more")] if more else []
    head = words(f"✖ {total}: {len(done.mismatches):,} came out differently", "bold red")
    first = done.mismatches[0].seq
    return Group(table, head, *wrong, command_lines([f"tidegate audit show --folder {folder} --after {first - 1}"]))

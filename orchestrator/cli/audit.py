"""``tidegate audit``: read the journal and check its chain, also while the orchestrator runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.adapters.journal import JOURNAL_NAME, Journal
from orchestrator.cli.exits import reported
from orchestrator.cli.options import ACCOUNT

app = typer.Typer(
    name="audit", rich_help_panel=ACCOUNT, no_args_is_help=True, help="Read the journal and check its hash chain."
)

FolderOption = Annotated[Path, typer.Option("--folder", help="The orchestrator's folder.")]


@app.command("verify")
def verify(folder: FolderOption, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Check that no entry was changed, inserted or removed."""
    with reported():
        reader = Journal.open_reader(folder / JOURNAL_NAME)
        try:
            verification = reader.verify()
        finally:
            reader.close()
    if as_json:
        print(json.dumps(verification._asdict()))
    else:
        print(f"{verification.entry_count} entries, the chain holds; head {verification.head_hash}")


@app.command("show")
def show(
    folder: FolderOption, after: Annotated[int, typer.Option("--after", help="Only entries above this number.")] = 0
) -> None:
    """Print the entries as JSON lines."""
    with reported():
        reader = Journal.open_reader(folder / JOURNAL_NAME)
        try:
            for entry in reader.read(after):
                print(entry.record().model_dump_json())
        finally:
            reader.close()

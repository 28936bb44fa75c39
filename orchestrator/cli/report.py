"""``tidegate report``: what the journal says of one rollout, as one HTML page, JSON, CSV and a text for a ticket."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.adapters import clock
from orchestrator.adapters.journal import JOURNAL_NAME, Journal
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.options import ACCOUNT
from orchestrator.reporting.build import RolloutNotFoundError, build_report
from orchestrator.reporting.incident import build_incident
from orchestrator.reporting.model import Report
from orchestrator.reporting.page import report_html
from orchestrator.reporting.tables import audit_csv, devices_csv, report_json
from orchestrator.reporting.ticket import incident_markdown
from orchestrator.reporting.words import size_text
from schemas.errors import FleetError
from schemas.ids import check_id

app = typer.Typer()

STDOUT = Path("-")


class ReportError(FleetError):
    """The caller's fault: what was asked for cannot be written. The text says why."""


@app.command("report", rich_help_panel=ACCOUNT)
def report(
    rollout: Annotated[str, typer.Argument(help="The rollout, for example r-042.")],
    folder: Annotated[Path, typer.Option("--folder", help="The orchestrator's folder.")],
    html: Annotated[Path | None, typer.Option("--html", help="One page that needs nothing else.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="The whole report; - for standard output.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="A folder for devices.csv and audit.csv.")] = None,
    incident: Annotated[
        Path | None, typer.Option("--incident", help="Markdown for a ticket, after a rollback of a wave or the fleet.")
    ] = None,
) -> None:
    """Write a rollout's report with its full audit trail; without an option ROLLOUT.html in this folder.

    Reads the journal, also while the orchestrator runs. What was written stands on standard error.
    """
    with reported():
        try:
            found = _read(folder / JOURNAL_NAME, check_id(rollout))
        except RolloutNotFoundError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(Exit.NOT_FOUND) from error
        texts: dict[Path, str] = {}
        if incident is not None:
            texts[incident] = _incident(found)
        if html is None and json is None and csv is None and incident is None:
            html = Path(f"{rollout}.html")
        if html is not None:
            texts[html] = report_html(found)
        if json is not None:
            texts[json] = report_json(found)
        if csv is not None:
            texts |= {csv / "devices.csv": devices_csv(found), csv / "audit.csv": audit_csv(found)}
        for path, text in texts.items():
            _write(path, text)


def _read(path: Path, rollout: str) -> Report:
    reader = Journal.open_reader(path)
    try:
        return build_report(reader.read(), rollout, clock.now())
    finally:
        reader.close()


def _incident(found: Report) -> str:
    incident = build_incident(found)
    if incident is None:
        raise ReportError(f"{found.header.rollout} had no rollback of a wave or the fleet; leave --incident out")
    return incident_markdown(incident)


def _write(path: Path, text: str) -> None:
    """Write one file; line ends stay as they are, because CSV has its own."""
    if path == STDOUT:
        sys.stdout.write(text)
        return
    data = text.encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror}; name another place") from error
    print(f"wrote {path} ({size_text(len(data))})", file=sys.stderr)

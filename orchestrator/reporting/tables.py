"""The report's tables as CSV (RFC 4180), safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

from pydantic import BaseModel

from orchestrator.reporting.model import AuditRow, DeviceRow, Report

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A cell that begins like this would be run by a spreadsheet."""


def devices_csv(report: Report) -> str:
    """Return one row for each target; the wave by its name."""
    rows = (row.model_dump(mode="json") | {"wave": report.wave_name(row.wave)} for row in report.devices)
    return _csv(tuple(DeviceRow.model_fields), rows)


def audit_csv(report: Report) -> str:
    """Return one row for each journal entry."""
    return _csv(tuple(AuditRow.model_fields), (row.model_dump(mode="json") for row in report.audit))


def report_json(report: BaseModel) -> str:
    """Return the whole model as JSON."""
    return report.model_dump_json(indent=2) + "\n"


def _csv(names: Sequence[str], rows: Iterable[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows([_cell(row[name]) for name in names] for row in rows)
    return text.getvalue()


def _cell(value: object) -> str:
    """Write a value; text that a spreadsheet would run gets a leading apostrophe; NUL, which none reads, is shown."""
    if isinstance(value, str):
        shown = value.replace("\0", "\\0")
        return f"'{shown}" if shown.startswith(_FORMULA) else shown
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

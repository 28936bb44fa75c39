"""Where every device is, as squares or counts, and as a table."""

from collections.abc import Iterable
from typing import Final

from orchestrator.reporting.markup import Html, el, join, table, tr
from orchestrator.reporting.model import DeviceRow, Report
from orchestrator.reporting.timeline import stacked_bar
from orchestrator.reporting.words import clock_text, count_text, origins_text, seconds_text, visible

SQUARES_MAX: Final = 2000
"""A larger fleet is shown as counts."""
ROWS_MAX: Final = 1000
"""Of a larger fleet the table shows the devices with something to say first; all are in the CSV."""
_MESSAGE_MAX: Final = 120
_SQUARES: Final = {
    "committed": "c", "proven": "v", "granted": "g", "ordered": "o", "returned": "r", "returning": "b", "failed": "f",
    "stranded": "s", "held": "h", "skipped": "k", "pending": "p",
}  # fmt: skip
"""Class of a square, in the order of the key; the style sheet gives it its colour and its sign."""
_MEANINGS: Final = {
    "committed": "runs the new version",
    "proven": "healthy, waits for the gate",
    "granted": "under way",
    "ordered": "ordered",
    "returned": "back on what it ran",
    "returning": "ordered back",
    "failed": "failed",
    "stranded": "could not go back",
    "held": "held",
    "skipped": "skipped by a person",
    "pending": "not touched",
}


def fleet_section(report: Report) -> Html:
    """Return the matrix with its key."""
    present = [progress for progress in _SQUARES if report.header.counts.get(progress)]
    key = [el("span", el("i", class_=_SQUARES[progress]), f"{_MEANINGS[progress]} ({report.header.counts[progress]:,})")
           for progress in present]  # fmt: skip
    squares = len(report.devices) <= SQUARES_MAX
    by_wave: list[list[DeviceRow]] = [[] for _ in report.waves]
    for row in report.devices:
        by_wave[row.wave].append(row)
    waves = [
        part
        for wave, rows in zip(report.waves, by_wave, strict=True)
        for part in (
            el("h3", wave.name, " ", el("small", _counts(wave.counts, wave.devices))),
            el("p", f"Fetched: {origins_text(wave.fetched)}", class_="soft") if wave.fetched else None,
            _squares(wave.name, rows)
            if squares
            else stacked_bar([(each, wave.counts.get(each, 0)) for each in present]),
        )
    ]
    return el("section", el("h2", "Devices by wave"), el("p", *key, class_="key"), *waves, id="fleet")


def _counts(counts: object, devices: int) -> str:
    known = counts if isinstance(counts, dict) else {}
    words = [f"{known[progress]:,} {progress}" for progress in _SQUARES if known.get(progress)]
    return f"{count_text(devices, 'device')}: {', '.join(words)}"


def _squares(name: str, rows: Iterable[DeviceRow]) -> Html:
    shown = [el("i", class_=_SQUARES[row.progress], title=_title(row)) for row in rows]
    return el("p", join(shown), class_="m", role="img", aria_label=f"Devices of {name}; the table below says the same")


def _title(row: DeviceRow) -> str:
    code = f", {visible(row.code, 40)}" if row.code else ""
    return f"{visible(row.device, 64)}: {row.progress}{code}"


def _is_trouble(row: DeviceRow) -> bool:
    return row.failed or bool(row.quarantine) or row.progress in {"failed", "stranded", "returned", "returning", "held"}


def devices_section(report: Report) -> Html:
    """Return the table of devices, with a filter that appears where scripts run."""
    rows = list(report.devices)
    note = None
    if len(rows) > ROWS_MAX:
        rows = sorted(rows, key=lambda row: not _is_trouble(row))[:ROWS_MAX]
        note = el("p", f"{len(rows):,} of {len(report.devices):,} devices, those with something to say first; "
                  "all of them are in devices.csv (--csv).", class_="soft")  # fmt: skip
    head = ("Device", "Kind", "Wave", "Progress", "Version", "Granted", "Took", "What happened")
    find = el(
        "p",
        el("label", "Find ", el("input", type="search", aria_label="Find a device")),
        el("label", el("input", type="checkbox"), " only what went wrong or back"),
        el("output", aria_live="polite"),
        class_="find", hidden=True,
    )  # fmt: skip
    body = table(head, (_row(report, row) for row in rows), "Devices", name="device-rows", kind="tall stick")
    return el("section", el("h2", f"Devices ({len(report.devices):,})"), note, find, body, id="devices")


def _row(report: Report, row: DeviceRow) -> Html:
    kind = " · ".join(visible(word, 40) for word in (row.device_type, row.region) if word)
    old, new = visible(row.from_version or "?", 40), visible(row.to_version or "?", 40)
    version = "" if not row.attempts else old if old == new else f"{old} → {new}"
    return tr(
        row.device,
        kind,
        report.wave_name(row.wave),
        el("span", row.progress, class_=f"tag {row.progress}"),
        version,
        el("td", clock_text(row.granted_at), class_="t"),
        el("td", seconds_text(row.install_seconds), class_="t"),
        el("td", visible(_happened(row), _MESSAGE_MAX), class_="w"),
        class_="x" if _is_trouble(row) else None,
    )


def _happened(row: DeviceRow) -> str:
    parts = [f"{row.code}: {row.message}" if row.message else row.code]
    parts += [f"{row.attempts} attempts"] if row.attempts > 1 else []
    parts += ["excused"] if row.excused else []
    parts += [f"quarantined: {row.quarantine}"] if row.quarantine and row.quarantine != row.code else []
    parts += ["quarantined"] if row.quarantine and row.quarantine == row.code else []
    parts += [row.media]
    return "; ".join(part for part in parts if part)

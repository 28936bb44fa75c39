"""The report as one HTML page: nothing is fetched, no script is needed, and its security policy allows nothing else."""

import base64
import hashlib
from typing import Final

from orchestrator.reporting.fleet import devices_section, fleet_section
from orchestrator.reporting.incident import Incident, build_incident
from orchestrator.reporting.markup import Html, el, join
from orchestrator.reporting.model import Report
from orchestrator.reporting.records import (
    audit_section,
    checks_table,
    frozen_section,
    gates_section,
    people_section,
    rollbacks_section,
    verification_parts,
    waves_section,
)
from orchestrator.reporting.style import SCRIPT, STYLE
from orchestrator.reporting.timeline import legend, timeline
from orchestrator.reporting.words import count_text, moment_text, origins_text, seconds_text, size_text

_TONES: Final = {
    "completed": ("good", "✓"), "finished": ("good", "✓"), "rolled_back": ("bad", "↩"), "rolling_back": ("bad", "↩"),
    "aborted": ("bad", "✕"), "halted": ("warn", "!"), "awaiting_approval": ("warn", "‖"), "paused": ("warn", "‖"),
    "staging": ("info", "↓"), "frozen": ("warn", "!"),
}  # fmt: skip
_CONTENTS: Final = (
    ("incident", "Incident"), ("timeline", "Timeline"), ("waves", "Waves"), ("gates", "Gates"), ("fleet", "Fleet"),
    ("people", "Decisions"), ("rollbacks", "Rollbacks"), ("devices", "Devices"), ("frozen", "Frozen at the start"),
    ("audit", "Audit"),
)  # fmt: skip


def report_html(report: Report) -> str:
    """Return the page; the same report gives the same bytes."""
    incident = build_incident(report)
    sections = {
        "incident": _incident(incident) if incident is not None else None,
        "timeline": _timeline(report),
        "waves": waves_section(report),
        "gates": gates_section(report),
        "fleet": fleet_section(report),
        "people": people_section(report),
        "rollbacks": rollbacks_section(report),
        "devices": devices_section(report),
        "frozen": frozen_section(report),
        "audit": audit_section(report),
    }
    links = [el("a", title, href=f"#{name}") for name, title in _CONTENTS if sections[name] is not None]
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_security_policy()),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{report.header.rollout}: {report.header.outcome.replace('_', ' ')}"),
        el("style", Html(STYLE)),
    )
    main = el(
        "main",
        el("a", "Skip to the timeline", href="#timeline", class_="skip"),
        _header(report),
        el("nav", *links, aria_label="Contents"),
        *(section for section in sections.values() if section is not None),
        el("p", f"Made by tidegate at {moment_text(report.header.generated_at)}; all times are UTC.", class_="soft"),
    )
    return f"<!doctype html>\n{el('html', head, el('body', main, el('script', Html(SCRIPT))), lang='en')}\n"


def _security_policy() -> str:
    style, script = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (STYLE, SCRIPT))
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; base-uri 'none'; "
        "form-action 'none'"
    )


def _header(report: Report) -> Html:
    header, spent = report.header, report.header.durations
    tone, symbol = _TONES.get(header.outcome, ("info", "▸"))
    updated = header.counts.get("committed", 0) + header.counts.get("proven", 0)
    ended = moment_text(header.ended_at) if header.ended_at is not None else "not yet"
    froms = ", ".join(f"{version} ({count:,})" for version, count in header.from_versions.items()) or "–"
    facts = [
        ("Version", f"{' / '.join(header.from_versions) or '?'} → {header.version}", f"ran: {froms}"),
        ("Devices", f"{updated:,} of {header.targets:,} updated", f"{header.failed_ever:,} failed"),
        ("Started", moment_text(header.started_at), f"by {header.started_by}{_because(header.started_reason)}"),
        ("Ended", ended, f"by {header.ended_by}" if header.ended_by else ""),
        ("Took", seconds_text(spent.total_seconds), ""),
        ("Progressing", seconds_text(spent.progressing_seconds), ""),
        ("Soaking", seconds_text(spent.soaking_seconds), ""),
        ("Waiting for a person", seconds_text(spent.waiting_seconds), ""),
    ]
    if header.staged is not None:
        began = f"activated {moment_text(header.activated_at)}" if header.activated_at is not None else "not activated"
        by = f" by {header.activated_by}" if header.activated_by else ""
        facts.append(("Staged before", f"{header.staged:,} of {header.targets:,}", f"{began}{by}"))
    if header.fetched:
        carried = {origin: count for origin, count in header.fetched.items() if origin != "slots"}
        had = header.fetched.get("slots", 0)
        there = f"{size_text(had)} were there already" if had else ""
        facts.append(("Fetched", origins_text(carried) or "nothing", there))
    if spent.rolling_back_seconds:
        facts.append(("Rolling back", seconds_text(spent.rolling_back_seconds), ""))
    if spent.frozen_seconds:
        facts.append(("Frozen", seconds_text(spent.frozen_seconds), ""))
    shown = [
        el("div", el("dt", name), el("dd", value, el("small", more) if more else None)) for name, value, more in facts
    ]
    return el(
        "header",
        el("span", f"{symbol} {header.outcome.replace('_', ' ')}", class_="outcome"),
        el("h1", f"{header.rollout}: {header.release}"),
        el("p", header.verdict, class_="verdict"),
        el("dl", *shown, class_="facts"),
        *_notices(report),
        class_=f"t-{tone}",
    )


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _notices(report: Report) -> list[Html]:
    header = report.header
    texts = list(header.warnings)
    if header.restarts:
        texts.append(f"An orchestrator took over {count_text(header.restarts, 'time')} while it ran.")
    if header.unread:
        texts.append(
            f"Of the journal's entries, {header.unread:,} could not be understood by this version; "
            "what they say may be missing here."
        )
    return [el("p", text, class_="notice") for text in texts]


def _timeline(report: Report) -> Html:
    picture = el("div", timeline(report), class_="scroll", tabindex=0, role="region", aria_label="Timeline")
    return el("section", el("h2", "Timeline"), picture, legend(), id="timeline")


def _incident(incident: Incident) -> Html:
    stages = [el("li", el("b", moment_text(at)), f" ({after}) {what}") for what, at, after in incident.stages]
    people = [
        el(
            "li",
            f"{moment_text(each.at)} {each.actor}: {each.verb} {each.subject}, ",
            each.status,
            _because(each.reason),
        )
        for each in incident.people
    ]
    not_back = [el("li", el("b", each.device), f": {each.why}") for each in incident.not_back]
    touched = (
        f"{incident.touched:,} of {count_text(incident.targets, 'device')} were touched, "
        f"{incident.ordered_back:,} ordered back, {incident.back:,} are back."
    )
    evidence = [checks_table(incident.evidence, "Evidence")] if incident.evidence else []
    return el(
        "section",
        el("h2", "Incident"),
        el("p", touched),
        el("div",
           el("div", el("h3", "What happened when"), el("ul", *stages)),
           el("div", el("h3", "Who decided what"), el("ul", *(people or [el("li", "No person commanded anything.")]))),
           el("div", el("h3", "Still not back"),
              el("ul", *(not_back or [el("li", "Nobody: every device that was ordered back is back.")]))),
           el("div", el("h3", "Next steps"), el("ol", *(el("li", step) for step in incident.next_steps))),
           class_="two"),
        el("h3", f"Evidence: {incident.trigger}"),
        *(evidence or [el("p", incident.reason)]),
        join(verification_parts(incident.verification)),
        id="incident", class_="incident",
    )  # fmt: skip

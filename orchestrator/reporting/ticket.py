"""The incident as Markdown that can be pasted into a ticket."""

import re
from typing import Final

from orchestrator.reporting.incident import Incident
from orchestrator.reporting.model import Verification
from orchestrator.reporting.words import moment_text, name_some, seconds_text, visible

_PUNCTUATION: Final = frozenset("\\`*_{}[]<>#|~&$!")
_LINKING: Final = re.compile(r"@|#|:(?=//)|www(?=\.)", re.IGNORECASE)
_WORD_JOINER: Final = "\u2060"


def incident_markdown(incident: Incident) -> str:
    """Return the incident for a ticket; text of devices and people is inert: escaped, or in code spans."""
    stages = [f"- {_moment(at)} ({after}): {_plain(what)}" for what, at, after in incident.stages]
    evidence = [
        f"- {_code(each.check)} {each.verdict}: {_plain(each.why)} ({_code(each.limit_expr)})"
        for each in incident.evidence
    ]
    people = [
        f"- {_moment(each.at)} {_code(each.actor)}: {_code(f'{each.verb} {each.subject}')}, {each.status}"
        + (f", reason: {_plain(each.reason)}" if each.reason else "")
        for each in incident.people
    ]
    not_back = [f"- {_code(each.device)}: {_plain(each.why)}" for each in incident.not_back]
    sections = (
        ("Timeline (UTC)", stages),
        ("Evidence", evidence or ["- none was journaled; a person decided"]),
        ("Who decided what", people or ["- no person commanded anything"]),
        ("Still not back", not_back or ["- nobody: every device that was ordered back is back"]),
        ("Verification", [f"- {_verification(incident.verification)}"]),
        ("Next steps", [f"{number}. {_plain(step)}" for number, step in enumerate(incident.next_steps, 1)]),
    )
    lines = [
        f"# Incident: {_code(incident.rollout)}, {_code(incident.release)}",
        "",
        _plain(incident.what),
        "",
        f"- Scope: {_code(incident.scope)}; trigger: {_code(incident.trigger)}; decided by: {_code(incident.by)}",
        f"- Devices touched: {incident.touched:,} of {incident.targets:,}",
        f"- Ordered back: {incident.ordered_back:,}; back: {incident.back:,}",
        f"- From first evidence to decision: {seconds_text(incident.decided_at - incident.first_evidence_at)}",
        f"- From decision to last device back: {_way_back(incident)}",
    ]
    for title, body in sections:
        lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def _way_back(incident: Incident) -> str:
    at = incident.last_back_at
    return "not yet" if at is None else seconds_text(at - incident.decided_at)


def _verification(found: Verification | None) -> str:
    if found is None:
        return "not done: the journal holds none"
    text = f"{_code(found.verdict)} at {_moment(found.at)}: {found.healthy:,} healthy"
    if found.not_healthy:
        text += f", not healthy: {_code(name_some(found.not_healthy))}"
    return text + (f", not back: {_code(name_some(found.not_back))}" if found.not_back else "")


def _moment(at: float | None) -> str:
    return "not yet" if at is None else moment_text(at)


def _plain(text: str) -> str:
    """Escape what Markdown would read, and part what a ticket system would turn into a mention or a link."""
    escaped = "".join(f"\\{character}" if character in _PUNCTUATION else character for character in visible(text, 1200))
    return _LINKING.sub(lambda found: found[0] + _WORD_JOINER, escaped)


def _code(text: str) -> str:
    """Put text into a code span, whose fence is longer than any run of backticks in it."""
    shown = visible(text, 1200) or " "
    fence = "`"
    while fence in shown:
        fence += "`"
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"

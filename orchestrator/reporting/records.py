"""The sections with records: gates and checks, people, rollbacks, what was frozen at the start, and the audit."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from orchestrator.reporting.markup import Html, el, table, tr
from orchestrator.reporting.model import AuditRow, Evaluation, Report, Rollback, Verification
from orchestrator.reporting.plots import plot
from orchestrator.reporting.words import (
    SYMBOLS,
    clock_text,
    count_text,
    moment_text,
    name_some,
    seconds_text,
    value_text,
)
from schemas.documents import CheckResult

EVALUATIONS_MAX: Final = 60
"""Of more evaluations the last are shown; all are in the JSON."""
AUDIT_ROWS_MAX: Final = 400
"""Of more rows the first and the last are shown; all are in the CSV and the JSON."""
_ALONE_MAX: Final = 3
_REPETITIVE: Final = frozenset({
    "devices_ordered", "grant_issued", "device_announced", "device_proven", "device_committed", "device_returned",
    "device_failed", "device_quarantined", "device_released", "device_retried", "soak_progressed",
})  # fmt: skip
"""Kinds that come once for each device; between two other entries they are put together."""
_CHECKS_HEAD: Final = ("Check", "Observed", "Baseline", "Limit", "Samples", "Verdict", "Why")


def gates_section(report: Report) -> Html:
    """Return a plot for each check and each verdict with its numbers."""
    plots = el("div", *(plot(report, series) for series in report.series), class_="plots")
    shown = report.evaluations[-EVALUATIONS_MAX:]
    left_out = len(report.evaluations) - len(shown)
    note = el("p", f"{left_out:,} earlier verdicts are in the JSON (--json).", class_="soft") if left_out else None
    verdicts = [part for each in shown for part in _evaluation(report, each)]
    none = el("p", "No gate was judged.", class_="soft") if not report.evaluations else None
    return el("section", el("h2", "Gates and checks"), none, plots, note, *verdicts, id="gates")


def _evaluation(report: Report, each: Evaluation) -> tuple[Html, Html]:
    devices = count_text(each.devices, "device")
    when = f"{moment_text(each.at)} · {devices} · {each.decision.replace('_', ' ')}"
    name = f"{each.gate} after {report.wave_name(each.wave)}" + (f", {each.phase}" if each.phase else "")
    title = el("h3", _verdict(each.verdict), f" {name} ", el("small", when))
    return title, checks_table(each.checks, f"Checks of {each.gate} at {moment_text(each.at)}")


def checks_table(checks: Iterable[CheckResult], caption: str) -> Html:
    """Return checks with observed, baseline, limit, samples and why."""
    return table(_CHECKS_HEAD, (_check(check) for check in checks), caption)


def _check(check: CheckResult) -> Html:
    observed, baseline, limit = (
        value_text(check.limit_expr, value) for value in (check.observed, check.baseline, check.limit)
    )
    why = el("td", check.why, class_="w")
    name = f"{check.check} (dry run)" if check.dry_run else check.check
    return tr(name, observed, baseline, limit, f"{check.samples:,}", _verdict(check.verdict), why)


def _verdict(verdict: str) -> Html:
    return el("span", f"{SYMBOLS.get(verdict, '')} {verdict}", class_=f"tag {verdict if verdict in SYMBOLS else ''}")


def waves_section(report: Report) -> Html:
    """Return the waves with their times and counts."""
    rows = [
        tr(
            wave.name,
            f"{wave.devices:,}",
            *(el("td", moment_text(at), class_="t") for at in (wave.started_at, wave.soak_started_at, wave.ended_at)),
            seconds_text(wave.soaked_seconds)
            + (f", {count_text(wave.extensions, 'extension')}" if wave.extensions else ""),
            f"{wave.counts.get('committed', 0) + wave.counts.get('proven', 0):,}",
            f"{wave.failed_ever:,}",
            f"{wave.counts.get('returned', 0):,}",
        )
        for wave in report.waves
    ]
    head = ("Wave", "Devices", "Began", "Soak from", "Over", "Soak watched", "Updated", "Failed", "Back")
    return el("section", el("h2", "Waves"), table(head, rows, "Waves"), id="waves")


def people_section(report: Report) -> Html:
    """Return commands with their answers, approvals, and what the system stopped for a person."""
    rows = [
        (
            each.at,
            each.seq,
            tr(_time(each.at), each.actor, f"{each.verb} {each.subject}",
               el("span", each.code or each.status, class_=f"tag {'ok' if each.status == 'ok' else 'error'}"),
               el("td", each.reason, class_="w")),
        )
        for each in report.decisions
    ]  # fmt: skip
    rows += [
        (each.at, each.seq, tr(_time(each.at), each.by, f"approval after {report.wave_name(each.wave)}",
                               el("code", f"plan {each.plan_digest[:12]}"), el("td", each.reason, class_="w")))
        for each in report.approvals
    ]  # fmt: skip
    rows += [
        (each.at, each.seq, tr(_time(each.at), "orchestrator", f"halted at {report.wave_name(each.wave)}", "",
                               el("td", each.reason, class_="w")))
        for each in report.stops
    ]  # fmt: skip
    head = ("When", "Who", "What", "Outcome", "Reason")
    rows.sort(key=lambda row: row[1])
    body = table(head, [row for _, _, row in rows], "Decisions")
    return el("section", el("h2", "Who decided what"), body, id="people")


def rollbacks_section(report: Report) -> Html | None:
    """Return each rollback with its evidence and its verification; None if there was none."""
    if not report.rollbacks:
        return None
    parts = [part for each in report.rollbacks for part in _rollback(report, each)]
    return el("section", el("h2", "Rollbacks"), *parts, id="rollbacks")


def _rollback(report: Report, each: Rollback) -> Iterable[Html]:
    back = f"{each.back:,} of {count_text(len(each.devices), 'device')} back"
    took = f" in {seconds_text(each.last_back_at - each.at)}" if each.last_back_at is not None else ""
    scope = each.scope if each.scope == "fleet" else f"{each.scope}, at {report.wave_name(each.wave)}"
    yield el("h3", f"{each.trigger} ", el("small", f"{moment_text(each.at)} · {scope} · {back}{took}"))
    yield el("p", f"By {each.by}: {each.reason}")
    yield el("p", f"Ordered back: {name_some(each.devices, 20)}", class_="soft")
    if each.not_back:
        yield el("p", el("b", "Not back: "), name_some(each.not_back, 20))
    if each.evidence:
        yield checks_table(each.evidence, f"Evidence of {each.trigger}")
    yield from verification_parts(each.verification)


def verification_parts(found: Verification | None) -> Iterable[Html]:
    """Show what the devices that went back showed afterwards."""
    if found is None:
        yield el("p", "No verification of the fleet after it stands in the journal.", class_="soft")
        return
    others = [f"not healthy: {name_some(found.not_healthy)}"] if found.not_healthy else []
    others += [f"not back: {name_some(found.not_back)}"] if found.not_back else []
    text = "; ".join([f" {found.healthy:,} healthy", *others])
    yield el("p", el("b", "Verified "), moment_text(found.at), " ", _verdict(found.verdict), text)
    if found.checks:
        yield checks_table(found.checks, "Checks after the rollback")


def frozen_section(report: Report) -> Html:
    """Return what was frozen at the start: digests, baselines, who was left out, the policy."""
    header = report.header
    digests = (("Plan", header.plan_digest), ("Policy", header.policy_digest), ("Baselines", header.baselines_digest))
    facts = [el("div", el("dt", f"{name}, SHA-256"), el("dd", el("code", digest or "–"))) for name, digest in digests]
    rows = [
        tr(each.group, value_text("error_rate", each.error_rate),
           *(value_text("latency", value) for value in
             (each.latency_p50_seconds, each.latency_p95_seconds, each.latency_p99_seconds)),
           *("–" if count is None else f"{count:,}"
             for count in (each.request_count, each.sample_count, each.device_count)))
        for each in report.baselines
    ]  # fmt: skip
    head = ("Group", "Error rate", "p50", "p95", "p99", "Requests", "Samples", "Devices")
    excluded = [
        el("li", f"{each.reason}: {name_some(each.devices, 20)} ({len(each.devices):,})") for each in report.excluded
    ]
    policy = json.dumps(report.policy, indent=1, ensure_ascii=True)
    return el(
        "section",
        el("h2", "Frozen at the start"),
        el("dl", *facts, class_="facts"),
        el("h3", "Baselines"),
        table(head, rows, "Baselines"),
        *([el("h3", "Left out by the plan"), el("ul", *excluded)] if excluded else ()),
        el("details", el("summary", "Policy"), el("pre", Html(_raw(policy)), tabindex=0)),
        id="frozen",
    )


def _raw(text: str) -> str:
    """Escape text with its line breaks; it is ASCII, so nothing in it is hidden."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def audit_section(report: Report) -> Html:
    """Return the audit, with what comes once for each device put together."""
    rows = [_audit_row(group) for group in compact(report.audit)]
    half, note = AUDIT_ROWS_MAX // 2, None
    if len(rows) > AUDIT_ROWS_MAX:
        note = el("p", f"{len(rows) - 2 * half:,} rows between the first and the last {half} are left out here.")
        rows = [*rows[:half], *rows[-half:]]
    about = (
        f"{len(report.audit):,} journal entries; repeated ones are put together here and stand one by one in audit.csv "
        "and in the JSON. `tidegate audit verify` checks the chain of hashes."
    )
    head = ("Entry", "Time (UTC)", "Kind", "Who", "Device", "What", "Hash")
    body = table(head, rows, "Audit", kind="tall")
    return el("section", el("h2", "Audit"), el("p", about, class_="soft"), note, body, id="audit")


def compact(rows: Sequence[AuditRow]) -> list[tuple[AuditRow, ...]]:
    """Put repetitive rows of one kind together, between two rows that stand alone; few of them stand alone too."""
    groups: list[tuple[AuditRow, ...]] = []
    for repeats, run in groupby(rows, key=lambda row: row.kind in _REPETITIVE):
        by_kind: dict[tuple[str, str], list[AuditRow]] = {}
        for row in run:
            key = (row.kind, row.outcome) if repeats else (row.kind, str(row.seq))
            by_kind.setdefault(key, []).append(row)
        found = by_kind.values()
        alone = [(row,) for each in found if len(each) <= _ALONE_MAX for row in each]
        together = [tuple(each) for each in found if len(each) > _ALONE_MAX]
        groups += sorted([*alone, *together], key=lambda group: group[0].seq)
    return groups


def _audit_row(group: tuple[AuditRow, ...]) -> Html:
    first, last = group[0], group[-1]
    digest = el("code", last.hash[:12])
    if len(group) == 1:
        text = el("td", first.text[:300], class_="w")
        return tr(first.seq, _time(first.at), first.kind, first.actor, first.device, text, digest)
    devices = tuple(dict.fromkeys(row.device for row in group if row.device))
    named = f": {name_some(devices, 3)}" if devices else ""
    what = f"{len(group):,} × {first.outcome or first.kind.replace('_', ' ')}{named}"
    actors = {row.actor for row in group}
    actor = first.actor if len(actors) == 1 else count_text(len(actors), "device")
    when = el("td", f"{moment_text(first.at)} – {clock_text(last.at)}", class_="t")
    return tr(f"{first.seq}–{last.seq}", when, first.kind, actor, "", el("td", what, class_="w"), digest)


def _time(at: float) -> Html:
    return el("td", moment_text(at), class_="t")

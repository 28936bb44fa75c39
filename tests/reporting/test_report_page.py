import csv
import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from orchestrator.reporting.incident import Incident, build_incident
from orchestrator.reporting.markup import el
from orchestrator.reporting.page import report_html
from orchestrator.reporting.tables import audit_csv, devices_csv
from orchestrator.reporting.ticket import incident_markdown
from tests.core.core_bench import Bench
from tests.reporting.report_bench import FORMULA, HOSTILE, complete, make_bench, reported, roll_back

SIZE_MAX_BYTES = 500_000
VOID = {"meta", "input", "br"}


class Reader(HTMLParser):
    """Says what a browser would make of a page: its elements, its ids, and whether each end fits its start."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids |= {value for name, value in attrs if name == "id" and value}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def large() -> Bench:
    return roll_back(make_bench(1000))


@pytest.fixture(scope="module")
def bad() -> Bench:
    return roll_back(make_bench(12))


def incident_of(bench: Bench) -> Incident:
    found = build_incident(reported(bench))
    assert found is not None
    return found


def test_the_page_of_a_thousand_devices_is_small_whole_and_names_each_device(large: Bench) -> None:
    page = report_html(reported(large))

    assert len(page.encode()) < SIZE_MAX_BYTES
    text = Reader(page).text
    assert all(name in text for name in large.devices)


def test_the_page_needs_nothing_else_and_its_security_policy_says_so(bad: Bench) -> None:
    page = report_html(reported(bad))
    read = Reader(page)

    outside = [value for name, value in read.attributes if name in {"src", "href", "action", "data"} and value]
    assert all(value.startswith("#") for value in outside)
    assert {value.removeprefix("#") for value in outside} <= read.ids
    assert "url(http" not in page
    assert any(name == "content" and (value or "").startswith("default-src 'none'") for name, value in read.attributes)
    assert page.count("<script>") == 1


def test_text_of_devices_and_people_is_shown_and_never_run(bad: Bench) -> None:
    page = report_html(reported(bad))

    assert HOSTILE not in page
    assert HOSTILE in Reader(page).text


def test_a_text_that_hides_or_turns_itself_is_made_visible() -> None:
    assert el("b", "ab\u202edc\x00\n<") == "<b>ab\\u202edc\\u0000 &lt;</b>"
    assert el("b", title='"><i>') == '<b title="&quot;&gt;&lt;i&gt;"></b>'


def test_the_page_shows_timeline_gates_plots_devices_and_audit(bad: Bench) -> None:
    page = report_html(reported(bad))
    read = Reader(page)

    assert {"incident", "timeline", "waves", "gates", "fleet", "rollbacks", "devices", "frozen", "audit"} <= read.ids
    assert page.count('class="plot"') == len(reported(bad).series)
    assert read.tags.count("svg") > len(reported(bad).series)


def test_the_same_report_gives_the_same_bytes(bad: Bench) -> None:
    assert report_html(reported(bad)) == report_html(reported(bad))


def test_a_rollout_without_a_rollback_has_no_incident() -> None:
    report = reported(complete(make_bench(6)))

    assert build_incident(report) is None
    assert not {"incident", "rollbacks"} & Reader(report_html(report)).ids


def test_a_rollout_that_has_just_begun_has_a_page() -> None:
    bench = make_bench(6)
    bench.start()

    assert "Deploying at the canary; 0 of 6 devices run 2.0.0." in Reader(report_html(reported(bench))).text


def test_an_incident_says_what_happened_when_who_is_not_back_and_what_to_do(bad: Bench) -> None:
    incident = incident_of(bad)

    assert incident.trigger == "error_spike"
    assert incident.first_evidence.endswith("failed (smoke_test_failed)")
    assert incident.first_evidence_at <= incident.decided_at <= (incident.last_back_at or 0)
    (missing,) = incident.not_back
    assert missing.why == "ordered back, nothing heard since"
    assert any(missing.device in step and "did not come back" in step for step in incident.next_steps)
    assert any("2.0.0 is not tried again" in step for step in incident.next_steps)


def test_a_ticket_holds_nothing_that_markdown_would_run(bad: Bench) -> None:
    text = incident_markdown(incident_of(bad))

    assert text.startswith("# Incident: `r-001`, `app-2.0.0`\n")
    for title in ("Timeline (UTC)", "Evidence", "Who decided what", "Still not back", "Verification", "Next steps"):
        assert f"\n## {title}\n" in text
    outside = re.sub(r"(`+)[^`].*?\1", "", text)
    assert HOSTILE not in outside
    assert "<" not in outside.replace("\\<", "")


def cells(text: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_tables_hold_every_device_and_every_entry_and_no_formula(bad: Bench) -> None:
    report = reported(bad)
    devices, audit = cells(devices_csv(report)), cells(audit_csv(report))

    assert [row["device"] for row in devices] == [row.device for row in report.devices]
    assert {row["wave"] for row in devices} == {"canary", "wave-1", "wave-2"}
    assert [int(row["seq"]) for row in audit] == [row.seq for row in report.audit]
    assert {row["region"] for row in devices} == {"north", HOSTILE, f"'{FORMULA}"}
    assert not any(cell.startswith(("=", "+", "@")) for row in [*devices, *audit] for cell in row.values())

import json
from dataclasses import dataclass
from typing import get_args

import pytest

from orchestrator.core import events as e
from orchestrator.reporting.build import RolloutNotFoundError, build_report
from orchestrator.reporting.facts import KINDS
from orchestrator.reporting.model import Report
from tests.core.core_bench import Bench
from tests.reporting.report_bench import FORMULA, HOSTILE, complete, make_bench, reported, roll_back


@dataclass(frozen=True)
class Told:
    """An entry of another version's journal."""

    seq: int
    at: float
    kind: str
    body: str
    hash: str = "ab" * 32


@pytest.fixture(scope="module")
def good() -> Bench:
    return complete(make_bench(12))


@pytest.fixture(scope="module")
def bad() -> Bench:
    return roll_back(make_bench(12))


def test_every_kind_of_fact_is_understood() -> None:
    kinds = {get_args(fact.model_fields["kind"].annotation)[0] for fact in get_args(get_args(e.AnyEvent)[0])}

    assert kinds - set(KINDS) == set()


def test_a_rollout_that_completed_is_told_in_one_sentence_with_who_decided(good: Bench) -> None:
    report = reported(good)

    assert report.header.verdict == "Completed: all 12 devices run 2.0.0 after 3 waves in 9 min."
    assert (report.header.started_by, report.header.started_reason) == ("alice", "the quarterly release")
    assert [(each.by, each.reason, each.plan_digest) for each in report.approvals] == [
        ("bob", HOSTILE, report.header.plan_digest)
    ]
    assert {row.progress for row in report.devices} == {"committed"}
    assert all(row.from_version == "1.0.0" and row.to_version == "2.0.0" for row in report.devices)
    assert report.rollbacks == ()


def test_every_gate_stands_with_what_it_saw_against_its_limit(good: Bench) -> None:
    gates = [(each.gate, each.phase, each.decision) for each in reported(good).evaluations if each.decision != "watch"]
    (error_rate,) = [each for each in reported(good).series if each.check == "error_rate"]

    assert [name for name, _, _ in gates] == ["canary_gate", "wave_gate", "wave_gate"]
    assert [decision for _, _, decision in gates] == ["await_approval", "proceed", "complete"]
    assert {(point.observed, point.limit, point.verdict) for point in error_rate.points} == {(0.0, 0.02, "pass")}


def test_a_fleet_rollback_is_told_with_evidence_who_is_back_and_who_is_not(bad: Bench) -> None:
    report = reported(bad)
    (stop,) = [each for each in report.rollbacks if each.scope != "device"]

    assert (stop.scope, stop.trigger, stop.by) == ("fleet", "error_spike", "orchestrator")
    assert stop.evidence[0].observed is not None
    assert stop.evidence[0].observed > 0.1
    assert (stop.back, len(stop.devices), len(stop.not_back)) == (4, 5, 1)
    assert report.header.failed_ever == 1
    assert "error_spike" in report.header.verdict
    assert "4 of 5 devices were brought back" in report.header.verdict


def test_where_the_time_went_adds_up(bad: Bench) -> None:
    spent = reported(bad).header.durations

    parts = (spent.progressing_seconds, spent.soaking_seconds, spent.waiting_seconds, spent.rolling_back_seconds)
    assert sum(parts) + spent.frozen_seconds == pytest.approx(spent.total_seconds)


def test_json_reads_back_as_the_same_report(bad: Bench) -> None:
    report = reported(bad)

    assert Report.model_validate_json(report.model_dump_json()) == report


def test_the_audit_holds_every_entry_about_the_rollout_with_the_hash_of_the_chain(good: Bench) -> None:
    stored = {entry.seq: entry for entry in good.entries()}
    rows = reported(good).audit

    assert [row.hash for row in rows] == [stored[row.seq].hash for row in rows]
    mine = {entry.seq for entry in good.entries() if json.loads(entry.body).get("rollout") == "r-001"}
    assert mine <= {row.seq for row in rows}
    assert {row.actor for row in rows} >= {"alice", "bob", "orchestrator", "d-0001"}


def test_a_rollout_that_is_not_there_names_the_ones_that_are_alike(good: Bench) -> None:
    with pytest.raises(RolloutNotFoundError, match=r"no rollout 'r-01'; did you mean r-001\?"):
        build_report(good.entries(), "r-01", good.now)
    with pytest.raises(RolloutNotFoundError, match="the journal has no rollout yet"):
        build_report([], "r-001", 0.0)


def test_entries_of_a_newer_version_are_shown_and_counted_and_nothing_is_guessed(good: Bench) -> None:
    entries = [Told(entry.seq, entry.at, entry.kind, entry.body) for entry in good.entries()]
    newest = entries[-1]
    novel = Told(newest.seq + 1, newest.at, "canary_sung", json.dumps({"rollout": "r-001", "tune": FORMULA}))
    broken = Told(newest.seq + 2, newest.at, "device_committed", json.dumps({"rollout": "r-001", "device": 7}))

    report = build_report([*entries, novel, broken], "r-001", newest.at)

    assert report.header.unread == 2
    assert [row.kind for row in report.audit[-2:]] == ["canary_sung", "device_committed"]
    assert report.devices == reported(good).devices

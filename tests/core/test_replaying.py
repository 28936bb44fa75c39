"""The decisions of a journal, taken once more: the same for an honest one, not for a forged one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.adapters.journal import JOURNAL_NAME, Journal, StoredEntry
from orchestrator.core.events import event_from_json
from orchestrator.core.replaying import Recorded, Replay, replay
from tests.reporting.report_bench import complete, make_bench, roll_back


def again(entries: list[StoredEntry]) -> Replay:
    return replay(Recorded(each.seq, each.at, event_from_json(each.body)) for each in entries)


@pytest.fixture(scope="module")
def good() -> list[StoredEntry]:
    return complete(make_bench(12)).entries()


@pytest.fixture(scope="module")
def bad() -> list[StoredEntry]:
    return roll_back(make_bench(12)).entries()


def forged(
    entries: list[StoredEntry], kind: str, forge: Callable[[dict[str, Any]], object], nth: int = 0
) -> list[tuple[str, str]]:
    """Change one entry of a kind, and return what a replay says."""
    chosen = [each for each in entries if each.kind == kind][nth]
    body = json.loads(chosen.body)
    forge(body)
    changed = [each._replace(body=json.dumps(body)) if each is chosen else each for each in entries]
    found = again(changed).mismatches
    assert all(each.seq >= chosen.seq for each in found)
    return [(each.kind, each.message) for each in found]


def first_check(body: dict[str, Any]) -> dict[str, Any]:
    check: dict[str, Any] = body["checks"][0]
    return check


def test_a_verdict_that_its_numbers_do_not_bear_out_is_found(good: list[StoredEntry]) -> None:
    ((kind, message),) = forged(good, "gate_judged", lambda body: first_check(body).update(observed=7.0))

    assert kind == "gate_judged"
    assert "does not keep" in message


def test_a_trend_beyond_its_limit_may_have_passed_because_it_may_be_chance(good: list[StoredEntry]) -> None:
    trend = {"check": "memory_trend", "limit_expr": "memory_growth < 1% per 10 min", "limit": 0.01}

    assert forged(good, "gate_judged", lambda body: first_check(body).update(trend, observed=0.02)) == []


def test_a_verdict_that_its_checks_do_not_make_is_found(good: list[StoredEntry]) -> None:
    assert ("gate_judged", "the checks make it pass, not fail") in forged(
        good, "gate_judged", lambda body: body.update(verdict="fail")
    )


def test_another_plan_than_the_fleet_and_the_seed_make_is_found(good: list[StoredEntry]) -> None:
    found = forged(good, "rollout_started", lambda body: body["plan"].update(seed=1))

    assert found[0][0] == "rollout_started"
    assert found[0][1].startswith("the plan would be ")


def test_a_grant_for_which_there_was_no_room_is_found(good: list[StoredEntry]) -> None:
    found = forged(good, "grant_issued", lambda body: body.update(in_flight=99))

    assert [kind for kind, _ in found] == ["grant_issued"]


def test_a_grant_that_left_too_few_healthy_devices_is_found(good: list[StoredEntry]) -> None:
    ((kind, message),) = forged(good, "grant_issued", lambda body: body.update(healthy=0))

    assert kind == "grant_issued"
    assert message == "12 of 12 were not healthy or out of service already"
    assert forged(good, "grant_issued", lambda body: body.update(healthy=0, was_healthy=False)) == []


def test_a_grant_that_counts_more_healthy_devices_than_there_were_is_found(good: list[StoredEntry]) -> None:
    ((_, message),) = forged(good, "grant_issued", lambda body: body.update(healthy=99))

    assert message == "99 healthy of 12 that count, of 12 that served"


def test_a_journal_from_before_health_was_counted_is_taken_again(good: list[StoredEntry]) -> None:
    def without_health(entry: StoredEntry) -> StoredEntry:
        body = json.loads(entry.body)
        older = {name: value for name, value in body.items() if name not in {"present", "healthy", "was_healthy"}}
        return entry._replace(body=json.dumps(older)) if entry.kind == "grant_issued" else entry

    assert again([without_health(entry) for entry in good]).mismatches == []


def test_a_wave_that_nobody_approved_is_found(good: list[StoredEntry]) -> None:
    entries = [each for each in good if each.kind != "rollout_approved"]

    assert ("wave_started", "nobody has approved") in [(m.kind, m.message) for m in again(entries).mismatches]


def test_an_approval_of_another_plan_is_found(good: list[StoredEntry]) -> None:
    found = forged(good, "rollout_approved", lambda body: body.update(plan_digest="0" * 64))

    assert found == [("rollout_approved", "it is for another plan")]


def test_a_rollback_without_failing_evidence_is_found(bad: list[StoredEntry]) -> None:
    found = forged(bad, "rollback_ordered", lambda body: body["evidence"][0].update(verdict="pass"), nth=-1)

    assert any(kind == "rollback_ordered" and "is no reason to go back" in message for kind, message in found)


def test_a_rollback_that_leaves_devices_out_is_found(bad: list[StoredEntry]) -> None:
    found = forged(bad, "rollback_ordered", lambda body: body.update(devices=body["devices"][:1]), nth=-1)

    assert found[0] == ("rollback_ordered", "rollback_ordered follows, rollback_ordered was decided")


def test_the_command_says_what_was_taken_again_and_leaves_with_0(tmp_path: Path) -> None:
    complete(make_bench(6, Journal(tmp_path / JOURNAL_NAME)))

    result = CliRunner().invoke(app, ["replay", "--folder", str(tmp_path)])
    document = json.loads(CliRunner().invoke(app, ["replay", "--folder", str(tmp_path), "--json"]).stdout)

    assert result.exit_code == 0, result.output
    assert "all came out the same" in result.stdout
    assert document["decisions"]["rollout_approved"] == 1
    assert document["mismatches"] == []


def test_the_command_names_the_entry_that_does_not_follow_and_leaves_with_1(tmp_path: Path) -> None:
    honest = complete(make_bench(6)).entries()
    journal = Journal(tmp_path / JOURNAL_NAME)
    journal.open_epoch(honest[0].at)
    for each in honest[1:]:
        body = {**json.loads(each.body), "in_flight": 99} if each.kind == "grant_issued" else json.loads(each.body)
        journal.append([(each.kind, json.dumps(body))], each.at)

    result = CliRunner().invoke(app, ["replay", "--folder", str(tmp_path)])

    assert result.exit_code == 1
    assert "0 in flight and 0 unavailable, not as recorded" in result.stdout
    assert "Next: tidegate audit show --folder" in result.stdout

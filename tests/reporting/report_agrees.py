"""A report is made of the journal by a reading of its own; it must come to what the orchestrator knows."""

from itertools import pairwise

import pytest

from orchestrator.core.rollout import Rollout
from orchestrator.reporting.model import Report


def compare(report: Report, rollout: Rollout) -> None:
    header = report.header
    assert header.unread == 0
    shown = header.outcome
    assert shown == rollout.phase.value or shown in {"paused", "frozen"}
    assert (shown == "paused") <= rollout.paused
    assert header.plan_digest == rollout.plan.digest
    assert header.ended_at is None or header.ended_at == pytest.approx(rollout.ended_at, abs=0.001)
    assert [wave.name for wave in report.waves] == [wave.name for wave in rollout.plan.waves]
    assert [row.device for row in report.devices] == list(rollout.members.names)
    for row in report.devices:
        member = rollout.members[row.device]
        assert (row.device, row.progress, row.failed, row.excused, row.wave) == (
            row.device, member.progress.value, member.failed, member.excused, member.wave,
        )  # fmt: skip
    assert {each.wave: each.by for each in report.approvals} == {w: each.by for w, each in rollout.approvals.items()}
    spent = header.durations
    parts = (spent.progressing_seconds, spent.soaking_seconds, spent.waiting_seconds, spent.rolling_back_seconds)
    assert sum(parts) + spent.frozen_seconds == pytest.approx(spent.total_seconds - rest_seconds(report), abs=1.0)


def rest_seconds(report: Report) -> float:
    """Between an end and a rollback that somebody ordered after it, nothing goes on."""
    return sum(max(0.0, later.start - earlier.end) for earlier, later in pairwise(report.spans))

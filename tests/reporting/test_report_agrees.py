"""A report is made of the journal by its own reading; it must come to what the orchestrator knows."""

import pytest

from orchestrator.core.rollout import Rollout
from orchestrator.reporting.build import build_report
from orchestrator.reporting.model import Report
from simulator import World
from simulator.scenario import draw_scenario

SEEDS = range(40)
CHUNK = 10


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
    assert sum(parts) + spent.frozen_seconds == pytest.approx(spent.total_seconds, abs=1.0)


@pytest.mark.parametrize("first", SEEDS[::CHUNK])
def test_a_report_says_what_the_orchestrator_knows_whatever_went_wrong(first: int) -> None:
    for seed in SEEDS[first : first + CHUNK]:
        world = World(draw_scenario(seed, device_count=10))
        assert not world.run().violations
        engine = world.orchestrator.engine
        assert engine is not None
        entries = list(world.orchestrator.journal.read())
        for rollout in engine.state.rollouts.values():
            compare(build_report(entries, rollout.id, entries[-1].at), rollout)

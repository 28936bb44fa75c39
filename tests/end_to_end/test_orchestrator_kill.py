"""kill -9 of the orchestrator's process at every append of a rollout with an approval, a failure and a rollback."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.journal import Journal
from orchestrator.core.members import Progress
from orchestrator.core.rollout import Phase
from orchestrator.outgoing import Outgoing
from schemas.documents import AuditRecord
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, document, make_fleet, make_policy
from tests.end_to_end.mortal_engine import KilledError, Moment, ProcessBench

FLEET = make_fleet(5)
STORY = make_policy(
    canary={"require_human_approval_after": True},
    waves=[{"name": "wave-1", "percentage": 100, "auto_rollback": False}],
    max_soak_extensions=50,
)
ONCE = {
    "rollout_started", "wave_started", "rollout_approved", "rollback_ordered", "rollout_halted", "rollout_resumed",
    "rollout_ended", "device_committed", "device_failed", "device_returned", "soak_started", "canary_phase_started",
}  # fmt: skip
"""Facts of which there is one each, however often the process dies."""


def drive(bench: Bench) -> None:
    """Let the fleet and its people take their next step until everybody is back."""
    for _ in range(300):
        if bench.state.rollouts and bench.phase() is Phase.ROLLED_BACK:
            return
        try:
            take_step(bench)
        except KilledError:
            bench.boot()
            bench.speak()
            for name in bench.devices:
                if bench.state.devices[name].rollout is not None:
                    bench.report(name)
    raise AssertionError(f"no end: {bench.phase()} {bench.rollout.reason}")


def take_step(bench: Bench) -> None:
    """A canary, an approval, a wave in which one device fails and is excused, then a person who wants it all back."""
    if not bench.state.rollouts:
        if bench.command("start", release="app-2.0.0", policy="careful", rollout="r-1").status != "ok":
            bench.advance(330)  # A new process has no baseline yet, and no rollout starts without one.
        return
    rollout = bench.rollout
    if rollout.phase is Phase.AWAITING_APPROVAL:
        bench.command("approve", rollout="r-1")
    elif rollout.phase is Phase.HALTED:
        bench.command("resume", rollout="r-1")
    elif rollout.phase is Phase.SOAKING and rollout.wave == 1 and rollout.soaked_seconds > 0:
        bench.command("rollback", rollout="r-1", reason="customers complain")
    for name in rollout.having(Progress.ORDERED, Progress.GRANTED):
        if rollout.wave == 1 and name == bench.wave(1)[0]:
            bench.ask(name)
            bench.report(name, "failed", code="smoke_test_failed")
        elif bench.ask(name).decision == "go":
            bench.run(name, "2.0.0")
            bench.report(name)
    for name in rollout.having(Progress.RETURNING):
        if bench.ask(name).decision == "go":
            bench.run(name, "1.0.0")
            bench.report(name)
    bench.advance(30)


def told() -> tuple[Bench, int]:
    """Return the story as it goes when nobody dies, and how many appends it takes."""

    class Counting(Journal):
        count = 0

        def append(self, rows: Sequence[tuple[str, str]], at: float) -> tuple[AuditRecord, ...]:
            self.count += 1
            return super().append(rows, at)

    journal = Counting(None)
    bench = Bench(FLEET, STORY, journal)
    drive(bench)
    return bench, journal.count


TOLD, APPENDS = told()
FIRST_APPEND = 1 + 1 + len(FLEET)  # after the epoch and the announcements


def outcome(bench: Bench) -> dict[str, Any]:
    """Return what a rollout came to, without times and numbers that a restart may change."""
    rollout = bench.rollout
    return {
        "phase": rollout.phase,
        "plan": rollout.plan.digest,
        "members": {name: (m.progress, m.failed, m.excused, m.error) for name, m in rollout.members.items()},
        "approvals": sorted(rollout.approvals),
        "quarantine": {name: device.quarantine for name, device in bench.state.devices.items()},
        "versions": {name: device.version for name, device in bench.devices.items()},
    }


def once(bench: Bench) -> dict[str, int]:
    return {kind: count for kind, count in Counter(bench.kinds()).items() if kind in ONCE}


def published_audit(sent: list[Outgoing]) -> Iterator[int]:
    """Yield the number of each audit record that went out."""
    return (document(each.payload)["seq"] for each in sent if each.topic == TREE.build(Kind.AUDIT))


def test_the_story_contains_what_it_promises() -> None:
    kinds = Counter(TOLD.kinds())

    assert kinds["rollout_approved"] == kinds["device_failed"] == kinds["rollback_ordered"] == 1
    assert (kinds["device_committed"], kinds["device_returned"]) == (4, 4)


@pytest.mark.parametrize(
    ("dies_at", "moment"), list(itertools.product(range(FIRST_APPEND, APPENDS + 1), ["inside", "after"]))
)
def test_a_kill_at_any_append_changes_neither_the_outcome_nor_the_audit(
    tmp_path: Path, dies_at: int, moment: Moment
) -> None:
    path = tmp_path / "journal.db"
    bench = ProcessBench(path, dies_at, moment, FLEET, STORY)

    drive(bench)

    assert bench.kinds().count("epoch_opened") == 2
    assert outcome(bench) == outcome(TOLD)
    assert once(bench) == once(TOLD)
    reader = Journal.open_reader(path)
    reader.verify()
    reader.close()
    seqs = [entry.seq for entry in bench.entries()]
    assert seqs == list(range(1, len(seqs) + 1))
    assert set(published_audit(bench.sent)) == set(seqs)

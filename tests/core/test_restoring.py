"""A journal that was put back from a backup, as the engine sees it."""

from orchestrator.core.members import Progress
from orchestrator.core.rollout import Phase
from schemas.codec import decode
from schemas.messages import Desired
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, durable, fold, payloads

WHY = "the journal was put back"


def restored(bench: Bench) -> int:
    """Start again on a journal that is not the newest, and return from which generation on orders are new."""
    bench.boot(restored=WHY)
    bench.speak()
    return int(bench.now)


def test_active_rollout_is_paused_and_every_order_is_given_again_above_all_that_were_ever_given() -> None:
    bench = Bench()
    bench.reach_wave(1)
    canary = bench.wave(0)
    ordered = bench.wave(1)

    above = restored(bench)

    assert bench.rollout.paused
    assert bench.rollout.reason == WHY
    assert bench.state.epoch > above
    for name in (*canary, *ordered):
        (*_, last) = payloads(bench.sent, TREE.build(Kind.DESIRED, device=name))
        desired = decode(Desired, last)
        assert (desired.generation > above, desired.epoch, desired.action) == (True, bench.state.epoch, "install")
        assert desired.fallback is not None
        assert desired.fallback.version == "1.0.0", "what it went away from is still known"
    assert durable(fold(bench.entries())) == durable(bench.state)


def test_devices_say_where_they_are_and_nobody_is_let_go_before_a_person_resumes() -> None:
    bench = Bench()
    bench.reach_wave(1)
    here, there = bench.wave(1)[:2]
    restored(bench)
    bench.advance(30)

    bench.run(here, "2.0.0")  # It had its order before, and the backup does not know.
    bench.report(here)
    assert bench.member(here).progress is Progress.COMMITTED
    assert bench.ask(there).reason == "paused"

    bench.command("resume", rollout="r-001")
    assert bench.ask(there).decision == "go"


def test_rollback_goes_on() -> None:
    bench = Bench()
    bench.reach_wave(1)
    bench.command("rollback", rollout="r-001")

    restored(bench)

    assert bench.phase() is Phase.ROLLING_BACK
    assert not bench.rollout.paused
    for name in bench.wave(0):
        assert bench.ask(name).decision == "go"


def test_rollout_that_has_ended_is_left_alone() -> None:
    bench = Bench()
    bench.reach_wave(1)
    bench.command("abort", rollout="r-001")
    before = len(bench.entries())

    restored(bench)

    assert not {"devices_ordered", "rollout_paused"} & set(bench.kinds(after=before))

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from orchestrator.core.capacity import unavailable_max
from orchestrator.core.events import GateJudged
from orchestrator.core.grants import Wait, WaitReason, decide_grant
from orchestrator.core.members import Progress
from orchestrator.core.rollout import Phase
from schemas.codec import encode
from schemas.messages import Ready
from schemas.topics import Kind
from tests.core.core_bench import Bench, make_fleet, make_policy

CANARY = "d-0001"


def ready(bench: Bench, name: str = CANARY, step: str = "activate", generation: int | None = None) -> Ready:
    asked = bench.state.devices[name].generation if generation is None else generation
    return Ready.model_validate({"generation": asked, "step": step, "nonce": "ab" * 16})


def reason(bench: Bench, name: str = CANARY, step: str = "activate") -> str | None:
    """Return why the device must wait; None if it may go. Nothing changes by asking."""
    before = deepcopy(bench.state)
    answer = decide_grant(bench.state, name, ready(bench, name, step), now=bench.now)
    assert bench.state == before
    return answer.reason.value if isinstance(answer, Wait) else None


def make_gate(decision: str, verdict: str) -> GateJudged:
    fields = {"rollout": "r-001", "wave": 0, "gate": "canary_gate", "devices": 1, "checks": ()}
    return GateJudged.model_validate({**fields, "verdict": verdict, "decision": decision})


def wave_bench(count: int, **policy: Any) -> Bench:  # noqa: ANN401 - any part of a policy
    """Return a fleet of ``count`` whose canary has passed: all others are in wave 1 and ordered."""
    waves = [{"name": "wave-1", "percentage": 100}]
    bench = Bench(make_fleet(count), make_policy(waves=waves, **policy))
    bench.reach_wave(1)
    return bench


def test_a_device_nobody_knows_waits() -> None:
    bench = Bench()

    assert decide_grant(bench.state, "stranger", ready(bench), now=bench.now) == Wait(WaitReason.UNKNOWN_DEVICE)


def test_a_device_that_was_ordered_nothing_waits() -> None:
    assert reason(Bench()) == "nothing_ordered"


@pytest.mark.parametrize("off_by", [-1, 1])
def test_a_device_that_asks_for_another_generation_waits(off_by: int) -> None:
    bench = Bench()
    bench.start()
    generation = bench.state.devices[CANARY].generation + off_by

    assert decide_grant(bench.state, CANARY, ready(bench, generation=generation), now=bench.now) == Wait(
        WaitReason.STALE_GENERATION
    )


def aborted(bench: Bench) -> None:
    bench.command("abort", rollout="r-001")


def quarantined(bench: Bench) -> None:
    bench.command("quarantine", device=CANARY)


def held(bench: Bench) -> None:
    bench.hold()


def paused(bench: Bench) -> None:
    bench.command("pause", rollout="r-001")


def frozen(bench: Bench) -> None:
    bench.state.frozen = "half the fleet fell silent at once"


def halted(bench: Bench) -> None:
    """As it is between the halt and the hold that follows it."""
    bench.rollout.phase = Phase.HALTED


@pytest.mark.parametrize(
    ("stop", "why"),
    [
        (held, "hold"), (frozen, "frozen"), (paused, "paused"), (halted, "rollout_stopped"),
        (quarantined, "quarantined"), (aborted, "not_eligible"),
    ],
)  # fmt: skip
def test_a_stop_takes_effect_at_the_next_question(stop: Callable[[Bench], None], why: str) -> None:
    bench = Bench()
    bench.start()
    assert reason(bench) is None

    stop(bench)

    assert reason(bench) == why


def test_a_released_stop_lets_go_again() -> None:
    bench = Bench()
    bench.start()
    bench.hold()
    bench.command("pause", rollout="r-001")

    bench.hold(b"")
    bench.command("resume", rollout="r-001")

    assert reason(bench) is None


def test_a_granted_device_whose_rollout_is_stopped_is_not_granted_again() -> None:
    bench = Bench()
    bench.start()
    assert bench.ask(CANARY).decision == "go"

    aborted(bench)

    assert reason(bench) == "rollout_stopped"


def test_a_wave_that_is_not_open_waits() -> None:
    bench = Bench()
    bench.start()
    later = bench.wave(1)[0]
    device, member = bench.state.devices[later], bench.member(later)
    device.rollout, device.generation, device.action, member.progress = "r-001", 9, "install", Progress.ORDERED

    assert reason(bench, later) == "wave_not_open"


def test_a_failed_device_is_not_granted_again() -> None:
    bench = Bench()
    bench.start()
    bench.fail(CANARY)

    assert reason(bench) == "not_eligible"


def test_no_more_than_max_parallel_deploys_are_on_their_way() -> None:
    bench = wave_bench(22, limits={"max_parallel_deploys": 3})
    names = bench.wave(1)

    decisions = [bench.ask(name).decision for name in names]

    assert decisions == ["go"] * 3 + ["wait"] * 17
    assert reason(bench, names[3]) == "capacity"
    bench.run(names[0], "2.0.0")
    bench.report(names[0])
    assert [bench.ask(name).decision for name in names[3:6]] == ["go", "wait", "wait"]


def test_stragglers_of_an_earlier_wave_take_places_of_the_present_one() -> None:
    bench = wave_bench(22, limits={"max_parallel_deploys": 3})
    first, *others = bench.wave(1)
    for name in bench.wave(0):
        bench.member(name).progress = Progress.GRANTED
    there = 3 - len(bench.wave(0))

    assert [bench.ask(name).decision for name in (first, *others[:3])] == ["go"] * there + ["wait"] * (4 - there)
    assert reason(bench, others[-1]) == "capacity"


@pytest.mark.parametrize(
    ("count", "max_unavailable", "min_available", "allowed"),
    [
        (20, "10%", "90%", 2),
        (29, "10%", "90%", 2),  # rounds down
        (9, "10%", "90%", 1),  # but one at least
        (20, "30%", "70%", 6),
        (20, "50%", "40%", 10),  # the stricter of the two
        (20, "20%", "50%", 4),
        (21, "10%", "90%", 2),
    ],
)
def test_so_many_may_be_out_of_service(count: int, max_unavailable: str, min_available: str, allowed: int) -> None:
    bench = wave_bench(count, update={"max_unavailable": max_unavailable, "min_available": min_available})

    decisions = [bench.ask(name).decision for name in bench.wave(1)]

    assert decisions.count("go") == allowed
    assert reason(bench, bench.wave(1)[-1]) == "availability"
    assert unavailable_max(bench.rollout, count) == allowed


def floor_bench(count: int, percent: int) -> Bench:
    """Return a fleet of ``count`` in which so many percent must be healthy, and all others may be updated at once."""
    return wave_bench(count, update={"max_unavailable": 100 - percent, "min_available": percent})


def fall_ill(bench: Bench, *names: str, is_healthy: bool = False) -> None:
    for name in names:
        bench.devices[name].is_healthy = is_healthy
    bench.advance(30)


@pytest.mark.parametrize(
    ("count", "min_available", "ill", "healthy_that_go"),
    [
        (20, 80, 0, 4),
        (20, 80, 3, 1),
        (20, 80, 4, 0),
        (20, 80, 9, 0),
        (5, 90, 0, 1),  # rounding leaves room for none, and all are well
        (5, 90, 1, 0),
        (10, 90, 1, 0),
        (21, 90, 1, 1),
        (20, 50, 9, 1),
    ],
)
def test_so_many_healthy_devices_go_while_others_are_not_healthy(
    count: int, min_available: int, ill: int, healthy_that_go: int
) -> None:
    bench = floor_bench(count, min_available)
    *well, _ = names = bench.wave(1)
    fall_ill(bench, *names[len(names) - ill :])

    decisions = [bench.ask(name).decision for name in names[: len(names) - ill]]

    assert decisions.count("go") == healthy_that_go
    waits = "too_few_healthy" if ill else "availability"
    assert reason(bench, well[healthy_that_go]) == waits


def test_devices_that_are_well_again_let_the_others_go() -> None:
    bench = floor_bench(20, 80)
    first, *others = bench.wave(1)
    fall_ill(bench, *others[:4])
    assert reason(bench, first) == "too_few_healthy"

    fall_ill(bench, others[0], is_healthy=True)

    assert reason(bench, first) is None


def test_a_device_that_is_not_healthy_takes_no_healthy_one_away_and_may_go() -> None:
    bench = floor_bench(20, 80)
    first, *others = bench.wave(1)
    fall_ill(bench, *others[:6])

    assert [bench.ask(name).decision for name in (first, *others[:6])] == ["wait"] + ["go"] * 4 + ["wait"] * 2
    assert reason(bench, others[5]) == "availability"


def test_a_device_that_should_have_been_heard_is_not_taken_to_be_healthy() -> None:
    bench = floor_bench(20, 80)
    first, *others = bench.wave(1)
    for name in others[:4]:
        bench.devices[name].is_silent = True
    bench.advance(90)
    assert reason(bench, first) is None

    bench.advance(30)

    assert reason(bench, first) == "too_few_healthy"


def test_who_need_not_have_been_heard_yet_counts_after_a_restart_and_after_a_connect() -> None:
    bench = floor_bench(20, 80)
    first, *others = bench.wave(1)
    for name in others[:4]:
        bench.devices[name].is_silent = True
    bench.advance(120)

    bench.set_online(*others[:4], is_online=False)
    bench.set_online(*others[:4])
    assert reason(bench, first) is None

    bench.boot()
    bench.speak()
    bench.advance(270)
    assert reason(bench, first) is None
    bench.advance(60)
    assert reason(bench, first) == "too_few_healthy"


def test_after_the_orchestrator_was_cut_off_everybody_has_time_to_be_heard_again() -> None:
    bench = floor_bench(20, 80)
    first = bench.wave(1)[0]
    bench.now += 400
    bench.take(bench.engine.reconnected(bench.now))
    bench.now += 10
    bench.measure(first, encode(bench.devices[first].sample()))

    bench.tick()

    assert reason(bench, first) is None


def test_a_device_that_was_ill_when_it_left_is_ill_when_it_is_back_until_it_says_otherwise() -> None:
    bench = floor_bench(20, 80)
    first, *others = bench.wave(1)
    fall_ill(bench, *others[:4])

    bench.set_online(*others[:4], is_online=False)
    assert reason(bench, first) is None, "of sixteen all are well"
    bench.advance(300)
    bench.set_online(*others[:4])
    bench.tick()

    assert reason(bench, first) == "too_few_healthy"


def test_nobody_waits_for_a_device_that_was_taken_out_of_service() -> None:
    bench = floor_bench(20, 80)
    first, *others = bench.wave(1)
    fall_ill(bench, *others[:4])
    assert reason(bench, first) == "too_few_healthy"

    for name in others[:2]:
        bench.command("quarantine", device=name)

    assert reason(bench, first) is None


def test_a_rollback_does_not_wait_for_health() -> None:
    bench = floor_bench(20, 80)
    first, *_ = bench.wave(0)
    fall_ill(bench, *bench.wave(1))
    bench.command("rollback", rollout="r-001")

    assert reason(bench, first) is None


def test_the_journal_says_how_many_were_healthy_when_a_device_was_let_go() -> None:
    bench = floor_bench(20, 80)
    first, second, ill, *_ = bench.wave(1)
    fall_ill(bench, ill)

    bench.ask(first)
    bench.command("quarantine", device=second)
    bench.ask(ill)

    told = [(each["present"], each["healthy"], each["was_healthy"]) for each in bench.facts("grant_issued")[-2:]]
    assert told == [(20, 19, True), (19, 17, False)]


def test_offline_devices_serve_nobody_and_count_for_no_availability() -> None:
    bench = wave_bench(20, update={"max_unavailable": "20%", "min_available": "80%"})
    bench.set_online(*bench.wave(1)[10:], is_online=False)  # ten of the twenty remain

    assert [bench.ask(name).decision for name in bench.wave(1)[:4]] == ["go", "go", "wait", "wait"]


def test_a_granted_device_that_falls_silent_keeps_its_place() -> None:
    bench = wave_bench(10, update={"max_unavailable": "10%", "min_available": "90%"})
    first, second, *_ = bench.wave(1)
    assert bench.ask(first).decision == "go"

    bench.set_online(first, is_online=False)

    assert reason(bench, second) == "availability"


def test_a_device_that_never_said_how_it_ended_stays_out_of_service_until_it_says_so() -> None:
    bench = wave_bench(
        10, update={"max_unavailable": "10%", "min_available": "90%"}, limits={"deploy_timeout_minutes": 2}
    )
    lost, second, *_ = bench.wave(1)
    bench.ask(lost)
    bench.rollout.members[lost].excused = True  # so that the wave goes on
    bench.set_online(lost, is_online=False)
    for name in bench.wave(1)[1:]:
        bench.report(name, "waiting")
    bench.advance(150)
    assert bench.member(lost).is_lost
    assert reason(bench, second) == "availability"

    bench.set_online(lost)
    bench.report(lost, "rolled_back", code="unhealthy")

    assert (bench.member(lost).is_lost, bench.member(lost).error) == (False, "unhealthy")
    assert reason(bench, second) is None


def test_a_lost_grant_is_given_again_with_a_new_number_and_takes_no_second_place() -> None:
    bench = wave_bench(10, limits={"max_parallel_deploys": 1})
    first, second, *_ = bench.wave(1)

    answers = [bench.ask(first), bench.ask(first)]

    assert [answer.decision for answer in answers] == ["go", "go"]
    assert answers[0].seq < answers[1].seq
    assert answers[0].nonce != answers[1].nonce
    assert reason(bench, second) == "capacity"


def test_a_commit_needs_a_grant_before_it() -> None:
    bench = Bench()
    bench.start()

    assert reason(bench, step="commit") == "not_eligible"
    bench.ask(CANARY)

    assert reason(bench, step="commit") is None


def test_a_commit_is_granted_whatever_stops_the_rollout() -> None:
    bench = Bench()
    bench.start()
    bench.ask(CANARY)
    bench.hold()
    bench.command("pause", rollout="r-001")
    bench.command("abort", rollout="r-001")

    assert reason(bench, step="commit") is None


def rolling_back(count: int = 5, limit: int = 2) -> Bench:
    """Return a fleet that runs the new version and has just been ordered back."""
    bench = wave_bench(count, limits={"max_parallel_deploys": limit})
    bench.install_wave()
    bench.command("rollback", rollout="r-001")
    return bench


def test_a_rollback_waits_for_no_hold_and_no_quarantine_and_no_phase() -> None:
    bench = rolling_back()
    bench.hold()
    bench.command("quarantine", device=CANARY)
    assert bench.phase() is Phase.ROLLING_BACK

    assert reason(bench) is None


def test_rollbacks_are_bounded_by_max_parallel_deploys_only() -> None:
    bench = rolling_back(count=5, limit=2)
    names = bench.rollout.having(Progress.RETURNING)

    assert [bench.ask(name).decision for name in names] == ["go", "go", "wait", "wait", "wait"]
    assert reason(bench, names[2]) == "capacity"
    bench.run(names[0], "1.0.0")
    bench.report(names[0])
    assert [bench.ask(name).decision for name in names[2:]] == ["go", "wait", "wait"]


def test_a_lost_grant_for_a_rollback_is_given_again_beyond_the_bound() -> None:
    bench = rolling_back(count=5, limit=2)
    names = bench.rollout.having(Progress.RETURNING)
    for name in names[:2]:
        bench.ask(name)

    assert [reason(bench, name) for name in names[:3]] == [None, None, "capacity"]


def test_a_device_that_slept_through_its_rollback_gets_the_one_right_answer() -> None:
    bench = Bench()
    bench.start()
    old = bench.state.devices[CANARY].generation
    bench.ask(CANARY)
    bench.set_online(CANARY, is_online=False)
    bench.command("rollback", rollout="r-001")
    bench.set_online(CANARY)

    late = decide_grant(bench.state, CANARY, ready(bench, generation=old), now=bench.now)

    assert late == Wait(WaitReason.STALE_GENERATION)
    assert bench.state.devices[CANARY].action == "rollback"
    assert reason(bench) is None


def test_a_straggler_may_install_after_completion() -> None:
    bench = wave_bench(6)
    late = bench.wave(1)[0]
    bench.set_online(late, is_online=False)
    bench.install_wave()
    bench.soak()
    assert bench.phase() is Phase.COMPLETED

    bench.set_online(late)

    assert reason(bench, late) is None


def test_only_a_gate_that_was_acted_upon_lets_a_gated_commit_through() -> None:
    bench = Bench(make_fleet(6), make_policy(commit_on="gate"))
    bench.start()
    bench.ask(CANARY)
    assert reason(bench, step="commit") == "gate_pending"

    judged = {}
    for decision, verdict in (("watch", "pass"), ("extend", "inconclusive"), ("await_approval", "pass")):
        bench.rollout.gates[0] = make_gate(decision, verdict)
        judged[decision] = reason(bench, step="commit")

    assert judged == {"watch": "gate_pending", "extend": "gate_pending", "await_approval": None}


def test_nothing_is_installed_while_the_orchestrator_settles_and_a_rollback_does_not_wait() -> None:
    bench = Bench()
    bench.start()
    asked = ready(bench)

    assert decide_grant(bench.state, CANARY, asked, is_settling=True, now=bench.now) == Wait(WaitReason.SETTLING)
    back = rolling_back()
    assert not isinstance(decide_grant(back.state, CANARY, ready(back), is_settling=True, now=bench.now), Wait)


def test_a_wait_says_when_to_ask_again_and_names_the_reason() -> None:
    bench = Bench()
    bench.start()
    bench.hold()
    facts = len(bench.entries())

    answer = bench.ask(CANARY)

    assert (answer.decision, answer.reason, answer.retry_after_seconds) == ("wait", "hold", 30.0)
    assert len(bench.entries()) == facts


def test_a_ready_of_a_device_that_was_ordered_nothing_is_counted_and_not_answered() -> None:
    bench = Bench()

    assert bench.say(Kind.READY, ready(bench, generation=1), device=CANARY) == []
    assert bench.say(Kind.READY, ready(bench, generation=1), device="stranger") == []
    assert bench.engine.tally.refused_by_reason == {"ready_without_order": 2}


def test_order_of_a_device_whose_grant_was_lost_is_taken_back_when_its_rollout_is_over() -> None:
    bench = Bench()
    bench.start()
    bench.ask(CANARY, "activate")
    assert bench.state.rollouts["r-001"].members[CANARY].progress is Progress.GRANTED
    bench.command("abort", rollout="r-001")
    assert bench.state.devices[CANARY].action == "install", "it may have its grant, and finishes by itself then"

    bench.ask(CANARY, "activate")

    assert bench.state.devices[CANARY].action == "hold"
    assert bench.state.rollouts["r-001"].members[CANARY].progress is Progress.HELD

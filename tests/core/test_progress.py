from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.core.members import Progress
from orchestrator.core.rollout import Phase
from orchestrator.core.soaking import soak_required_seconds, soaked_seconds
from schemas.topics import Kind
from tests.core.core_bench import CHECKS, TREE, Bench, make_fleet, make_policy

ONE_WAVE = [{"name": "wave-1", "percentage": 100}]
CANARY = "d-0001"


def wave_bench(count: int, *, waves: Sequence[dict[str, Any]] = ONE_WAVE, **policy: Any) -> Bench:  # noqa: ANN401 - any part of a policy
    """Return a rollout whose canary has passed; wave 1 is ordered and nobody has installed yet."""
    bench = Bench(make_fleet(count), make_policy(waves=waves, **policy))
    bench.reach_wave(1)
    return bench


def progress_of(bench: Bench, names: Sequence[str]) -> set[Progress]:
    return {bench.member(name).progress for name in names}


# The way of a good release


def test_a_good_release_reaches_everybody_wave_by_wave() -> None:
    bench = Bench(make_fleet(12))
    bench.start()
    for _ in bench.rollout.plan.waves:
        bench.install_wave()
        bench.soak()

    assert bench.phase() is Phase.COMPLETED
    assert set(bench.rollout.having(Progress.COMMITTED)) == set(bench.fleet)
    decisions = [(gate["gate"], gate["decision"]) for gate in bench.facts("gate_judged") if gate["decision"] != "watch"]
    assert decisions == [("canary_gate", "proceed"), ("wave_gate", "proceed"), ("wave_gate", "complete")]
    assert [gate["devices"] for gate in bench.facts("gate_judged") if gate["decision"] != "watch"] == [2, 7, 12]


def test_only_the_open_wave_is_ordered() -> None:
    bench = Bench(make_fleet(12))
    bench.start()

    assert tuple(bench.rollout.having(Progress.ORDERED)) == bench.wave(0)
    assert progress_of(bench, bench.wave(1) + bench.wave(2)) == {Progress.PENDING}


def test_a_canary_that_passes_waits_for_a_person_if_the_policy_says_so() -> None:
    bench = Bench(policy=make_policy(canary={"require_human_approval_after": True}))
    bench.start()
    bench.install_wave()
    bench.soak()
    bench.advance(3600)

    assert (bench.phase(), bench.rollout.wave) == (Phase.AWAITING_APPROVAL, 0)
    assert bench.command("approve", rollout="r-001").status == "ok"
    assert (bench.phase(), bench.rollout.wave) == (Phase.DEPLOYING, 1)


def test_no_gate_is_judged_before_its_soak_is_over() -> None:
    bench = Bench()
    bench.start()
    bench.install_wave()

    bench.advance(299)

    assert bench.phase() is Phase.SOAKING
    assert soaked_seconds(bench.rollout, bench.now) == 299
    assert soak_required_seconds(bench.rollout) == 300
    bench.advance(1)
    assert bench.rollout.wave == 1


def test_the_completion_gate_is_judged_after_the_last_wave() -> None:
    final = {"checks": [{"type": "crash_count", "threshold": 0, "window": "10m", "min_samples": 2}]}
    bench = wave_bench(6, gates={"completion_gate": final})
    bench.install_wave()
    bench.devices[CANARY].crashes_per_sample = 1
    bench.advance(30)
    bench.devices[CANARY].crashes_per_sample = 0
    bench.soak()

    last = bench.facts("gate_judged")[-1]
    assert (last["gate"], last["verdict"], last["decision"]) == ("completion_gate", "fail", "rollback")


# A canary that turns bad


@pytest.mark.parametrize(
    ("health", "phase"), [({"errors_per_sample": 20}, "short-term"), ({"is_healthy": False}, "immediate")]
)
def test_a_canary_that_fails_a_check_goes_back_at_once(health: dict[str, Any], phase: str) -> None:
    bench = Bench()
    bench.start()
    bench.install_wave(**health)

    bench.advance(120)

    assert bench.phase() is Phase.ROLLING_BACK
    assert bench.state.devices[CANARY].action == "rollback"
    bench.go_back(CANARY)
    bench.tick()
    assert bench.phase() is Phase.ROLLING_BACK  # it is back, and nobody has seen yet that it is well
    bench.advance(60)
    assert bench.phase() is Phase.ROLLED_BACK
    assert bench.member(CANARY).progress is Progress.RETURNED
    assert bench.rollout.reason.startswith(f"canary_gate failed in the {phase} phase of canary: ")
    assert len(bench.facts("rollback_ordered")) == len(bench.facts("rollout_ended")) == 1


def test_a_canary_that_turns_bad_while_it_waits_for_approval_goes_back() -> None:
    bench = Bench(policy=make_policy(canary={"require_human_approval_after": True}))
    bench.start()
    bench.install_wave()
    bench.soak()

    bench.devices[CANARY].errors_per_sample = 50
    bench.advance(120)

    assert bench.phase() is Phase.ROLLING_BACK


def test_a_canary_that_fails_to_install_stops_everything() -> None:
    bench = Bench()
    bench.start()
    bench.fail(CANARY)
    bench.tick()

    assert bench.phase() is Phase.ROLLED_BACK
    assert bench.state.devices[CANARY].quarantine == "smoke_test_failed"
    assert "1 of 1 finished in canary failed (smoke_test_failed), limit 0%" in bench.rollout.reason
    assert progress_of(bench, bench.wave(1)) == {Progress.PENDING}


def test_a_pause_does_not_keep_a_bad_canary() -> None:
    bench = Bench()
    bench.start()
    bench.install_wave(errors_per_sample=20)
    bench.command("pause", rollout="r-001")

    bench.advance(120)

    assert bench.phase() is Phase.ROLLING_BACK
    assert bench.rollout.paused is False


# Failure thresholds


def test_thirty_failures_in_a_row_stop_a_wave_of_a_thousand_at_the_fifth() -> None:
    bench = wave_bench(1010)
    names = bench.wave(1)
    assert len(names) == 1000

    failures = 0
    while bench.phase() is Phase.DEPLOYING and failures < 30:
        bench.fail(names[failures])
        bench.tick()
        failures += 1

    assert failures == 5
    assert "5 of 5 finished in wave-1 failed" in bench.rollout.reason


@pytest.mark.parametrize(
    ("size", "committed", "failed", "is_stopped"),
    [
        (1, 0, 1, True),
        (2, 0, 1, True),  # 1 of 2 is more than 5% of the wave
        (4, 3, 1, True),
        (40, 0, 2, False),  # 2 of 40 are 5%, and two finished say nothing yet
        (40, 3, 2, True),  # 2 of 5 finished
        (40, 37, 2, True),  # 2 of 39 finished are more than 5%, though 2 of 40 are not
        (40, 38, 2, False),  # exactly 5%
        (40, 0, 3, True),  # 3 of the whole wave
    ],
)
def test_a_wave_stops_above_its_threshold_of_the_finished_or_of_all(
    size: int, committed: int, failed: int, *, is_stopped: bool
) -> None:
    canary_count = 1 if size < 9 else 2
    bench = wave_bench(size + canary_count, limits={"max_parallel_deploys": 1000})
    names = bench.wave(1)
    assert len(names) == size

    bench.install(*names[:committed])
    bench.fail(*names[committed : committed + failed])
    bench.tick()

    assert (bench.phase() in {Phase.ROLLING_BACK, Phase.HALTED}) is is_stopped


def test_a_failing_wave_goes_back_and_then_waits_for_a_person() -> None:
    bench = wave_bench(7)
    first, second, *others = bench.wave(1)
    bench.install(first)
    bench.fail(second)
    bench.tick()

    assert bench.phase() is Phase.ROLLING_BACK
    assert progress_of(bench, others) == {Progress.HELD}
    bench.go_back(first)
    bench.advance(60)
    assert bench.phase() is Phase.HALTED  # the canary still runs the new version
    assert bench.rollout.reason.startswith("wave-1 rolled back: ")
    assert bench.member(CANARY).progress is Progress.COMMITTED
    assert bench.command("rollback", rollout="r-001").status == "ok"
    bench.go_back(CANARY)
    bench.advance(60)
    assert bench.phase() is Phase.ROLLED_BACK


def test_a_late_member_that_fails_stops_the_rollout_although_its_wave_is_over() -> None:
    bench = wave_bench(12, waves=[{"name": "wave-1", "percentage": 50}, {"name": "wave-2", "percentage": 100}])
    late = bench.wave(1)[0]
    bench.set_online(late, is_online=False)
    bench.install_wave()
    bench.soak()
    assert (bench.phase(), bench.rollout.wave) == (Phase.DEPLOYING, 2)

    bench.set_online(late)
    bench.fail(late)
    bench.tick()

    assert bench.phase() is Phase.ROLLING_BACK
    assert "finished in wave-1 failed" in bench.rollout.reason
    assert progress_of(bench, bench.wave(2)) == {Progress.HELD}


@pytest.mark.parametrize("is_retried", [False, True])
def test_a_person_goes_on_after_a_wave_went_back_with_the_next_wave_or_with_the_same_devices(
    *, is_retried: bool
) -> None:
    bench = wave_bench(12, waves=[{"name": "wave-1", "percentage": 50}, {"name": "wave-2", "percentage": 100}])
    first, second, *others = bench.wave(1)
    bench.install(first, *others)
    bench.fail(second)
    bench.tick()
    bench.go_back(first, *others)
    bench.advance(60)
    assert bench.phase() is Phase.HALTED

    if is_retried:
        bench.command("retry", rollout="r-001", devices=[first, *others])
    assert bench.command("resume", rollout="r-001").status == "ok"
    bench.tick()

    if is_retried:
        assert progress_of(bench, [first, *others]) == {Progress.ORDERED}
        bench.install_wave()
        assert progress_of(bench, [first, *others]) == {Progress.COMMITTED}
    bench.soak()
    assert (bench.phase(), bench.rollout.wave) == (Phase.DEPLOYING, 2)
    assert bench.member(second).progress is Progress.FAILED


def test_a_failing_wave_without_auto_rollback_halts_and_holds_who_was_not_granted() -> None:
    bench = wave_bench(7, waves=[{**ONE_WAVE[0], "auto_rollback": False}])
    first, second, *others = bench.wave(1)
    assert bench.ask(first).decision == "go"
    generations = {name: bench.state.devices[name].generation for name in bench.fleet}
    bench.fail(second)
    bench.tick()

    assert bench.phase() is Phase.HALTED
    assert progress_of(bench, others) == {Progress.HELD}
    assert {bench.state.devices[name].action for name in others} == {"hold"}
    assert all(bench.state.devices[name].generation > generations[name] for name in others)
    assert bench.state.devices[first].generation == generations[first]  # its trial goes on by the local rule
    assert bench.member(first).progress is Progress.GRANTED


def test_resuming_excuses_the_failures_so_far_by_name_and_orders_the_others_again() -> None:
    bench = wave_bench(7, waves=[{**ONE_WAVE[0], "auto_rollback": False}])
    first, second, third, *others = bench.wave(1)
    bench.fail(first)
    bench.tick()

    bench.command("resume", rollout="r-001")
    bench.tick()

    assert bench.phase() is Phase.DEPLOYING
    assert bench.facts("rollout_resumed")[0]["excused"] == [first]
    assert progress_of(bench, [second, third, *others]) == {Progress.ORDERED}
    bench.fail(second)
    bench.tick()
    assert bench.phase() is Phase.HALTED  # the excuse is for the first one only


def test_a_wave_whose_members_all_failed_and_were_excused_is_judged_and_does_not_hang() -> None:
    bench = Bench(
        make_fleet(4), make_policy(waves=[{"name": "w1", "percentage": 30, "auto_rollback": False}, *ONE_WAVE])
    )
    bench.reach_wave(1)
    (only,) = bench.wave(1)
    bench.fail(only)
    bench.tick()
    assert bench.phase() is Phase.HALTED

    bench.command("resume", rollout="r-001")
    bench.soak()

    assert (bench.phase(), bench.rollout.wave) == (Phase.DEPLOYING, 2)
    assert bench.facts("gate_judged")[-1]["devices"] == 1  # the canary is what was judged


# Devices that are not there


def test_offline_members_do_not_hold_the_wave() -> None:
    bench = wave_bench(6)
    away = bench.wave(1)[0]
    bench.set_online(away, is_online=False)

    bench.install_wave()
    bench.soak()

    assert bench.phase() is Phase.COMPLETED
    assert bench.member(away).progress is Progress.ORDERED


def test_a_wave_of_which_nobody_is_there_does_not_start_to_soak() -> None:
    bench = wave_bench(6)
    bench.set_online(*bench.wave(1), is_online=False)

    bench.advance(7200)

    assert bench.phase() is Phase.DEPLOYING
    bench.set_online(*bench.wave(1))
    bench.tick()
    bench.install_wave()
    bench.soak()
    assert bench.phase() is Phase.COMPLETED


def test_a_quarantined_member_is_not_ordered_and_does_not_hold_the_wave() -> None:
    bench = Bench()
    bench.start()
    out = bench.wave(1)[0]
    bench.command("quarantine", device=out)
    bench.install_wave()
    bench.soak()

    bench.install_wave()

    assert bench.member(out).progress is Progress.PENDING
    assert bench.phase() is Phase.SOAKING


def test_a_wave_whose_members_are_all_in_quarantine_is_not_waited_for() -> None:
    bench = wave_bench(6)
    for name in bench.wave(1):
        bench.command("quarantine", device=name)

    bench.tick()

    assert bench.phase() is Phase.SOAKING


def test_a_device_sent_back_alone_does_not_hold_the_wave_when_it_is_away() -> None:
    bench = wave_bench(30, waves=[{**ONE_WAVE[0], "failure_threshold_percent": 50}])
    first, *others = bench.wave(1)
    bench.install(first, crashes_per_sample=2)
    bench.advance(90)
    assert bench.member(first).progress is Progress.RETURNING
    bench.set_online(first, is_online=False)

    bench.install(*others)
    bench.tick()

    assert bench.phase() is Phase.SOAKING


def test_a_late_member_of_a_completed_rollout_installs_and_is_counted() -> None:
    bench = wave_bench(6)
    away = bench.wave(1)[0]
    bench.set_online(away, is_online=False)
    bench.install_wave()
    bench.soak()

    bench.set_online(away)
    bench.install(away)
    bench.tick()

    assert (bench.member(away).progress, bench.phase()) == (Progress.COMMITTED, Phase.COMPLETED)


def test_a_straggler_that_dies_after_completion_gives_its_place_back() -> None:
    waves = [{"name": "wave-1", "percentage": 100, "failure_threshold_percent": 50}]
    bench = wave_bench(6, limits={"max_parallel_deploys": 1}, waves=waves)
    first, second = bench.wave(1)[:2]
    bench.set_online(first, second, is_online=False)
    bench.install_wave()
    bench.soak()
    assert bench.phase() is Phase.COMPLETED
    bench.set_online(first, second)
    assert bench.ask(first).decision == "go"
    bench.set_online(first, is_online=False)
    assert bench.ask(second).decision == "wait"
    bench.report(second, "waiting")

    bench.advance(630)

    assert bench.member(first).progress is Progress.FAILED
    assert bench.ask(second).decision == "go"


# Time


@pytest.mark.parametrize("is_granted", [True, False])
def test_a_device_without_an_outcome_in_time_has_failed(*, is_granted: bool) -> None:
    limits = {"max_retries": 0, "deploy_timeout_minutes": 10}
    bench = wave_bench(30, waves=[{**ONE_WAVE[0], "failure_threshold_percent": 50}], limits=limits)
    slow, *others = bench.wave(1)
    bench.install(*others)
    if is_granted:
        bench.ask(slow)

    bench.advance(570)
    assert bench.member(slow).failed is False
    bench.advance(60)

    assert (bench.member(slow).progress, bench.member(slow).error) == (Progress.FAILED, "deploy_timeout")
    assert bench.state.devices[slow].quarantine == "deploy_timeout"
    assert bench.kinds().count("device_failed") == 1


def test_a_device_that_waits_for_its_turn_or_is_away_is_not_overdue() -> None:
    bench = wave_bench(30, waves=[{**ONE_WAVE[0], "failure_threshold_percent": 50}])
    waiting, away, *others = bench.wave(1)
    bench.hold()
    for name in (waiting, *others):
        bench.report(name, "waiting")
    bench.set_online(away, is_online=False)

    bench.advance(3600)

    assert not any(bench.member(name).failed for name in bench.wave(1))


def test_a_silent_device_that_was_granted_is_sent_back_with_the_others() -> None:
    bench = Bench(make_fleet(6), make_policy(waves=[{**ONE_WAVE[0], "failure_threshold_percent": 90}]))
    bench.reach_wave(1)
    silent, *others = bench.wave(1)
    bench.install(*others)
    bench.ask(silent)
    bench.set_online(silent, is_online=False)
    bench.advance(630)
    assert bench.member(silent).error == "deploy_timeout"

    bench.command("rollback", rollout="r-001")

    assert bench.state.devices[silent].action == "rollback"
    assert bench.member(silent).progress is Progress.RETURNING
    bench.go_back(CANARY, *others)
    bench.advance(60)
    assert bench.phase() is Phase.ROLLED_BACK  # it goes back when it returns
    bench.set_online(silent)
    bench.go_back(silent)
    assert bench.member(silent).progress is Progress.RETURNED


def test_a_device_that_does_not_get_back_in_time_is_stranded_and_the_rollback_ends() -> None:
    bench = Bench()
    bench.start()
    bench.install_wave()
    bench.command("rollback", rollout="r-001")
    bench.ask(CANARY)

    bench.advance(630)

    assert bench.member(CANARY).progress is Progress.STRANDED
    assert bench.phase() is Phase.ROLLED_BACK


def test_a_device_that_a_later_rollout_has_is_not_overdue_in_the_earlier_one() -> None:
    bench = Bench()
    bench.start()
    bench.ask(CANARY)
    bench.command("abort", rollout="r-001")
    bench.start("3.0.0")
    bench.hold()
    bench.report(CANARY, "waiting")

    bench.advance(1200)

    assert bench.kinds().count("device_failed") == 0


# Evidence that is not good enough


def silence_canary(bench: Bench) -> None:
    bench.devices[CANARY].is_silent = True


def test_without_evidence_the_soak_is_extended_and_then_a_person_is_asked() -> None:
    bench = Bench(policy=make_policy(max_soak_extensions=2))
    bench.start()
    bench.install_wave()
    silence_canary(bench)

    bench.advance(60 + 60)
    assert [fact["extension"] for fact in bench.facts("soak_extended")] == [1, 2]
    bench.advance(60)

    assert bench.phase() is Phase.HALTED
    assert [fact["until_seconds"] for fact in bench.facts("soak_extended")] == [120.0, 180.0]
    assert "(after 2 extensions of the soak)" in bench.rollout.reason
    assert bench.member(CANARY).progress is Progress.COMMITTED
    bench.advance(3600)
    assert bench.kinds().count("rollout_halted") == 1


def gates_with(**rule: object) -> dict[str, Any]:
    return {"wave_gate": {"checks": [CHECKS[0], {**CHECKS[1], **rule}]}}


def silence_one(bench: Bench) -> None:
    bench.devices["d-0006"].is_silent = True


def test_a_check_that_was_inconclusive_too_often_in_a_row_halts_before_the_extensions_are_used_up() -> None:
    bench = wave_bench(6, gates=gates_with(consecutive_error_limit=1), triggers=[])
    bench.install_wave()
    silence_one(bench)
    bench.advance(2 * 120)
    assert bench.rollout.extensions == 1
    bench.advance(120)

    assert bench.phase() is Phase.HALTED
    assert "application_health may be inconclusive 1 times in a row" in bench.rollout.reason


def test_a_check_that_may_never_be_inconclusive_is_forgotten_when_a_person_resumes() -> None:
    bench = wave_bench(6, gates=gates_with(consecutive_error_limit=0), triggers=[])
    bench.install_wave()
    silence_one(bench)
    bench.advance(130)
    assert (bench.phase(), bench.rollout.extensions) == (Phase.HALTED, 0)

    bench.command("resume", rollout="r-001")
    assert (bench.phase(), bench.rollout.inconclusive) == (Phase.SOAKING, {})


def test_a_dry_run_may_be_inconclusive_as_often_as_it_likes() -> None:
    bench = wave_bench(6, gates=gates_with(consecutive_error_limit=0, min_samples=10**6, dry_run=True), triggers=[])
    bench.install_wave()
    bench.soak()

    assert bench.phase() is Phase.COMPLETED


def test_evidence_that_comes_back_ends_the_extension_well() -> None:
    bench = Bench()
    bench.start()
    bench.install_wave()
    silence_canary(bench)
    bench.advance(90)
    assert bench.rollout.extensions == 1

    bench.devices[CANARY].is_silent = False
    bench.advance(360)

    assert bench.rollout.wave == 1
    assert (bench.rollout.extensions, bench.rollout.soak_until_seconds) == (0, None)


def test_a_resumed_soak_starts_anew_and_is_bounded_anew() -> None:
    bench = Bench(policy=make_policy(max_soak_extensions=0))
    bench.start()
    bench.install_wave()
    silence_canary(bench)
    bench.advance(330)
    assert bench.phase() is Phase.HALTED

    bench.command("resume", rollout="r-001")

    assert bench.phase() is Phase.SOAKING
    assert soaked_seconds(bench.rollout, bench.now) == 0
    bench.advance(330)
    assert bench.phase() is Phase.HALTED


def test_a_gate_that_fails_in_a_later_wave_sends_that_wave_back() -> None:
    bench = wave_bench(6)
    names = bench.install_wave(errors_per_sample=30)
    bench.soak()

    assert bench.phase() is Phase.ROLLING_BACK
    assert set(bench.rollout.having(Progress.RETURNING)) == set(names)
    assert bench.member(CANARY).progress is Progress.COMMITTED
    order = bench.facts("rollback_ordered")[0]
    assert (order["scope"], order["trigger"], order["by"]) == ("wave", "wave_gate", "orchestrator")
    assert order["evidence"][0]["verdict"] == "fail"


def test_a_gate_judges_every_wave_so_far_and_not_only_the_newest() -> None:
    bench = wave_bench(6)
    bench.install_wave()
    bench.devices[CANARY].is_healthy = False
    bench.soak()

    assert bench.facts("gate_judged")[-1]["verdict"] == "fail"
    assert CANARY in bench.rollout.reason


# Triggers


def make_trigger(condition: str, action: str, **changes: object) -> dict[str, Any]:
    scope = {"rollback_device": "single_device", "rollback_wave": "current_wave"}.get(action, "all_deployed")
    return {"name": "spike", "condition": condition, "action": action, "scope": scope, "window": "2m", **changes}


def spiking(action: str, *, count: int = 6, threshold: float = 5) -> Bench:
    """Return a wave that errs far beyond the baseline, with a trigger on it."""
    gates = {"wave_gate": {"checks": CHECKS[1:]}}
    waves = [{**ONE_WAVE[0], "failure_threshold_percent": threshold}]
    trigger = make_trigger("error_rate > baseline + 10%", action)
    bench = wave_bench(count, waves=waves, triggers=[trigger], gates=gates)
    bench.install_wave(errors_per_sample=50)
    bench.advance(90)
    return bench


def test_a_trigger_of_the_fleet_brings_everybody_back() -> None:
    bench = spiking("rollback_all")

    assert bench.phase() is Phase.ROLLING_BACK
    assert set(bench.rollout.having(Progress.RETURNING)) == set(bench.fleet)
    assert bench.facts("rollback_ordered")[0]["scope"] == "fleet"


def test_a_trigger_of_the_wave_brings_the_wave_back() -> None:
    bench = spiking("rollback_wave")

    assert set(bench.rollout.having(Progress.RETURNING)) == set(bench.wave(1))
    assert bench.member(CANARY).progress is Progress.COMMITTED


@pytest.mark.parametrize(("scope", "phase"), [("current_wave", Phase.SOAKING), ("all_deployed", Phase.ROLLING_BACK)])
def test_a_trigger_judges_the_devices_of_its_scope(scope: str, phase: Phase) -> None:
    trigger = make_trigger("error_rate > baseline + 10%", "rollback_all", scope=scope)
    bench = wave_bench(6, triggers=[trigger], gates={"wave_gate": {"checks": CHECKS[1:]}})
    bench.install_wave()
    bench.devices[CANARY].errors_per_sample = 90

    bench.advance(90)

    assert bench.phase() is phase


def test_a_trigger_that_asks_for_a_person_halts_and_brings_nobody_back() -> None:
    bench = spiking("halt_and_assess")

    assert bench.phase() is Phase.HALTED
    assert bench.rollout.having(Progress.RETURNING) == []
    bench.advance(300)
    assert bench.kinds().count("rollout_halted") == 1


def test_a_trigger_of_a_device_sends_it_back_alone_and_the_rollout_goes_on() -> None:
    bench = wave_bench(40, waves=[{**ONE_WAVE[0], "failure_threshold_percent": 10}])
    loops, *others = bench.wave(1)
    bench.install(loops, crashes_per_sample=2)
    bench.install(*others)
    bench.advance(90)

    member = bench.member(loops)
    assert (member.progress, member.failed) == (Progress.RETURNING, True)
    assert bench.state.devices[loops].quarantine == "crash_loop"
    assert bench.phase() is Phase.SOAKING
    assert progress_of(bench, others) == {Progress.COMMITTED}
    bench.go_back(loops)
    assert bench.member(loops).progress is Progress.RETURNED
    bench.soak()
    assert bench.phase() is Phase.COMPLETED


def test_what_the_samples_of_a_device_decide_alone_does_not_wait_for_the_next_tick() -> None:
    bench = wave_bench(40, waves=[{**ONE_WAVE[0], "failure_threshold_percent": 10}])
    loops, *others = bench.wave(1)
    bench.install(loops, *others)
    bench.devices[loops].crashes_per_sample = 2
    ordered = []
    for name in (loops, others[0], loops, loops):
        bench.now += 1
        bench.say(Kind.HEALTH, bench.devices[name].sample(), device=name)
        ordered += [each.topic for each in bench.take(bench.engine.react(bench.now)) if "/desired" in each.topic]

    assert ordered == [TREE.build(Kind.DESIRED, device=loops)]
    assert bench.facts("rollback_ordered")[-1]["trigger"] == "crash_loop"
    assert bench.phase() is Phase.DEPLOYING or bench.phase() is Phase.SOAKING


def test_an_alarm_decides_nothing_before_the_orchestrator_has_settled() -> None:
    bench = wave_bench(40)
    loops = bench.wave(1)[0]
    bench.install(*bench.wave(1))
    bench.devices[loops].crashes_per_sample = 9
    bench.take(bench.engine.reconnected(bench.now))
    bench.say(Kind.HEALTH, bench.devices[loops].sample(), device=loops)

    assert bench.take(bench.engine.react(bench.now)) == []
    bench.advance(30)
    assert bench.member(loops).progress is Progress.RETURNING, "but it is not forgotten"


def test_devices_sent_back_alone_count_against_the_wave() -> None:
    bench = wave_bench(40, waves=[{**ONE_WAVE[0], "failure_threshold_percent": 5}])
    names = bench.wave(1)
    bench.install(*names[:3], crashes_per_sample=2)
    bench.install(*names[3:])

    bench.advance(90)

    assert bench.phase() is Phase.ROLLING_BACK
    assert "(rolled back)" in bench.rollout.reason


def test_a_trigger_on_failed_devices_counts_the_wave() -> None:
    waves = [{**ONE_WAVE[0], "failure_threshold_percent": 50}]
    bench = wave_bench(12, waves=waves, triggers=[make_trigger("failed devices > 20% of wave", "rollback_wave")])
    names = bench.wave(1)
    bench.install(*names[:5])
    bench.fail(*names[5:7])
    bench.tick()
    assert bench.phase() is Phase.DEPLOYING  # 2 of 10

    bench.fail(names[7])
    bench.tick()

    assert bench.phase() is Phase.ROLLING_BACK
    assert bench.facts("rollback_ordered")[0]["trigger"] == "spike"


def test_a_halted_rollout_is_watched_on() -> None:
    gates = {"wave_gate": {"checks": CHECKS[1:]}}
    waves = [{**ONE_WAVE[0], "auto_rollback": False}]
    trigger = make_trigger("error_rate > baseline + 10%", "rollback_all")
    bench = wave_bench(6, waves=waves, triggers=[trigger], gates=gates)
    first, second, *_ = bench.wave(1)
    bench.install(first)
    bench.fail(second)
    bench.tick()
    assert bench.phase() is Phase.HALTED

    bench.devices[first].errors_per_sample = bench.devices[CANARY].errors_per_sample = 60
    bench.advance(120)

    assert bench.phase() is Phase.ROLLING_BACK


# Pauses


def test_a_paused_rollout_does_not_go_on_by_itself() -> None:
    bench = Bench()
    bench.start()
    bench.install_wave()
    bench.command("pause", rollout="r-001")

    bench.advance(3600)
    assert (bench.phase(), bench.rollout.wave) == (Phase.SOAKING, 0)
    bench.command("resume", rollout="r-001")
    bench.tick()

    assert bench.rollout.wave == 1


def test_a_paused_rollout_lets_nobody_be_overdue_who_was_not_granted() -> None:
    bench = Bench()
    bench.start()
    bench.command("pause", rollout="r-001")

    bench.advance(3600)

    assert not bench.member(CANARY).failed


def prove(bench: Bench, *names: str, **health: object) -> None:
    """Have devices run the new version well and wait for the wave's gate."""
    for name in names:
        assert bench.ask(name).decision == "go"
        bench.run(name, "2.0.0", **health)
        bench.report(name, "trial")
        assert bench.ask(name, "commit").reason == "gate_pending"
    bench.tick()


def test_devices_that_wait_for_the_gate_are_judged_by_it_and_commit_when_it_has_passed() -> None:
    bench = Bench(policy=make_policy(commit_on="gate"))
    bench.start()
    prove(bench, CANARY)

    assert (bench.phase(), bench.member(CANARY).progress) == (Phase.SOAKING, Progress.PROVEN)
    assert bench.ask(CANARY, "commit").reason == "gate_pending"
    assert len(bench.facts("device_proven")) == 1
    bench.advance(1500)
    assert bench.rollout.wave == 1, "it was not overdue while it waited"
    assert bench.ask(CANARY, "commit").decision == "go"
    bench.report(CANARY)
    assert bench.member(CANARY).progress is Progress.COMMITTED


def test_devices_that_wait_for_the_gate_go_back_when_it_fails() -> None:
    bench = Bench(policy=make_policy(commit_on="gate"))
    bench.start()
    prove(bench, CANARY, errors_per_sample=30)

    bench.advance(300)

    assert bench.phase() is Phase.ROLLING_BACK
    assert bench.member(CANARY).progress is Progress.RETURNING
    bench.go_back(CANARY)
    bench.advance(60)
    assert bench.phase() is Phase.ROLLED_BACK


def test_time_without_a_connection_is_no_soak() -> None:
    bench = Bench()
    bench.start()
    bench.install_wave()
    bench.advance(100)

    bench.now += 10_000
    bench.take(bench.engine.reconnected(bench.now))

    assert soaked_seconds(bench.rollout, bench.now) == 100
    assert bench.phase() is Phase.SOAKING


def test_a_check_in_a_dry_run_is_in_the_verdict_and_stops_nothing() -> None:
    gates = {"wave_gate": {"checks": [*CHECKS[1:], {**CHECKS[0], "dry_run": True}]}}
    bench = wave_bench(6, gates=gates, triggers=[])
    bench.install_wave(errors_per_sample=50)
    bench.soak()

    assert bench.phase() is Phase.COMPLETED
    judged = bench.facts("gate_judged")[-1]
    assert judged["verdict"] == "pass"
    assert [(each["check"], each["verdict"]) for each in judged["checks"] if "dry_run" in each] == [
        ("error_rate", "fail")
    ]

"""Staged rollouts: everybody fetches and installs ahead, and nothing is let go before somebody activates it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.core.events import event_from_json
from orchestrator.core.members import Progress
from orchestrator.core.replaying import Recorded, replay
from orchestrator.core.rollout import Phase
from orchestrator.core.snapshot import freeze, thaw
from schemas.errors import PolicyError
from schemas.messages import Fetched, Reported
from schemas.policy_text import parse_policy
from schemas.times import format_timestamp
from schemas.topics import Kind
from tests.core.core_bench import START, TREE, Bench, document, durable, fold, make_fleet, make_policy

HOUR = 3600.0


def staged_bench(count: int = 12, *, distribution: Mapping[str, object] | None = None, **policy: Any) -> Bench:  # noqa: ANN401 - any part of a policy
    """Return a rollout that is staged; everybody is ordered as far as the policy lets them be, and nobody is ready."""
    block = {"activate": "manual"} if distribution is None else dict(distribution)
    bench = Bench(make_fleet(count), make_policy(distribution=block, **policy))
    bench.start()
    return bench


def get_ready(bench: Bench, *names: str) -> None:
    """Have devices fetch and install what they were ordered, and say so."""
    for name in names or tuple(bench.fleet):
        bench.report(name, "ready")


def activate(bench: Bench) -> None:
    assert bench.command("activate", rollout="r-001").status == "ok"
    bench.tick()


def status(bench: Bench) -> dict[str, Any]:
    return document(bench.retained()[TREE.build(Kind.STATUS, rollout="r-001")])


def waits_for(bench: Bench, name: str) -> tuple[str, str | None]:
    answer = bench.ask(name)
    return answer.decision, answer.reason


def replays(bench: Bench) -> list[str]:
    again = replay(Recorded(each.seq, each.at, event_from_json(each.body)) for each in bench.entries())
    return [each.message for each in again.mismatches]


# While it is staged


def test_a_staged_rollout_orders_all_waves_and_lets_nobody_go() -> None:
    bench = staged_bench()
    get_ready(bench)

    assert bench.phase() is Phase.STAGING
    assert set(bench.rollout.having(Progress.ORDERED)) == set(bench.fleet)
    assert all(order["ahead"] for order in bench.facts("devices_ordered"))
    assert {waits_for(bench, name) for name in bench.fleet} == {("wait", "not_activated")}
    assert bench.facts("grant_issued") == bench.facts("wave_started") == []


def test_staged_devices_ask_seldom_because_a_newer_order_wakes_them() -> None:
    bench = staged_bench()

    assert bench.ask("d-0001").retry_after_seconds == HOUR


def test_the_status_counts_who_has_it_ready_and_what_they_fetched() -> None:
    bench = staged_bench()
    fetched = Fetched(slots=7_000_000, peers=500_000, sources=(1_500_000,))
    for name in bench.wave(0):
        report = Reported(
            observed_generation=bench.state.devices[name].generation, seq=1, state="ready", boot_id="b", fetched=fetched
        )
        bench.say(Kind.REPORTED, report, device=name)
    get_ready(bench, *bench.wave(0))  # once more, which is no news
    bench.advance(30)

    assert len(bench.facts("device_staged")) == len(bench.wave(0)) == 2
    assert status(bench)["staged"] == {"devices": 2, "of": 12, "fetched_bytes": 4_000_000, "activates_at": None}
    assert status(bench)["reasons"][0] == "staged on 2 of 12, 4.0 MB fetched for it"
    assert "activate" in status(bench)["allowed"]
    summary = bench.command("get", rollout="r-001").data
    assert summary is not None
    assert summary["summary"] == "it is fetched and installed ahead: 2 of 12 devices have it ready"


def test_a_device_that_waits_for_something_else_is_not_counted_as_ready() -> None:
    bench = staged_bench()
    for name, state in (("d-0001", "waiting"), ("d-0002", "downloading")):
        error = {"code": "outside_window", "step": "fetch", "message": "", "retryable": True}
        report = {"observed_generation": bench.state.devices[name].generation, "state": state, "error": error}
        bench.say(Kind.REPORTED, Reported.model_validate({**report, "seq": 1, "boot_id": "b"}), device=name)

    assert bench.facts("device_staged") == []
    bench.report("d-0001", "waiting")
    assert [fact["device"] for fact in bench.facts("device_staged")] == ["d-0001"]


def test_nobody_is_late_while_nobody_activates() -> None:
    bench = staged_bench()
    get_ready(bench, "d-0001")

    bench.advance(HOUR)  # six times the deploy timeout

    assert bench.facts("device_failed") == bench.facts("device_retried") == []
    assert bench.phase() is Phase.STAGING


def test_so_many_fetch_at_once_as_the_policy_says() -> None:
    bench = staged_bench(distribution={"activate": "manual", "max_parallel_downloads": 3})
    first = bench.rollout.having(Progress.ORDERED)
    assert first == [*bench.wave(0), bench.wave(1)[0]]

    get_ready(bench, first[0])
    bench.set_online(first[1], is_online=False)
    bench.tick()

    assert bench.rollout.having(Progress.ORDERED) == [*bench.wave(0), *bench.wave(1)[:3]]


def test_with_a_limit_only_who_is_connected_is_ordered_ahead() -> None:
    bench = Bench(make_fleet(6), make_policy(distribution={"activate": "manual", "max_parallel_downloads": 6}))
    bench.set_online("d-0004", is_online=False)
    bench.start()
    assert bench.member("d-0004").progress is Progress.PENDING

    bench.set_online("d-0004")
    bench.tick()
    assert bench.member("d-0004").progress is Progress.ORDERED


def test_who_appears_while_it_is_staged_is_staged_at_the_end_of_the_last_wave() -> None:
    bench = staged_bench()
    bench.devices["d-0099"] = bench.devices["d-0001"]
    bench.say(Kind.INFO, bench.fleet["d-0001"], device="d-0099")
    bench.set_online("d-0099")
    bench.tick()

    assert bench.member("d-0099").wave == len(bench.rollout.plan.waves) - 1
    assert bench.member("d-0099").is_ahead
    assert waits_for(bench, "d-0099") == ("wait", "not_activated")


# Failures before anything was let go


def test_a_canary_that_cannot_install_halts_the_staging_and_nothing_is_brought_back() -> None:
    bench = staged_bench()
    bench.report(bench.wave(0)[0], "failed", code="signature_invalid")
    bench.tick()

    assert bench.phase() is Phase.HALTED
    assert bench.rollout.reason.startswith("1 of 1 finished in canary failed")
    assert bench.facts("rollback_ordered") == []
    assert bench.rollout.counts(Progress.HELD) == 11
    assert replays(bench) == []


def test_a_later_wave_halts_the_staging_by_its_own_threshold() -> None:
    bench = staged_bench(60)
    get_ready(bench, *(name for name in bench.fleet if name not in bench.wave(1)))
    get_ready(bench, *bench.wave(1)[2:])
    bench.report(bench.wave(1)[0], "failed", code="disk_full")
    bench.tick()
    assert bench.phase() is Phase.STAGING  # one of some thirty

    bench.report(bench.wave(1)[1], "failed", code="disk_full")
    bench.tick()

    assert bench.phase() is Phase.HALTED
    assert "in wave-1 failed (disk_full), limit 5%" in bench.rollout.reason


def test_staging_goes_on_after_a_person_has_looked() -> None:
    bench = staged_bench()
    failed = bench.wave(0)[0]
    bench.report(failed, "failed", code="disk_full")
    bench.tick()
    assert "activate" not in status(bench)["allowed"]
    assert bench.command("activate", rollout="r-001").status == "error"

    assert bench.command("retry", rollout="r-001", devices=[failed]).status == "ok"
    assert bench.command("resume", rollout="r-001").status == "ok"
    bench.tick()

    assert bench.phase() is Phase.STAGING
    assert set(bench.rollout.having(Progress.ORDERED)) == set(bench.fleet)


def test_what_may_pass_is_tried_again_while_it_is_staged() -> None:
    bench = staged_bench(limits={"max_retries": 2, "retry_after_seconds": 60})
    name = bench.wave(2)[0]
    report = Reported.model_validate(
        {
            "observed_generation": bench.state.devices[name].generation,
            "seq": 1,
            "state": "failed",
            "boot_id": "b",
            "error": {"code": "download_failed", "step": "downloading", "message": "", "retryable": True},
        }
    )
    bench.say(Kind.REPORTED, report, device=name)
    bench.advance(120)

    assert bench.member(name).progress is Progress.ORDERED
    assert bench.member(name).is_ahead
    assert bench.member(name).attempts == 1


# Ends without activation


def test_an_abort_withdraws_every_order() -> None:
    bench = staged_bench()
    get_ready(bench)
    assert bench.command("abort", rollout="r-001").status == "ok"

    assert bench.phase() is Phase.ABORTED
    assert {bench.state.devices[name].action for name in bench.fleet} == {"hold"}
    assert bench.command("activate", rollout="r-001").status == "error"
    assert "staged" not in status(bench)


def test_a_newer_rollout_takes_staged_devices_over() -> None:
    bench = staged_bench()
    get_ready(bench)
    reply = bench.command("start", release="app-3.0.0", policy="careful", supersede=True, activate="at_once")
    assert reply.status == "ok"
    bench.tick()

    assert bench.state.rollouts["r-001"].phase is Phase.SUPERSEDED
    assert tuple(bench.rollout.having(Progress.ORDERED)) == bench.wave(0)


def test_a_pause_keeps_it_from_being_activated() -> None:
    bench = staged_bench()
    bench.command("pause", rollout="r-001")
    refused = bench.command("activate", rollout="r-001")

    assert refused.error is not None
    assert (refused.error.code, refused.error.message) == ("wrong_phase", "r-001 is paused; resume it first")
    bench.command("resume", rollout="r-001")
    activate(bench)
    assert bench.phase() is Phase.DEPLOYING


# From activation on


def test_activation_opens_the_canary_alone_and_wakes_it_with_a_newer_order() -> None:
    bench = staged_bench()
    get_ready(bench)
    before = {name: bench.state.devices[name].generation for name in bench.fleet}
    activate(bench)

    newer = [name for name in bench.fleet if bench.state.devices[name].generation > before[name]]
    assert sorted(newer) == sorted(bench.wave(0))
    assert {waits_for(bench, name) for name in bench.wave(1) + bench.wave(2)} == {("wait", "wave_not_open")}
    assert bench.facts("rollout_activated") == [
        {"kind": "rollout_activated", "rollout": "r-001", "by": "alice", "reason": ""}
    ]
    again = bench.command("activate", rollout="r-001").data
    assert again is not None
    assert again["already_applied"] is True


def test_after_activation_waves_and_gates_are_as_ever() -> None:
    bench = staged_bench()
    get_ready(bench)
    activate(bench)
    for number, wave in enumerate(bench.rollout.plan.waves):
        assert bench.rollout.wave == number
        bench.install(*wave.members)
        bench.tick()
        bench.soak()

    assert bench.phase() is Phase.COMPLETED
    decisions = [gate["decision"] for gate in bench.facts("gate_judged") if gate["decision"] != "watch"]
    assert decisions == ["proceed", "proceed", "complete"]
    assert replays(bench) == []


def test_a_deadline_begins_when_the_wave_does() -> None:
    bench = staged_bench(limits={"max_retries": 0})
    bench.advance(HOUR)
    activate(bench)
    bench.advance(9 * 60)
    assert bench.facts("device_failed") == []

    bench.advance(2 * 60)

    late = {fact["device"] for fact in bench.facts("device_failed")}
    assert late == set(bench.wave(0))
    assert {fact["code"] for fact in bench.facts("device_failed")} == {"deploy_timeout"}


def test_a_failing_canary_holds_the_staged_rest() -> None:
    bench = staged_bench()
    get_ready(bench)
    activate(bench)
    bench.fail(bench.wave(0)[0])
    bench.tick()

    assert bench.phase() in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}
    assert {bench.state.devices[name].action for name in bench.wave(1) + bench.wave(2)} == {"hold"}
    assert replays(bench) == []


def test_who_was_not_ready_in_time_goes_on_with_its_wave() -> None:
    bench = staged_bench()
    activate(bench)

    assert bench.rollout.counts(Progress.ORDERED) == 12
    assert status(bench)["staged"]["devices"] == 0
    bench.install(*bench.wave(0))
    assert bench.member(bench.wave(0)[0]).progress is Progress.COMMITTED


# At a moment


def test_a_moment_activates_it_by_itself() -> None:
    begins = format_timestamp(START + HOUR)
    bench = staged_bench(distribution={"activate": begins})
    assert status(bench)["next_decision_at"] == begins
    bench.advance(START + HOUR - bench.now - 1)
    assert bench.phase() is Phase.STAGING

    bench.advance(2)

    assert bench.phase() is Phase.DEPLOYING
    assert [fact["by"] for fact in bench.facts("rollout_activated")] == ["orchestrator"]
    assert replays(bench) == []


def test_a_moment_that_has_passed_is_refused() -> None:
    bench = Bench(policy=make_policy(distribution={"activate": format_timestamp(START - 1)}))
    reply = bench.command("start", release="app-2.0.0", policy="careful")

    assert reply.error is not None
    assert reply.error.field == "policy.distribution.activate"
    assert "has passed; write a later one, or at_once" in reply.error.message


def test_a_start_may_stage_what_the_policy_does_not() -> None:
    bench = Bench()
    bench.start(activate="manual")

    assert bench.phase() is Phase.STAGING
    assert bench.rollout.policy.distribution.activate == "manual"


# Restarts


def test_a_restart_in_the_middle_changes_nothing() -> None:
    bench = staged_bench()
    get_ready(bench, *bench.wave(0))
    before = durable(bench.state)

    assert durable(fold(bench.entries())).rollouts == before.rollouts
    assert thaw(freeze(bench.state)).rollouts == before.rollouts
    bench.boot()
    bench.speak()
    bench.advance(30)
    assert bench.rollout.members.staged.sum() == 2
    activate(bench)
    assert bench.ask(bench.wave(0)[0]).decision == "go"


def test_a_journal_that_was_put_back_orders_the_staged_ahead_again() -> None:
    bench = staged_bench()
    get_ready(bench)
    bench.boot(restored="put back from a backup")
    bench.speak()
    bench.advance(30)

    assert all(bench.member(name).is_ahead for name in bench.fleet)
    assert {waits_for(bench, name)[1] for name in bench.fleet} == {"not_activated"}


# What may be written


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("activate: tomorrow", "'tomorrow' says no time; write at_once, manual, or a moment such as"),
        ("activate: 2026-12-01T06:00:00", "says no time"),
        ("activate: 2026-12-01", "says no time"),
        ("max_parallel_downloads: 5", "write activate: manual, or a moment"),
        ("activate: manual\n  max_parallel_downloads: 0", "max_parallel_downloads"),
    ],
)
def test_what_is_no_activation_is_refused_with_the_remedy(text: str, told: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(f"distribution:\n  {text}\n")

    assert told in str(caught.value)


def test_a_moment_is_read_from_yaml_as_it_is_written() -> None:
    written = parse_policy("distribution:\n  activate: 2026-12-01T06:00:00+02:00\n  max_parallel_downloads: 20\n")

    assert written.distribution.activates_at == 1_796_097_600.0
    assert json.loads(written.model_dump_json())["distribution"]["activate"] == "2026-12-01T06:00:00+02:00"

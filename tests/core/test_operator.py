from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from orchestrator.core.asking import LISTED_MAX
from orchestrator.core.members import Progress
from orchestrator.core.rollout import Phase
from schemas.codec import MESSAGE, encode
from schemas.documents import Reply, ReplyError
from schemas.errors import PolicyError
from schemas.policy import Policy
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, document, make_fleet, make_policy

CANARY = "d-0001"
APPROVAL = make_policy(canary={"require_human_approval_after": True})


def started() -> Bench:
    bench = Bench()
    bench.start()
    return bench


def awaiting(policy: Policy = APPROVAL) -> Bench:
    bench = Bench(policy=policy)
    bench.start()
    bench.install_wave()
    bench.soak()
    assert bench.phase() is Phase.AWAITING_APPROVAL
    return bench


def halted() -> Bench:
    waves = [{"name": "wave-1", "percentage": 100, "auto_rollback": False}]
    bench = Bench(policy=make_policy(waves=waves))
    bench.reach_wave(1)
    bench.fail(bench.wave(1)[0])
    bench.tick()
    assert bench.phase() is Phase.HALTED
    return bench


def halted_before_anybody_ran_it() -> Bench:
    bench = started()
    bench.command("skip", rollout="r-001", devices=[CANARY])
    bench.advance(600)
    assert bench.phase() is Phase.HALTED
    return bench


def rolling_back() -> Bench:
    bench = awaiting()
    bench.command("reject", rollout="r-001")
    return bench


def rolled_back() -> Bench:
    bench = rolling_back()
    bench.go_back(CANARY)
    bench.advance(60)
    assert bench.phase() is Phase.ROLLED_BACK
    return bench


def completed() -> Bench:
    bench = Bench(make_fleet(1))
    bench.start()
    bench.install_wave()
    bench.soak()
    assert bench.phase() is Phase.COMPLETED
    return bench


def aborted() -> Bench:
    bench = started()
    bench.command("abort", rollout="r-001")
    return bench


def offered(bench: Bench, rollout: str = "r-001") -> list[str]:
    """Return what the retained status says may be commanded."""
    allowed: list[str] = document(bench.retained()[TREE.build(Kind.STATUS, rollout=rollout)])["allowed"]
    return allowed


def error_of(reply: Reply) -> ReplyError:
    assert reply.status == "error"
    assert reply.data is None
    assert reply.error is not None
    return reply.error


def refused(bench: Bench, verb: str, **body: Any) -> ReplyError:  # noqa: ANN401 - any field of the command
    """Send a command that must change nothing but be audited, and return its error."""
    before, facts = deepcopy(bench.state), len(bench.entries())
    error = error_of(bench.command(verb, **body))
    assert bench.state == before
    assert bench.kinds(facts) == ["command_answered"]
    answered = bench.facts("command_answered")[-1]
    assert (answered["verb"], answered["status"], answered["code"]) == (verb, "error", error.code)
    return error


# Each verb, said once and twice


@pytest.mark.parametrize(
    ("scene", "verb", "facts", "phase"),
    [
        (awaiting, "approve", ["rollout_approved", "wave_started"], "deploying"),
        (awaiting, "reject", ["rollback_ordered", "devices_ordered"], "rolling_back"),
        (started, "pause", ["rollout_paused"], "deploying"),
        (halted, "resume", ["rollout_resumed"], "deploying"),
        (started, "abort", ["rollout_ended", "devices_ordered"], "aborted"),
        (completed, "rollback", ["rollback_ordered", "devices_ordered"], "rolling_back"),
        (awaiting, "rollback", ["rollback_ordered", "devices_ordered"], "rolling_back"),
        (halted, "rollback", ["rollback_ordered", "devices_ordered"], "rolling_back"),
        (halted, "abort", ["rollout_ended"], "aborted"),
    ],
)
def test_a_command_is_carried_out_once_and_the_second_time_already_applied(
    scene: Callable[[], Bench], verb: str, facts: list[str], phase: str
) -> None:
    bench = scene()
    count = len(bench.entries())

    first = bench.command(verb, rollout="r-001", reason="because", transaction="t1")
    assert bench.kinds(count) == [*facts, "command_answered"]
    count = len(bench.entries())
    second = bench.command(verb, rollout="r-001", reason="because", transaction="t2")

    assert (first.status, first.transaction, second.status, second.transaction) == ("ok", "t1", "ok", "t2")
    assert first.data is not None
    assert second.data is not None
    assert (first.data["phase"], first.data["by"], first.data["reason"]) == (phase, "alice", "because")
    assert ("already_applied" in first.data, second.data["already_applied"]) == (False, True)
    assert bench.kinds(count) == ["command_answered"]


@pytest.mark.parametrize(
    ("scene", "verb", "phase", "allowed"),
    [
        (started, "approve", "deploying", ("pause", "skip", "abort", "rollback")),
        (started, "reject", "deploying", ("pause", "skip", "abort", "rollback")),
        (halted, "approve", "halted", ("resume", "retry", "skip", "rollback", "abort")),
        (halted_before_anybody_ran_it, "resume", "halted", ("retry", "skip", "rollback", "abort")),
        (rolling_back, "pause", "rolling_back", ()),
        (rolling_back, "resume", "rolling_back", ()),
        (rolling_back, "abort", "rolling_back", ()),
        (rolling_back, "approve", "rolling_back", ()),
        (rolled_back, "pause", "rolled_back", ()),
        (rolled_back, "resume", "rolled_back", ()),
        (rolled_back, "abort", "rolled_back", ()),
        (completed, "pause", "completed", ("rollback",)),
        (completed, "resume", "completed", ("rollback",)),
        (completed, "abort", "completed", ("rollback",)),
        (completed, "reject", "completed", ("rollback",)),
        (completed, "approve", "completed", ("rollback",)),
        (aborted, "resume", "aborted", ()),
        (aborted, "pause", "aborted", ()),
    ],
)
def test_a_command_in_the_wrong_phase_says_the_phase_and_what_is_allowed(
    scene: Callable[[], Bench], verb: str, phase: str, allowed: tuple[str, ...]
) -> None:
    error = refused(scene(), verb, rollout="r-001")

    assert (error.code, error.phase, error.allowed) == ("wrong_phase", phase, allowed)


@pytest.mark.parametrize(
    "scene",
    [started, awaiting, halted, halted_before_anybody_ran_it, rolling_back, rolled_back, completed, aborted],
)
def test_what_is_said_to_be_allowed_is_carried_out(scene: Callable[[], Bench]) -> None:
    for verb in ("approve", "reject", "pause", "resume", "abort", "rollback"):
        bench = scene()
        listed = verb in allowed_in(bench)

        reply = bench.command(verb, rollout="r-001")

        is_done = reply.status == "ok" and "already_applied" not in (reply.data or {})
        # A rollback of nothing is carried out as well: it ends what has not begun.
        assert is_done is listed or (verb == "rollback" and scene is aborted), verb


def allowed_in(bench: Bench) -> list[str]:
    """Return what the status document says may be commanded."""
    return list(document(bench.retained()["fleet/v1/rollout/r-001/status"])["allowed"])


@pytest.mark.parametrize("verb", ["approve", "reject", "pause", "resume", "abort", "rollback"])
def test_a_rollout_that_is_not_there_is_not_found_and_the_nearest_is_named(verb: str) -> None:
    error = refused(started(), verb, rollout="r-01")

    assert (error.code, error.did_you_mean) == ("not_found", ("r-001",))
    assert error.message == "no rollout 'r-01'"


@pytest.mark.parametrize("verb", ["approve", "reject", "pause", "resume", "abort", "rollback"])
def test_a_command_for_another_plan_is_refused(verb: str) -> None:
    bench = awaiting()

    assert refused(bench, verb, rollout="r-001", plan="ab" * 32).code == "conflict"
    if verb != "resume":
        assert bench.command(verb, rollout="r-001", plan=bench.rollout.plan.digest).status == "ok"


@pytest.mark.parametrize("verb", ["approve", "reject", "pause", "resume", "abort", "rollback"])
def test_a_command_for_another_wave_is_refused(verb: str) -> None:
    bench = awaiting()

    assert refused(bench, verb, rollout="r-001", wave="wave-1").code == "conflict"
    unknown = refused(bench, verb, rollout="r-001", wave="cannary")
    assert (unknown.code, unknown.did_you_mean) == ("not_found", ("canary",))
    if verb != "resume":
        assert bench.command(verb, rollout="r-001", wave="canary").status == "ok"


# Approval


def test_an_approval_is_bound_to_the_plan_and_used_once() -> None:
    bench = awaiting()
    digest = bench.rollout.plan.digest

    bench.command("approve", "bob", rollout="r-001", reason="looks good")

    (approval,) = bench.facts("rollout_approved")
    evidence = approval.pop("checks")
    assert approval == {
        "kind": "rollout_approved", "rollout": "r-001", "wave": 0, "by": "bob", "reason": "looks good",
        "plan_digest": digest,
    }  # fmt: skip
    assert {check["verdict"] for check in evidence} == {"pass"}
    for body in ({}, {"wave": "canary"}):
        reply = bench.command("approve", "carol", rollout="r-001", **body)
        assert (reply.data or {})["already_applied"] is True
    assert bench.kinds().count("wave_started") == 2


def test_an_approval_judges_again_on_fresh_evidence() -> None:
    bench = awaiting()
    bench.devices[CANARY].is_silent = True
    bench.advance(120)
    assert bench.phase() is Phase.AWAITING_APPROVAL

    error = refused(bench, "approve", rollout="r-001")

    assert error.code == "conflict"
    assert error.message.startswith("canary_gate is inconclusive on fresh data: ")
    bench.devices[CANARY].is_silent = False
    bench.advance(120)
    assert bench.command("approve", rollout="r-001").status == "ok"


def test_an_approval_is_refused_when_a_device_failed_after_the_gate_was_judged() -> None:
    """Found by seed 1146 with 6 devices: the next wave was opened just before the tick that rolled the canary back."""
    bench = awaiting()
    bench.report(CANARY, "failed", code="crash_loop")

    error = refused(bench, "approve", rollout="r-001")

    assert error.code == "conflict"
    assert error.message.startswith("1 of 1 finished in canary failed")
    bench.tick()
    assert bench.phase() is Phase.ROLLED_BACK
    assert bench.kinds().count("wave_started") == 1


def test_who_started_may_not_approve_when_four_eyes_are_asked_for() -> None:
    bench = awaiting(make_policy(canary={"require_human_approval_after": True}, four_eyes=True))

    error = error_of(bench.command("approve", "alice", rollout="r-001"))
    assert (error.code, bench.phase()) == ("four_eyes", Phase.AWAITING_APPROVAL)

    assert bench.command("approve", "bob", rollout="r-001").status == "ok"


def test_a_paused_rollout_is_not_approved() -> None:
    bench = awaiting()
    bench.command("pause", rollout="r-001")

    error = refused(bench, "approve", rollout="r-001")

    assert (error.code, error.allowed) == ("wrong_phase", ("resume", "reject", "skip", "abort", "rollback"))


def test_an_approval_after_a_restart_waits_for_evidence() -> None:
    bench = awaiting()
    bench.boot()
    bench.speak()

    assert refused(bench, "approve", rollout="r-001").code == "conflict"
    bench.advance(120)
    assert bench.command("approve", rollout="r-001").status == "ok"


# Start and plan


def test_a_start_freezes_plan_policy_and_baseline() -> None:
    bench = Bench()

    reply = bench.command("start", "bob", release="app-2.0.0", policy="careful", reason="new year")

    rollout = bench.rollout
    assert (rollout.id, rollout.by, rollout.phase, rollout.wave) == ("r-001", "bob", Phase.DEPLOYING, 0)
    assert rollout.policy == bench.policy
    assert rollout.baselines["vision"].error_rate == 0.0
    assert reply.data is not None
    assert reply.data["plan_digest"] == rollout.plan.digest
    sizes = [(each["wave"], each["devices"], each["soak_seconds"]) for each in reply.data["waves"]]
    assert sizes == [("canary", 1, 300.0), ("wave-1", 3, 120.0), ("wave-2", 2, 120.0)]


def test_a_plan_shows_what_a_start_would_do_and_changes_nothing() -> None:
    bench = Bench()
    before = deepcopy(bench.state)

    planned = bench.command("plan", release="app-2.0.0", policy="careful")

    assert bench.state == before
    assert planned.data == bench.command("start", release="app-2.0.0", policy="careful").data


def test_a_start_takes_the_policy_itself_and_a_time_scale() -> None:
    bench = Bench()
    policy = bench.policy.model_dump(mode="json", by_alias=True)

    assert bench.command("start", release="app-2.0.0", policy=policy, time_scale=60).status == "ok"

    assert bench.rollout.policy == bench.policy.scaled(60)


def test_a_named_start_said_twice_starts_once() -> None:
    bench = Bench()
    bench.start(rollout="spring")

    again = bench.command("start", release="app-2.0.0", policy="careful", rollout="spring")

    assert (again.data or {})["already_applied"] is True
    assert bench.kinds().count("rollout_started") == 1
    other = refused(bench, "start", release="app-3.0.0", policy="careful", rollout="spring")
    assert (other.code, other.message) == ("conflict", "rollout 'spring' exists with another release or policy")


def test_two_rollouts_do_not_share_a_device() -> None:
    bench = started()

    error = refused(bench, "start", release="app-3.0.0", policy="careful")

    assert (error.code, error.message) == (
        "conflict",
        "no device to update: in rollout r-001 (6); start with --supersede to end r-001",
    )


def test_the_next_number_is_one_that_is_free() -> None:
    bench = Bench()
    bench.start(rollout="r-002")
    bench.command("abort", rollout="r-002")

    assert (bench.start().data or {})["rollout"] == "r-003"


@pytest.mark.parametrize(
    ("body", "code", "field", "hint"),
    [
        ({"release": "app-2.0.1", "policy": "careful"}, "not_found", None, ("app-2.0.0", "app-3.0.0")),
        ({"release": "app-2.0.0", "policy": "carefull"}, "not_found", None, ("careful",)),
        ({"release": "app-2.0.0", "policy": {"rolout": {}}}, "invalid_payload", "policy.rolout", None),
        ({"release": "app-2.0.0", "policy": {"rollout": {"waves": [{"name": "a"}]}}}, "invalid_payload",
         "policy.rollout.waves.0.percentage", None),
    ],
)  # fmt: skip
def test_a_start_that_cannot_be_is_refused_and_names_what_is_wrong(
    body: dict[str, Any], code: str, field: str | None, hint: tuple[str, ...] | None
) -> None:
    error = refused(Bench(warm_up_seconds=0), "start", **body)

    assert (error.code, error.field, error.did_you_mean) == (code, field, hint)


def test_a_broken_policy_file_is_shown_as_it_is() -> None:
    class Broken(dict[str, Policy]):
        def get(self, key: str, default: object = None) -> Policy:
            raise PolicyError("careful.yaml:3:1: unknown key 'soak'")

    bench = Bench(warm_up_seconds=0)
    bench.policies = Broken()
    bench.boot()

    error = refused(bench, "start", release="app-2.0.0", policy="careful")

    assert (error.code, error.field) == ("invalid_payload", "policy")
    assert error.message == "careful.yaml:3:1: unknown key 'soak'"


def test_a_start_without_a_baseline_is_refused_and_says_what_to_do() -> None:
    error = refused(Bench(warm_up_seconds=0), "start", release="app-2.0.0", policy="careful")

    assert error.code == "conflict"
    assert error.message.startswith("group 'vision' has no baseline yet")
    assert "declare absolute limits" in error.message


def test_what_the_new_version_does_while_it_is_rolled_out_is_not_normal() -> None:
    bench = Bench()
    bench.start()
    bench.install_wave(errors_per_sample=50)
    bench.advance(120)

    group = bench.fleet[CANARY].group
    normal = bench.monitor.baseline(group, now=bench.now, seconds=86400, excluding_version="3.0.0", min_samples=1)

    assert normal is not None
    assert normal.error_rate == 0


def test_the_version_that_was_rolled_out_becomes_the_baseline_of_the_next() -> None:
    bench = Bench()
    bench.start()
    for _ in bench.rollout.plan.waves:
        bench.install_wave()
        bench.soak()
    assert bench.phase() is Phase.COMPLETED
    bench.now += 25 * 3600  # nothing of the version before is left

    bench.advance(330)

    assert bench.command("start", release="app-3.0.0", policy="careful").status == "ok"


# Rollback


def test_a_rollback_brings_every_device_back_and_holds_the_others() -> None:
    bench = Bench(make_fleet(8))
    bench.reach_wave(1)
    first, second, third = bench.wave(1)[:3]
    bench.install(first)
    bench.ask(second)

    bench.command("rollback", rollout="r-001", reason="wrong release")

    assert set(bench.rollout.having(Progress.RETURNING)) == {CANARY, first, second}
    assert bench.member(third).progress is Progress.HELD
    assert {bench.member(name).progress for name in bench.wave(2)} == {Progress.PENDING}
    order = bench.facts("rollback_ordered")[0]
    assert (order["by"], order["trigger"], order["reason"]) == ("alice", "operator", "wrong release")


def test_a_rollback_of_what_a_newer_rollout_has_touched_is_refused() -> None:
    bench = completed()
    bench.advance(330)
    bench.start("3.0.0")
    bench.install_wave()

    error = refused(bench, "rollback", rollout="r-001")

    assert (error.code, error.message) == ("conflict", "devices of r-001 are in r-002 by now: roll that back")


def test_who_has_come_back_from_a_newer_rollout_is_not_sent_where_its_slots_do_not_lead() -> None:
    bench = completed()
    bench.advance(330)
    bench.start("3.0.0")
    bench.command("abort", rollout="r-002")

    assert refused(bench, "rollback", rollout="r-001").message == (
        "devices of r-001 are in r-002 by now: start a rollout of the version that they shall run"
    )


def test_a_rollout_goes_back_while_devices_that_it_has_yet_to_order_are_in_an_older_one() -> None:
    bench = Bench(make_fleet(8))
    bench.reach_wave(1)
    bench.install_wave()
    bench.start("3.0.0", supersede=True)
    bench.install_wave()
    deployed = bench.rollout.having(Progress.COMMITTED)
    assert {"r-001", "r-002"} < {bench.state.devices[name].rollout for name in bench.rollout.members.names}

    assert bench.command("rollback", rollout="r-002").status == "ok"

    assert bench.rollout.having(Progress.RETURNING) == deployed


def test_a_rollback_is_not_offered_any_more_once_a_newer_rollout_has_taken_the_devices() -> None:
    bench = completed()
    assert offered(bench) == ["rollback"]

    bench.advance(330)
    bench.start("3.0.0")

    assert offered(bench) == []


def test_a_rollback_of_what_nothing_runs_changes_nothing() -> None:
    bench = aborted()

    data = bench.command("rollback", rollout="r-001").data or {}

    assert (data["phase"], data["already_applied"]) == ("aborted", True)


def test_a_paused_rollout_that_waits_for_approval_may_be_rejected() -> None:
    bench = awaiting()
    bench.command("pause", rollout="r-001")

    assert offered(bench)[:2] == ["resume", "reject"]
    assert (bench.command("reject", rollout="r-001").data or {})["phase"] == "rolling_back"


# Devices and queries


def test_a_quarantine_lasts_until_it_is_released() -> None:
    bench = Bench()

    first = bench.command("quarantine", device=CANARY, reason="smoke")
    again = bench.command("quarantine", device=CANARY)
    assert first.data == {"device": CANARY, "quarantined": True}
    assert again.data == {"device": CANARY, "quarantined": True, "already_applied": True}
    assert bench.state.devices[CANARY].quarantine == "smoke"

    assert bench.command("release", device=CANARY).data == {"device": CANARY, "quarantined": False}
    assert (bench.command("release", device=CANARY).data or {})["already_applied"] is True
    assert bench.state.devices[CANARY].quarantine == ""


@pytest.mark.parametrize("verb", ["quarantine", "release"])
def test_a_device_that_is_not_there_is_not_found(verb: str) -> None:
    error = refused(Bench(make_fleet(1)), verb, device="d-001")

    assert (error.code, error.did_you_mean) == ("not_found", ("d-0001",))


def test_looking_changes_nothing_and_is_not_audited() -> None:
    bench = started()
    before, facts = deepcopy(bench.state), bench.kinds()

    listed = bench.command("list")
    got = bench.command("get", rollout="r-001")
    missing = bench.command("get", rollout="r-1")

    (row,) = (listed.data or {})["rollouts"]
    assert (listed.data or {})["devices"] == 6
    assert row.items() <= (got.data or {}).items()
    assert row["phase"] == "deploying"
    assert error_of(missing).did_you_mean == ("r-001",)
    assert (bench.state, bench.kinds()) == (before, facts)


def test_a_list_of_many_rollouts_fits_into_one_message() -> None:
    bench = Bench(policy=make_policy())
    for number in range(LISTED_MAX + 5):
        bench.start(rollout=f"{'r' * 50}-{number}")
        bench.command("abort", rollout=bench.rollout.id, reason="x" * 1000)

    reply = bench.command("list")

    assert len((reply.data or {})["rollouts"]) == LISTED_MAX
    assert len(encode(reply)) < MESSAGE.bytes_max


def test_every_command_is_audited_once_with_who_and_why() -> None:
    bench = Bench()
    bench.command("start", "bob", release="app-2.0.0", policy="careful", reason="new", transaction="t9")

    assert bench.facts("command_answered") == [
        {
            "kind": "command_answered", "actor": "bob", "verb": "start", "subject": "r-001", "status": "ok", "code": "",
            "reason": "new", "transaction": "t9",
        }
    ]  # fmt: skip


# Once for each transaction


def test_a_resume_that_the_broker_delivers_again_does_not_excuse_what_has_failed_since() -> None:
    bench = halted()
    assert bench.command("resume", rollout="r-001", transaction="t1").data is not None
    bench.tick()
    bench.fail(bench.wave(1)[1])
    bench.tick()
    assert bench.phase() is Phase.HALTED

    bench.boot()
    again = bench.command("resume", rollout="r-001", transaction="t1")

    assert again.status == "ok"
    assert again.data is not None
    assert (again.data["already_applied"], again.data["phase"]) == (True, "halted")
    assert bench.command("resume", rollout="r-001", transaction="t2").data is not None
    assert bench.phase() is Phase.DEPLOYING


def test_the_same_transaction_of_somebody_else_or_ten_minutes_later_is_meant_anew() -> None:
    bench = started()
    for actor, seconds in (("alice", 0.0), ("bob", 0.0), ("alice", 601.0)):
        bench.command("pause", rollout="r-001")
        bench.advance(seconds)
        bench.command("resume", actor, rollout="r-001", transaction="t1")
        assert not bench.rollout.paused


def test_a_stop_is_carried_out_however_often_it_comes_under_the_same_transaction() -> None:
    bench = started()
    for _ in range(2):
        bench.command("pause", rollout="r-001", transaction="t1")
        assert bench.rollout.paused
        bench.command("resume", rollout="r-001")


def test_a_start_that_is_delivered_again_does_not_end_the_rollout_that_it_began() -> None:
    bench = Bench()
    first = bench.start(supersede=True, transaction="t1")

    again = bench.start(supersede=True, transaction="t1")

    assert list(bench.state.rollouts) == ["r-001"]
    assert (first.data or {})["rollout"] == (again.data or {})["rollout"] == "r-001"
    assert (again.data or {})["already_applied"] is True


def test_a_start_of_another_release_is_no_repetition_whatever_its_transaction() -> None:
    bench = Bench()
    bench.start(transaction="t1")

    again = error_of(bench.command("start", release="app-3.0.0", policy="careful", transaction="t1"))

    assert again.code == "conflict"
    assert (
        error_of(
            bench.command("start", release="app-3.0.0", policy="careful", rollout="r-001", transaction="t1")
        ).message
        == "rollout 'r-001' exists with another release or policy"
    )


def test_what_was_refused_may_be_sent_again_under_the_same_transaction() -> None:
    bench = started()
    assert error_of(bench.command("approve", rollout="r-001", transaction="t1")).code == "wrong_phase"
    bench = awaiting()
    assert bench.command("approve", rollout="r-001", transaction="t1").status == "ok"


# What is advised


def advised(bench: Bench, device: str) -> list[str]:
    """Return what is said of a device that may be typed."""
    told = (bench.command("get", device=device).data or {})["next"]
    return [choice["command"] for choice in told]


def test_a_retry_is_advised_while_the_rollout_goes_on_and_not_when_it_is_over() -> None:
    bench = halted()
    failed = bench.rollout.having(Progress.FAILED)[0]
    assert advised(bench, failed)[:2] == [f"tidegate retry r-001 {failed}", f"tidegate skip r-001 {failed}"]

    bench.command("abort", rollout="r-001")

    assert advised(bench, failed) == [f"tidegate release-device {failed}"]

"""What a device does when a trust root takes back what it has: before, in the middle and after."""

import pytest

from device_client.core.codes import ErrorCode
from device_client.core.effects import (
    CancelStep,
    ClearStaging,
    Fetch,
    PublishInfo,
    PublishReported,
    SmokeTest,
    SwitchSlot,
)
from device_client.core.machine import Phase
from schemas.trust import Root
from tests.core.trust_roots import make_root
from tests.device.device_bench import Bench

REVOKING = make_root(2, revoked=("app-1.1.0",))
REVOKING_BY_COUNTER = make_root(2, release_counter_min=111)
REVOKING_OLD = make_root(2, revoked=("app-1.0.0",))


def test_release_that_is_revoked_is_not_even_fetched() -> None:
    bench = Bench().started()
    bench.learn(REVOKING)

    bench.order(1)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "revoked", "1.0.0")
    assert bench.all(Fetch) == []


def test_revocation_ends_the_preparation_at_once() -> None:
    bench = Bench(answers=False).started()
    bench.order(1)
    assert bench.phase() is Phase.DOWNLOADING

    effects = bench.learn(REVOKING)

    assert [type(effect) for effect in effects if isinstance(effect, CancelStep | ClearStaging)] == [
        CancelStep,
        ClearStaging,
    ]
    assert (bench.phase(), bench.error_code) == (Phase.FAILED, "revoked")


@pytest.mark.parametrize("is_waiting", [False, True])
def test_revoked_release_in_standby_is_never_activated(is_waiting: bool) -> None:  # noqa: FBT001 - a case
    bench = Bench().ready()
    if is_waiting:
        bench.grant("wait")

    bench.learn(REVOKING)
    bench.grant()

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "revoked", "1.0.0")
    assert bench.all(SwitchSlot) == []


def test_whatever_stands_ready_is_proven_again_under_a_newer_root() -> None:
    bench = Bench().ready()
    bench.log.clear()

    bench.learn(make_root(2))

    assert len(bench.all(Fetch)) == len(bench.all(SmokeTest)) == 1
    assert bench.phase() is Phase.READY
    bench.grant()
    assert bench.phase() is Phase.TRIAL


def test_what_stands_in_standby_is_proven_again_when_a_newer_root_came_before_the_order() -> None:
    bench = Bench().ready()
    bench.order(2, action="hold")
    bench.learn(make_root(2))
    bench.log.clear()

    bench.order(3)

    assert len(bench.all(Fetch)) == 1
    assert bench.phase() is Phase.READY


def test_what_is_proven_under_the_root_in_force_is_not_proven_again() -> None:
    bench = Bench()
    bench.root = make_root(2)
    bench.ready()
    bench.log.clear()

    bench.learn(make_root(2))

    assert bench.all(Fetch) == []


@pytest.mark.parametrize("root", [REVOKING, REVOKING_BY_COUNTER])
def test_trial_of_a_revoked_release_turns_back(root: Root) -> None:
    bench = Bench().on_trial()

    bench.learn(root)
    bench.probe_for(90)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.ROLLED_BACK, "revoked", "1.0.0")


def test_trial_that_a_restarted_agent_finds_revoked_turns_back() -> None:
    bench = Bench().on_trial()
    bench.root = REVOKING

    bench.start()
    bench.probe_for(90)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.ROLLED_BACK, "revoked", "1.0.0")


def test_what_is_committed_serves_on_and_says_that_it_is_revoked() -> None:
    bench = Bench().committed()

    effects = bench.learn(REVOKING)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.IDLE, "revoked", "1.1.0")
    assert any(isinstance(effect, PublishReported) for effect in effects)
    assert [type(effect) for effect in bench.wait(20)] == [PublishInfo, PublishReported], "as after a sync"
    assert bench.wait(20) == []
    bench.learn(make_root(3))
    assert bench.error_code is None


def test_device_on_a_revoked_release_takes_the_next_one() -> None:
    bench = Bench().committed()
    bench.learn(REVOKING)

    bench.order(2, "1.2.0")
    bench.grant()
    bench.probe_for(90)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.IDLE, None, "1.2.0")


def test_no_order_brings_a_revoked_release_back() -> None:
    bench = Bench().committed()
    bench.learn(REVOKING_OLD)

    bench.order(2, "1.0.0", action="rollback", manifest=None, artifact=None)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "revoked", "1.1.0")


def test_rollback_that_waits_for_its_permission_is_given_up_when_its_target_is_revoked() -> None:
    bench = Bench().committed()
    bench.order(2, "1.0.0", action="rollback", manifest=None, artifact=None)
    assert bench.phase() is Phase.READY

    bench.learn(REVOKING_OLD)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "revoked", "1.1.0")


def test_bad_trial_is_left_for_the_version_before_even_if_that_is_revoked() -> None:
    bench = Bench().on_trial()
    bench.learn(REVOKING_OLD)

    bench.wait(301)
    bench.probe_for(90)

    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")


def test_rollback_to_a_revoked_release_leaves_a_trial_to_end_by_itself() -> None:
    bench = Bench().on_trial()
    bench.learn(REVOKING_OLD)
    bench.order(2, "1.0.0", action="rollback", manifest=None, artifact=None)
    assert bench.phase() is Phase.TRIAL

    bench.probe_for(90)

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "revoked", "1.1.0")


def test_expired_root_lets_nothing_new_in_and_everything_else_go_on() -> None:
    bench = Bench()
    bench.root = make_root(expires="2026-01-01T00:00:00Z")
    bench.ready()

    bench.grant(server_time="2026-01-01T00:00:01Z")

    assert (bench.phase(), bench.error_code, bench.version) == (Phase.FAILED, "root_expired", "1.0.0")
    assert ErrorCode(bench.error_code or "") is ErrorCode.ROOT_EXPIRED


def test_root_that_has_expired_meanwhile_lets_a_trial_be_committed_and_a_rollback_be_done() -> None:
    bench = Bench()
    bench.root = make_root(expires="2026-01-01T00:00:00Z")
    bench.ready(commit_on="round_trip")
    bench.grant(server_time="2025-12-31T00:00:00Z")
    bench.probe_for(90)
    bench.grant(server_time="2026-06-01T00:00:00Z")
    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.1.0")

    bench.order(2, "1.0.0", action="rollback", manifest=None, artifact=None)
    bench.grant(server_time="2026-06-01T00:00:00Z")
    bench.probe_for(90)

    assert (bench.phase(), bench.version) == (Phase.ROLLED_BACK, "1.0.0")

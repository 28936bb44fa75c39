"""What must not happen because nobody could be heard: no failure, no thaw, no approval."""

from collections.abc import Sequence

import pytest

from orchestrator.core.rollout import Phase
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, document, make_fleet, make_policy
from tests.core.test_evaluators_beside import halves

SLOW_WAVE = make_policy(waves=[{"name": "wave-1", "percentage": 100, "soak_minutes": 15}])
APPROVAL = make_policy(canary={"require_human_approval_after": True})


def fall_silent(bench: Bench, names: Sequence[str]) -> None:
    for name in names:
        bench.devices[name].is_silent = True


def return_one_by_one(bench: Bench, names: Sequence[str]) -> None:
    """Let devices connect again, one in five seconds."""
    for name in names:
        bench.devices[name].is_silent = False
        bench.set_online(name)
        bench.advance(5)


def offered(bench: Bench) -> list[str]:
    found: list[str] = document(bench.retained()[TREE.build(Kind.STATUS, rollout="r-001")])["allowed"]
    return found


def test_who_has_not_connected_yet_when_the_fleet_is_heard_again_has_not_been_silent_meanwhile() -> None:
    bench = Bench(make_fleet(20), SLOW_WAVE)
    bench.reach_wave(1)
    bench.install_wave()
    fall_silent(bench, list(bench.devices))
    bench.advance(3600)
    assert bench.state.frozen

    return_one_by_one(bench, list(bench.devices))

    assert not bench.state.frozen
    assert bench.facts("device_failed") == bench.facts("rollback_ordered") == []


def test_who_was_let_go_before_the_silence_has_its_whole_time_after_it() -> None:
    bench = Bench(make_fleet(20), SLOW_WAVE)
    bench.reach_wave(1)
    for name in bench.wave(1)[:3]:
        assert bench.ask(name).decision == "go"
    fall_silent(bench, list(bench.devices))
    bench.advance(900)

    return_one_by_one(bench, list(bench.devices))

    assert not bench.state.frozen
    assert bench.facts("device_failed") == bench.facts("device_retried") == []


@pytest.mark.parametrize("is_restart", [True, False])
def test_what_the_broker_kept_of_devices_ends_no_silence(*, is_restart: bool) -> None:
    bench = Bench(make_fleet(10), SLOW_WAVE)
    bench.reach_wave(1)
    bench.install_wave()
    fall_silent(bench, list(bench.devices)[:8])
    bench.advance(150)
    assert bench.state.frozen

    if is_restart:
        bench.boot()
    else:
        bench.take(bench.engine.reconnected(bench.now))
    for name, device in bench.devices.items():
        bench.say(Kind.INFO, device.info.model_copy(update={"version": device.version}), device=name)
        bench.set_online(name)
    bench.advance(1200)

    assert bench.state.frozen
    return_one_by_one(bench, list(bench.devices)[:8])
    bench.advance(60)
    assert not bench.state.frozen
    assert bench.facts("device_failed") == []


def test_nothing_is_approved_while_the_fleet_is_not_heard() -> None:
    bench = Bench(make_fleet(10), APPROVAL)
    bench.start()
    bench.install_wave()
    bench.soak()
    fall_silent(bench, [name for name in bench.devices if name not in bench.wave(0)])
    bench.advance(150)

    error = bench.command("approve", rollout="r-001").error

    assert error is not None
    assert (error.code, error.message) == ("conflict", bench.state.frozen)
    assert "approve" not in offered(bench)
    assert bench.phase() is Phase.AWAITING_APPROVAL


def test_nothing_is_approved_while_nobody_reads_health() -> None:
    bench = halves(fleet=make_fleet(10), policy=APPROVAL)
    bench.start()
    bench.install_wave()
    bench.soak()
    assert "approve" in offered(bench)
    bench.reads_itself = False
    for name in list(bench.workers):
        bench.kill(name)
    bench.advance(60)

    error = bench.command("approve", rollout="r-001").error

    assert error is not None
    assert "nobody reads the health" in error.message
    assert "approve" not in offered(bench)

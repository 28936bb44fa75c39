"""Members at the edges of a rollout: late, lost, skipped, or in a newer one by now."""

from typing import Any

import pytest

from orchestrator.core.members import Progress
from orchestrator.core.rollout import Phase
from tests.core.core_bench import CHECKS, Bench, make_fleet, make_info, make_policy

ONE_WAVE: list[dict[str, Any]] = [{"name": "wave-1", "percentage": 100}]


def patient(percent: float, **rest: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of a wave
    return {**ONE_WAVE[0], "failure_threshold_percent": percent, **rest}


def proven(bench: Bench, *names: str) -> None:
    """Let devices run the new version well and ask to commit, which a gate permits."""
    for name in names:
        assert bench.ask(name).decision == "go"
        bench.run(name, "2.0.0")
        bench.report(name, "trial")
        assert bench.ask(name, "commit").reason == "gate_pending"
    bench.tick()


def test_late_members_of_a_completed_rollout_wait_once_too_many_of_them_have_failed() -> None:
    bench = Bench(make_fleet(40), make_policy(waves=ONE_WAVE))
    late = [f"d-{number:04d}" for number in range(21, 41)]
    bench.set_online(*late, is_online=False)
    bench.advance(300)
    bench.start()
    for _ in range(2):
        bench.install_wave()
        bench.soak()
    bench.advance(300)
    assert bench.phase() is Phase.COMPLETED

    answers = []
    for name in late:
        bench.set_online(name)
        bench.advance(30)
        answers.append(bench.ask(name))
        if answers[-1].decision == "go":
            bench.report(name, "rolled_back", code="smoke_test_failed")

    assert [each.decision for each in answers].count("go") == 1
    assert {each.reason for each in answers[1:]} == {"rollout_stopped"}


@pytest.mark.parametrize("ending", ["finish", "abort"])
def test_devices_of_a_rollout_that_is_over_may_commit_what_they_are_left_on(ending: str) -> None:
    final = {"checks": [{"type": "fleet_coverage", "threshold": "deployed_percentage >= 95%"}, *CHECKS]}
    policy = make_policy(waves=ONE_WAVE, gates={"completion_gate": final}, commit_on="gate")
    bench = Bench(make_fleet(6), policy)
    bench.start()
    proven(bench, *bench.wave(0))
    bench.soak()
    first, last = bench.wave(1)[0], bench.wave(1)[-1]
    bench.set_online(last, is_online=False)
    proven(bench, *bench.wave(1)[:-1])
    if ending == "finish":
        bench.advance(300)
        assert bench.phase() is Phase.AWAITING_DEVICES
        assert bench.ask(first, "commit").decision == "go"  # Its own wave's gate has passed.

    assert bench.command(ending, rollout="r-001").status == "ok"

    assert bench.ask(first, "commit").decision == "go"


def test_rollback_of_an_old_rollout_leaves_those_alone_that_it_never_reached_and_a_newer_one_has() -> None:
    late = "d-0006"
    bench = Bench(
        {**make_fleet(6, group=lambda _: "vision", region=lambda _: "north"), late: make_info(region="south")}
    )
    bench.set_online(late, is_online=False)
    bench.start()
    for _ in range(6):
        bench.install_wave()
        bench.soak()
    assert bench.phase() is Phase.COMPLETED
    bench.set_online(late)
    bench.advance(60)
    bench.policies["south"] = make_policy(targets='region == "south"')
    assert bench.command("start", release="app-3.0.0", policy="south").status == "ok"
    bench.tick()
    assert bench.ask(late).decision == "go"

    assert bench.command("rollback", rollout="r-001").status == "ok"

    assert (bench.state.devices[late].rollout, bench.state.devices[late].action) == ("r-002", "install")
    bench.run(late, "3.0.0")
    assert bench.ask(late, "commit").decision == "go"


def test_lost_device_is_not_skipped_because_it_may_run_the_new_version() -> None:
    bench = Bench(make_fleet(6), make_policy(waves=[patient(50)]))
    bench.reach_wave(1)
    lost, *others = bench.wave(1)
    bench.install(*others)
    assert bench.ask(lost).decision == "go"
    bench.run(lost, "2.0.0")
    bench.set_online(lost, is_online=False)
    bench.devices[lost].is_silent = True
    bench.advance(660)
    assert bench.member(lost).is_lost

    error = bench.command("skip", rollout="r-001", devices=[lost]).error

    assert error is not None
    assert error.message == f"nobody knows what {lost} runs: let it speak first, or roll it back"
    bench.command("rollback", rollout="r-001")
    assert bench.member(lost).progress is Progress.RETURNING


def test_skipped_members_do_not_thin_out_the_share_of_those_that_failed() -> None:
    bench = Bench(make_fleet(101), make_policy(waves=[patient(20, auto_rollback=False)]))
    bench.reach_wave(1)
    bench.command("skip", rollout="r-001", devices=list(bench.wave(1)[30:]))

    bench.fail(*bench.wave(1)[:5])
    bench.tick()

    assert bench.phase() is Phase.HALTED
    assert bench.rollout.reason.startswith("5 of 5 finished")


@pytest.mark.parametrize("action", ["rollback_wave", "rollback_all", "halt_and_assess"])
def test_trigger_on_failed_devices_stops_a_wave_from_which_all_of_them_are_back_already(action: str) -> None:
    trigger = {"name": "wave_failure_rate", "condition": "failed devices > 20% of wave", "scope": "current_wave"}
    bench = Bench(make_fleet(21), make_policy(triggers=[{**trigger, "action": action}], waves=[patient(80)]))
    bench.reach_wave(1)

    bench.fail(*bench.wave(1)[:4])
    bench.advance(60)

    assert bench.phase() in {Phase.HALTED, Phase.ROLLING_BACK}
    assert "wave_failure_rate: 4 of 19 devices of the wave failed" in bench.rollout.reason
    if action != "rollback_all":
        bench.command("resume", rollout="r-001")
        bench.advance(60)
        assert bench.phase() is Phase.DEPLOYING

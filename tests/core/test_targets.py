from copy import deepcopy
from typing import Any

import pytest

from orchestrator.core.baselines import take_baselines
from orchestrator.core.context import Context
from orchestrator.core.events import RolloutStarted, event_from_json
from orchestrator.core.rollout import TERMINAL
from orchestrator.core.state import State, evolve
from orchestrator.core.targets import Refusal, exclusions, make_plan, plan_again
from orchestrator.planning.plan import Plan
from orchestrator.telemetry.monitor import Monitor
from schemas.topics import Kind
from tests.core.core_bench import START, Bench, make_fleet, make_policy, make_release

ABSOLUTE = {"checks": [{"type": "error_rate", "threshold": "2%"}]}


def plan_of(bench: Bench, version: str = "2.0.0") -> Plan:
    plan = make_plan(bench.state, make_release(version), bench.policy, "r-1", now=bench.now)
    assert isinstance(plan, Plan)
    return plan


@pytest.mark.parametrize(
    ("info", "release", "reason"),
    [
        ({}, {}, ""),
        ({"arch": "riscv"}, {"arch": "aarch64"}, "no artifact for riscv"),
        ({"device_type": "nuc"}, {"device_types": ("pi", "jetson")}, "not for nuc"),
        ({"version": "2.0.0"}, {}, "runs 2.0.0 already"),
        ({"version": "1.0.0"}, {"allowed_from": ("0.9.0", "1.0.0")}, ""),
        ({"version": "1.0.0"}, {"allowed_from": ("0.9.0", "1.0")}, "runs no version that app-2.0.0 may replace"),
        ({"maintenance": True}, {}, "in maintenance"),
        ({"formats": ("tar.gz", "chunks")}, {"needs": ("chunks",)}, ""),
        ({"formats": ()}, {"needs": ("chunks",)}, ""),
        ({"formats": ("tar.gz",)}, {"needs": ("chunks",)}, "does not take chunks"),
        ({"disk_free_bytes": 499}, {}, "less than 500 bytes free, which noarch needs beside what runs"),
        ({"disk_free_bytes": 500}, {}, ""),
        ({"disk_free_bytes": None}, {}, ""),
    ],
)
def test_a_device_is_left_out_with_its_reason(info: dict[str, Any], release: dict[str, Any], reason: str) -> None:
    bench = Bench(make_fleet(1, **info), warm_up_seconds=0)
    bench.devices["d-0001"].version = info.get("version", "1.0.0")
    bench.speak()

    why = exclusions(bench.state, make_release(**release), bench.policy)
    assert [why.values[code] for code in why.codes] == [reason]


def test_a_quarantined_device_is_left_out_until_it_is_released() -> None:
    bench = Bench(warm_up_seconds=0)

    bench.command("quarantine", device="d-0001", reason="smoke")
    assert plan_of(bench).excluded == {"quarantined: smoke": ("d-0001",)}
    bench.command("release", device="d-0001")

    assert plan_of(bench).excluded == {}


def test_the_disk_that_counts_is_the_one_announced_last() -> None:
    bench = Bench(make_fleet(2, disk_free_bytes=10_000), warm_up_seconds=0)
    facts = len(bench.entries())

    info = bench.fleet["d-0001"].model_copy(update={"disk_free_bytes": 100})
    bench.say(Kind.INFO, info, device="d-0001")

    assert plan_of(bench).excluded == {"less than 500 bytes free, which noarch needs beside what runs": ("d-0001",)}
    assert len(bench.entries()) == facts


def test_every_member_of_a_running_rollout_is_taken_also_when_its_wave_has_not_begun() -> None:
    bench = Bench(make_fleet(6))
    bench.start()

    plan = make_plan(bench.state, make_release("3.0.0"), bench.policy, "r-2", now=bench.now)

    assert plan == Refusal("no device to update: in rollout r-001 (6)")


def test_the_members_of_an_ended_rollout_are_free_again() -> None:
    bench = Bench(make_fleet(6))
    bench.start()
    bench.command("abort", rollout="r-001")

    assert plan_of(bench, "3.0.0").excluded == {}


def test_no_device_is_no_plan() -> None:
    bench = Bench({}, warm_up_seconds=0)

    assert make_plan(bench.state, make_release(), bench.policy, "r-1", now=bench.now) == Refusal(
        "no device to update: no device has announced itself"
    )


def test_a_fleet_that_is_quarantined_altogether_is_refused_with_the_most_frequent_reasons() -> None:
    bench = Bench(make_fleet(9), warm_up_seconds=0)
    for number in range(1, 10):
        bench.command("quarantine", device=f"d-{number:04d}", reason=f"ticket {max(number, 3)}")

    assert make_plan(bench.state, make_release(), bench.policy, "r-1", now=bench.now) == Refusal(
        "no device to update: quarantined: ticket 3 (3); quarantined: ticket 4 (1); quarantined: ticket 5 (1); "
        "quarantined: ticket 6 (1); quarantined: ticket 7 (1); and 2 other reasons"
    )


def test_one_device_is_a_canary_and_every_wave_is_dropped() -> None:
    bench = Bench(make_fleet(1), warm_up_seconds=0)

    plan = plan_of(bench)

    assert {wave.name: list(wave.members) for wave in plan.waves} == {"canary": ["d-0001"]}
    assert plan.dropped_waves == ("wave-1", "wave-2")


def test_a_type_with_one_device_and_a_region_nobody_named_are_covered_like_any_other() -> None:
    fleet = make_fleet(
        60, device_type=lambda n: "nuc" if n == 60 else "pi", region=lambda n: "unknown" if n == 7 else "north"
    )

    plan = plan_of(Bench(fleet, warm_up_seconds=0))

    assert plan.chosen == {
        "d-0007": "best monitored pi in unknown",
        "d-0060": "best monitored nuc",
        "d-0001": "best monitored of the rest",
    }
    assert plan.uncovered == ()


def test_a_group_of_which_nobody_is_a_target_needs_no_baseline() -> None:
    bench = Bench(make_fleet(6, group=lambda n: f"g{n % 2}", maintenance=lambda n: n % 2 == 1))

    baselines = baselines_of(bench)

    assert isinstance(baselines, dict)
    assert list(baselines) == ["g0"]


def test_a_device_on_its_way_back_is_no_target_even_when_its_rollout_has_ended() -> None:
    bench = Bench()
    bench.start()
    bench.install_wave()
    (canary,) = bench.wave(0)
    bench.command("rollback", rollout="r-001", scope="fleet", reason="no")
    bench.set_online(canary, is_online=False)
    bench.advance(1800)
    bench.command("abort", rollout="r-001")

    plan = plan_of(bench, "3.0.0")
    bench.set_online(canary)
    bench.go_back(canary)

    assert bench.phase() in TERMINAL
    assert plan.excluded == {"going back in rollout r-001": (canary,)}
    assert plan_of(bench, "3.0.0").excluded == {}


def test_what_was_planned_is_planned_again_from_what_the_journal_holds() -> None:
    fleet = make_fleet(
        40,
        device_type=lambda n: f"t{n % 3}",
        region=lambda n: f"r{n % 7}",
        signals=lambda n: ("latency",) * (n % 2),
        known_issues=lambda n: ["fan"] * (n % 9 == 0),
        maintenance=lambda n: n % 11 == 0,
        sleeping_until=lambda n: "2038-01-01T00:00:00.000Z" if n % 13 == 0 else None,
    )
    bench = Bench(fleet)
    bench.set_online("d-0001", "d-0002", "d-0018", is_online=False)
    bench.command("quarantine", device="d-0005", reason="smoke")

    planned, again = planned_twice(bench)

    assert again == planned
    assert again.digest == planned.digest
    assert set(planned.not_canary) == {"offline", "asleep", "known issue: fan"}


def test_a_last_resort_is_planned_again_as_well() -> None:
    bench = Bench(make_fleet(5, single_point_of_failure=True))

    planned, again = planned_twice(bench)

    assert again.digest == planned.digest
    assert planned.chosen == {"d-0001": "most representative, although single point of failure"}
    assert planned.not_canary == {"single point of failure": tuple(bench.fleet)}


def planned_twice(bench: Bench) -> tuple[Plan, Plan]:
    """Return the plan of a start, and what follows from the journal before it and what the plan recorded."""
    bench.start(ignore_lint=True)
    events = [(event_from_json(entry.body), entry.at) for entry in bench.entries()]
    state = State()
    for event, at in events:
        if isinstance(event, RolloutStarted):
            return event.plan, plan_again(state, event.release, event.policy, event.plan)
        evolve(state, event, at)
    raise AssertionError("nothing was started")


def test_a_fleet_of_which_nobody_should_be_a_canary_says_so_with_the_reason() -> None:
    bench = Bench(make_fleet(2, single_point_of_failure=lambda n: n == 1, known_issues=lambda n: ["fan"] * (n == 2)))

    assert plan_of(bench).chosen == {"d-0001": "most representative, although single point of failure"}


def test_a_fleet_that_is_all_away_is_refused() -> None:
    bench = Bench(make_fleet(2))
    bench.set_online("d-0001", "d-0002", is_online=False)

    refusal = make_plan(bench.state, make_release(), bench.policy, "r-1", now=bench.now)

    assert isinstance(refusal, Refusal)
    assert refusal.message.startswith("no device may be a canary: every target is offline")


def test_an_offline_device_is_a_target_and_no_canary() -> None:
    bench = Bench(make_fleet(4))
    bench.set_online("d-0001", is_online=False)

    plan = plan_of(bench)

    assert "d-0001" in plan.targets
    assert plan.not_canary == {"offline": ("d-0001",)}


def test_the_same_fleet_gives_the_same_plan_and_another_name_another_deal() -> None:
    bench = Bench(make_fleet(30), warm_up_seconds=0)
    plans = [
        make_plan(bench.state, make_release(), bench.policy, name, now=bench.now) for name in ("r-1", "r-1", "r-2")
    ]

    assert plans[0] == plans[1] != plans[2]


def baselines_of(bench: Bench, monitor: Monitor | None = None) -> object:
    context = Context(monitor or bench.monitor, {}, {}, "")
    return take_baselines(bench.state, plan_of(bench), make_release(), bench.policy, context=context, now=bench.now)


def test_each_group_has_a_baseline_of_its_own() -> None:
    bench = Bench(make_fleet(6, group=lambda n: f"g{n % 2}"))
    for name in ("d-0001", "d-0003", "d-0005"):
        bench.devices[name].errors_per_sample = 10
    bench.advance(330)

    baselines = baselines_of(bench)

    assert isinstance(baselines, dict)
    assert baselines["g0"].error_rate == 0.0
    assert baselines["g1"].error_rate > 0.04


@pytest.mark.parametrize("anomaly", ["maintenance", "quarantine"])
def test_what_a_device_does_while_something_is_wrong_is_not_taken_for_normal(anomaly: str) -> None:
    bench = Bench(make_fleet(6, maintenance=lambda n: anomaly == "maintenance" and n == 1))
    if anomaly == "quarantine":
        bench.command("quarantine", device="d-0001", reason="known incident")
    bench.devices["d-0001"].errors_per_sample = 90
    bench.advance(330)

    baselines = baselines_of(bench)

    assert isinstance(baselines, dict)
    assert baselines["vision"].error_rate == 0.0


def test_a_group_without_a_baseline_blocks_a_policy_that_compares() -> None:
    bench = Bench()
    before = deepcopy(bench.state)

    refused = baselines_of(bench, Monitor())

    assert isinstance(refused, Refusal)
    assert refused.message.startswith(
        "group 'vision' has no baseline yet: fewer than 5 requests or health samples seen"
    )
    assert bench.state == before


def test_a_policy_of_absolute_limits_needs_no_baseline() -> None:
    bench = Bench(policy=make_policy(gates={"canary_gate": ABSOLUTE, "wave_gate": ABSOLUTE}), now=START)

    assert baselines_of(bench, Monitor()) == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"single_point_of_failure": lambda n: n == 1}, "single point of failure"),
        ({"known_issues": lambda n: ["fan"] * (n == 1)}, "known issue: fan"),
    ],
)
def test_a_device_that_should_not_go_first_is_no_canary_and_the_plan_says_why(
    change: dict[str, Any], reason: str
) -> None:
    plan = plan_of(Bench(make_fleet(4, **change)))

    assert plan.not_canary == {reason: ("d-0001",)}
    assert "d-0001" not in plan.chosen
    assert "d-0001" in plan.targets

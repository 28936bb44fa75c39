import pytest

from orchestrator.planning.names import Names
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import NoCanaryError, plan_fleet
from schemas.policy import Policy
from tests.core.core_bench import make_policy
from tests.planning.fleets import Target, fleet_of

THREE_WAVES = [{"name": "w1", "percentage": 15}, {"name": "w2", "percentage": 35}, {"name": "w3", "percentage": 100}]


def plan_of(*rows: Target, policy: Policy | None = None, artifact_bytes: int | None = None, seed: int = 1) -> Plan:
    return plan_fleet(fleet_of(*rows), policy or make_policy(), excluded={}, seed=seed, artifact_bytes=artifact_bytes)


def rows_of(count: int) -> list[Target]:
    return [Target(f"d-{number:05d}") for number in range(count)]


def test_the_unfit_are_no_canary_and_the_plan_says_why() -> None:
    plan = plan_of(
        Target("a", unfit="offline", signal_count=9),
        Target("b"),
        Target("c", "jetson", "south", unfit="single point of failure"),
        Target("d", unfit="offline"),
    )

    assert plan.waves[0].members == ("b",)
    assert plan.chosen == {"b": "best monitored pi"}
    assert plan.not_canary == {"offline": ("a", "d"), "single point of failure": ("c",)}
    assert plan.uncovered == ("type jetson", "region south")
    assert plan.offline_count == 2
    assert plan.warnings == ("no canary stands for type jetson, region south",)


def test_excluded_devices_are_grouped_by_reason_in_an_order_of_their_own() -> None:
    excluded = {"runs 2.0.0 already": Names("y z"), "in maintenance": Names("x"), "nobody": Names("")}

    plan = plan_fleet(fleet_of(Target("a")), make_policy(), excluded=excluded, seed=1)

    assert list(plan.excluded) == ["in maintenance", "runs 2.0.0 already"]
    assert plan.excluded == {"in maintenance": Names("x"), "runs 2.0.0 already": Names("y z")}


def test_a_fleet_that_is_offline_or_asleep_altogether_has_no_plan() -> None:
    with pytest.raises(NoCanaryError, match=r"every target is offline or asleep.*start when at least one is back"):
        plan_of(Target("a", unfit="offline"), Target("b", unfit="asleep"))


def test_when_nobody_may_be_a_canary_the_most_representative_device_that_is_online_goes_first() -> None:
    plan = plan_of(
        Target("a", "nuc", "north", unfit="single point of failure", signal_count=9),
        Target("b", "pi", "south", unfit="known issue: fan", signal_count=5),
        Target("c", "pi", "north", unfit="known issue: fan"),
        Target("d", "pi", "north", unfit="single point of failure", signal_count=2),
        Target("e", "pi", "north", unfit="offline", signal_count=9),
        policy=make_policy(canary={"percentage": 60}),
    )

    assert plan.chosen == {"d": "most representative, although single point of failure"}
    assert plan.not_canary == {"known issue: fan": ("b", "c"), "offline": ("e",), "single point of failure": ("a", "d")}
    assert plan.warnings[0] == (
        "no target may be a canary; the most representative of those that are online goes first"
    )


@pytest.mark.parametrize(
    ("count", "waves", "dropped"),
    [
        (1, {"canary": 1}, ("w1", "w2", "w3")),
        (2, {"canary": 1, "w1": 1}, ("w2", "w3")),
        (3, {"canary": 1, "w1": 1, "w2": 1}, ("w3",)),
        (4, {"canary": 1, "w1": 1, "w2": 2}, ("w3",)),
        (5, {"canary": 1, "w1": 1, "w2": 2, "w3": 1}, ()),
    ],
)
def test_empty_waves_are_dropped_visibly(count: int, waves: dict[str, int], dropped: tuple[str, ...]) -> None:
    plan = plan_of(*rows_of(count), policy=make_policy(waves=THREE_WAVES))

    assert {wave.name: len(wave.members) for wave in plan.waves} == waves
    assert plan.dropped_waves == dropped


def test_another_seed_deals_other_waves_after_the_same_canary() -> None:
    plans = [plan_of(*rows_of(50), seed=seed) for seed in (1, 2)]

    assert plans[0].waves[0] == plans[1].waves[0]
    assert plans[0].waves[1] != plans[1].waves[1]
    assert plans[0].digest != plans[1].digest


def test_what_the_size_leaves_uncovered_is_named_and_how_many_would_do() -> None:
    rows = [Target(f"d{number:02d}", f"type-{number % 4}", f"region-{number % 9}") for number in range(60)]

    plan = plan_of(*rows)

    assert len(plan.chosen) == 3
    assert [name.split()[0] for name in plan.uncovered] == ["type", *["region"] * 6]
    (warning,) = plan.warnings
    assert warning.startswith("no canary stands for type type-3, region region-3, region region-4, region region-5, ")
    assert warning.endswith(" and 2 more; 9 canaries would cover more")


def test_a_canary_that_is_smaller_than_the_policy_asks_for_is_a_warning() -> None:
    plan = plan_of(
        Target("a"), Target("b", unfit="offline"), Target("c"), policy=make_policy(canary={"min_devices": 3})
    )

    assert plan.warnings == ("the canary has 2 devices instead of 3: no other target may be one",)


@pytest.mark.parametrize(
    ("strategy", "count", "artifact_bytes", "warnings"),
    [
        ("blue_green", 500, 2_000_000_000, []),
        ("blue_green", 500, None, []),
        ("blue_green", 501, None, ["at most 500 devices, these are 501"]),
        ("blue_green", 500, 2_500_000_000, ["at most 2 GB, this release takes 2.50 GB"]),
        ("blue_green", 501, 2_500_000_000, ["at most 500 devices", "at most 2 GB"]),
        ("rolling", 501, 2_500_000_000, []),
    ],
)
def test_blue_green_beyond_its_comfort_zone_is_a_warning_that_offers_rolling(
    strategy: str, count: int, artifact_bytes: int | None, warnings: list[str]
) -> None:
    plan = plan_of(*rows_of(count), policy=make_policy(strategy=strategy), artifact_bytes=artifact_bytes)

    assert plan.strategy == strategy
    assert len(plan.warnings) == len(warnings)
    for found, expected in zip(plan.warnings, warnings, strict=True):
        assert expected in found
        assert found.endswith("where a brief downtime is acceptable, use strategy: rolling")


def test_an_estimate_counts_the_waves_that_are_left() -> None:
    policy = make_policy(waves=THREE_WAVES, update={"min_ready_seconds": 0})

    assert plan_of(Target("a"), policy=policy).estimated_seconds == 90 + 5 * 60

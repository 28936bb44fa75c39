"""Every plan for every example policy."""

import hashlib
from functools import cache, partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.lint.catalogue import RULES, lint_rollout
from orchestrator.planning.fleet import Fleet
from orchestrator.planning.names import Names
from orchestrator.planning.plan import Plan, PlannedWave
from orchestrator.planning.planner import plan_fleet
from orchestrator.shelf import load_policy
from schemas.policy import CanaryPolicy, Policy
from tests.planning.fleets import Target, facts_of, fleet_from_seed, fleet_of, relabelled
from tests.planning.plan_checks import check_columns, check_plan

POLICIES = sorted((Path(__file__).parents[2] / "examples" / "policies").glob("*.yaml"))
CAREFUL = next(path for path in POLICIES if path.stem == "careful")
REFERENCE = next(path for path in POLICIES if path.stem == "reference")
COUNTS = (1, 5, 9, 10, 49, 50, 199, 200, 1000, 10_000)
fleet_of_count = cache(partial(fleet_from_seed, seed=7))
EXCLUDED = {"in maintenance": Names("x-1 x-2"), "100 bytes free, 500 needed": Names("x-3"), "nobody": Names("")}


@cache
def policy_of(path: Path, size: str = "own-size") -> Policy:
    """Return the policy of ``path``, or the same with the reference's table instead of its own canary size."""
    policy = load_policy(path)
    if size == "own-size":
        return policy
    sizes = dict.fromkeys(("percentage", "min_devices", "max_devices"))
    canary = CanaryPolicy.model_validate(policy.rollout.canary.model_dump(exclude=set(sizes)))
    return policy.model_copy(update={"rollout": policy.rollout.model_copy(update={"canary": canary})})


def as_bytes(plan: Plan) -> bytes:
    return plan.model_dump_json().encode()


def errors_of(path: Path, plan: Plan, fleet: Fleet) -> list[str]:
    """Return for what lint would refuse this plan, after seeing that it has looked."""
    findings = lint_rollout(policy_of(path), facts_of(plan, fleet), text=path.read_text(encoding="utf-8"))
    assert findings
    assert {each.id for each in findings} <= set(RULES)
    return [each.message for each in findings if each.severity == "error"]


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
@pytest.mark.parametrize("count", COUNTS)
def test_each_policy_is_read_linted_and_planned_for_a_fleet_of_every_size(count: int, path: Path) -> None:
    policy, fleet = policy_of(path), fleet_of_count(count)

    plan = plan_fleet(fleet, policy, excluded=EXCLUDED, seed=7)

    check_plan(plan, fleet, policy, EXCLUDED)
    assert errors_of(path, plan, fleet) == []


def test_each_policy_is_read_linted_and_planned_for_a_fleet_of_a_million() -> None:
    fleet = fleet_from_seed(1_000_000, 7)
    checked: set[tuple[PlannedWave, ...]] = set()

    for path in POLICIES:
        policy = policy_of(path)
        plan = plan_fleet(fleet, policy, excluded=EXCLUDED, seed=7)
        if plan.waves not in checked:
            check_columns(plan, fleet, policy, EXCLUDED)
        checked.add(plan.waves)
        assert errors_of(path, plan, fleet) == []

    again = plan_fleet(relabelled(fleet), policy, excluded=EXCLUDED, seed=7)
    assert as_bytes(again) == as_bytes(plan)


@pytest.mark.parametrize("size", ["own-size", "table"])
@pytest.mark.parametrize("path", [REFERENCE, CAREFUL], ids=lambda path: path.stem)
@pytest.mark.parametrize("count", COUNTS)
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    shape=st.fixed_dictionaries(
        {"types": st.integers(1, 7), "regions": st.integers(1, 14), "unfit_percent": st.sampled_from([0, 3, 40, 95])}
    ),
)
def test_a_plan_keeps_every_rule_and_follows_from_its_inputs(
    count: int, path: Path, size: str, seed: int, shape: dict[str, int]
) -> None:
    policy = policy_of(path, size)
    fleet = fleet_from_seed(count, seed % 1000, **shape)

    plan = plan_fleet(fleet, policy, excluded=EXCLUDED, seed=seed)

    check_plan(plan, fleet, policy, EXCLUDED)
    reversed_reasons = dict(reversed(EXCLUDED.items()))
    again = plan_fleet(relabelled(fleet), policy, excluded=reversed_reasons, seed=seed)
    assert as_bytes(again) == as_bytes(plan)
    assert Plan.model_validate_json(as_bytes(plan)) == plan


def test_the_same_deal_comes_from_a_seed_on_every_machine_and_with_every_numpy() -> None:
    fleet = fleet_of(*(Target(f"d-{number:02d}", "pi" if number % 3 else "nuc") for number in range(12)))

    plan = plan_fleet(fleet, policy_of(CAREFUL, "table"), excluded={}, seed=2**64 - 1)

    assert [" ".join(wave.members) for wave in plan.waves] == [
        "d-00 d-01", "d-06 d-08", "d-04 d-05 d-09 d-11", "d-02 d-03 d-07 d-10"
    ]  # fmt: skip
    assert plan.digest == "af642aa9befd5e8918a097b511e526d29843884bfad8c4ca4a376d37b1e1cd32"


def test_the_digest_leaves_defaults_out_so_that_fields_can_be_added() -> None:
    fleet = fleet_of(Target("a"), Target("b"))
    plan = plan_fleet(fleet, policy_of(CAREFUL, "table"), excluded={}, seed=1)

    text = plan.model_dump_json(exclude_defaults=True)

    assert plan.digest == hashlib.sha256(text.encode()).hexdigest()
    assert Plan.model_validate_json(text).digest == plan.digest
    assert "offline_count" not in text

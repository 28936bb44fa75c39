"""What must hold of every plan, computed from the rows in plain Python and not the way the planner does."""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil

from orchestrator.planning.fleet import Fleet
from orchestrator.planning.plan import Plan
from schemas.policy import CanaryPolicy, Policy
from tests.planning.fleets import Target, targets_of


def check_plan(plan: Plan, fleet: Fleet, policy: Policy, excluded: Mapping[str, Sequence[str]]) -> None:
    """Check all rules; the fleet has at least one fit device."""
    rows = {each.name: each for each in targets_of(fleet)}
    check_partition(plan, rows, policy)
    check_reasons(plan, rows, excluded)
    check_canary(plan, rows, policy.rollout.canary)
    check_waves(plan, rows, policy)


def check_partition(plan: Plan, rows: Mapping[str, Target], policy: Policy) -> None:
    assert Counter(plan.targets) == Counter(list(rows))
    assert all(wave.members == tuple(sorted(wave.members)) for wave in plan.waves)
    assert all(wave.members for wave in plan.waves)
    planned = [wave.name for wave in plan.waves] + list(plan.dropped_waves)
    assert planned == ["canary", *(wave.name for wave in policy.rollout.waves)]


def check_reasons(plan: Plan, rows: Mapping[str, Target], excluded: Mapping[str, Sequence[str]]) -> None:
    assert sorted(plan.chosen) == list(plan.waves[0].members)
    assert all(plan.chosen.values())
    assert {name: reason for reason, names in plan.not_canary.items() for name in names} == {
        each.name: each.unfit for each in rows.values() if each.unfit
    }
    assert {reason: sorted(names) for reason, names in plan.excluded.items()} == {
        reason: sorted(names) for reason, names in excluded.items() if names
    }
    assert plan.offline_count == sum(each.unfit == "offline" for each in rows.values())


def check_canary(plan: Plan, rows: Mapping[str, Target], policy: CanaryPolicy) -> None:
    canary = [rows[name] for name in plan.waves[0].members]
    fit = [each for each in rows.values() if not each.unfit]
    assert not any(each.unfit for each in canary)
    lowest, highest = size_limits(policy, len(rows))
    assert min(lowest, len(fit)) <= len(canary) <= highest

    types, regions = {each.device_type for each in canary}, {each.region for each in canary}
    missing_types = {each.device_type for each in rows.values()} - types
    missing_regions = {each.region for each in rows.values()} - regions
    assert plan.uncovered == (
        *(f"type {name}" for name in sorted(missing_types)), *(f"region {name}" for name in sorted(missing_regions))
    )  # fmt: skip
    assert len(types) == min(len(canary), len({each.device_type for each in fit}))
    if len(canary) < min(highest, len(fit)):
        assert not missing_types & {each.device_type for each in fit}
        assert not missing_regions & {each.region for each in fit}


def size_limits(policy: CanaryPolicy, count: int) -> tuple[int, int]:
    """Return the fewest and the most devices that the canary of ``count`` targets may have."""
    if policy.percentage is not None:
        size = ceil(count * Fraction(str(policy.percentage)) / 100)
        lowest = highest = size
    else:
        table = {range(1, 10): (1, 1), range(10, 50): (2, 3), range(50, 200): (3, 5), range(200, 1000): (5, 10)}
        lowest, highest = next((row for counts, row in table.items() if count in counts), (10, 50))
        if count // 20 >= lowest:
            highest = min(highest, count // 20)
    most = min(count, policy.max_devices or count)
    return min(most, max(policy.min_devices, lowest)), min(most, max(policy.min_devices, highest))


def check_waves(plan: Plan, rows: Mapping[str, Target], policy: Policy) -> None:
    pool = [rows[name] for wave in plan.waves[1:] for name in wave.members]
    members = {wave.name: wave.members for wave in plan.waves}
    left = len(pool)
    for wave in policy.rollout.waves[:-1]:
        size = min(left, ceil(len(pool) * Fraction(str(wave.percentage)) / 100))
        assert len(members.get(wave.name, ())) == size
        left -= size
    assert len(members.get(policy.rollout.waves[-1].name, ())) == left

    population = Counter(each.device_type for each in pool)
    enough = {name for name, count in population.items() if count >= len(policy.rollout.waves)}
    for planned in plan.waves[1:]:
        held = {rows[name].device_type for name in planned.members}
        if len(planned.members) >= len(population):
            assert enough <= held
        else:
            assert len(held) == len(planned.members) or len(held) >= len(enough)

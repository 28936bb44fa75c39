"""What must hold of every plan, computed from the rows in plain Python and not the way the planner does."""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil

import numpy as np

from orchestrator.planning.fleet import Fleet
from orchestrator.planning.plan import Plan
from schemas.policy import CanaryPolicy, Policy
from tests.planning.fleets import Target, tally, targets_of


def check_plan(plan: Plan, fleet: Fleet, policy: Policy, excluded: Mapping[str, Sequence[str]]) -> None:
    """Check all rules; the fleet has at least one fit device."""
    rows = {each.name: each for each in targets_of(fleet)}
    check_partition(plan, rows, policy)
    check_reasons(plan, rows, excluded)
    check_canary(plan, rows, policy.rollout.canary)
    check_sizes(plan, policy, len(fleet))
    check_waves(plan, rows, policy)


def check_columns(plan: Plan, fleet: Fleet, policy: Policy, excluded: Mapping[str, Sequence[str]]) -> None:
    """Check the rules that columns show, of a fleet so large that every wave has every type."""
    places = [np.searchsorted(fleet.names, wave.members.array()) for wave in plan.waves]
    assert all((fleet.names[part] == wave.members.array()).all() for part, wave in zip(places, plan.waves, strict=True))
    assert all((part[1:] > part[:-1]).all() for part in places)
    assert (np.bincount(np.concatenate(places), minlength=len(fleet)) == 1).all()

    assert all(len(np.unique(fleet.device_type.codes[part])) == len(tally(fleet.device_type)) for part in places)

    check_sizes(plan, policy, len(fleet))
    lowest, highest = size_limits(policy.rollout.canary, len(fleet))
    assert lowest <= len(plan.waves[0].members) <= highest
    assert sorted(plan.chosen) == list(plan.waves[0].members)
    assert {why: len(names) for why, names in plan.not_canary.items()} == {
        why: count for why, count in tally(fleet.unfit).items() if why
    }
    assert plan.excluded == {why: names for why, names in excluded.items() if names}


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


def check_sizes(plan: Plan, policy: Policy, target_count: int) -> None:
    sizes = {wave.name: len(wave.members) for wave in plan.waves}
    left = pool = target_count - sizes["canary"]
    for wave in policy.rollout.waves[:-1]:
        size = min(left, ceil(pool * Fraction(str(wave.percentage)) / 100))
        assert sizes.get(wave.name, 0) == size
        left -= size
    assert sizes.get(policy.rollout.waves[-1].name, 0) == left


def check_waves(plan: Plan, rows: Mapping[str, Target], policy: Policy) -> None:
    pool = [rows[name] for wave in plan.waves[1:] for name in wave.members]
    population = Counter(each.device_type for each in pool)
    enough = {name for name, count in population.items() if count >= len(policy.rollout.waves)}
    for planned in plan.waves[1:]:
        held = {rows[name].device_type for name in planned.members}
        if len(planned.members) >= len(population):
            assert enough <= held
        else:
            assert len(held) == len(planned.members) or len(held) >= len(enough)

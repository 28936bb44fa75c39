"""Canary selection and wave assignment.

Source:
    Reference, "Canary Sizing", "Canary Selection Algorithm" and "Wave Device Assignment"; readings: DECISIONS.md, 3
    and 4.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.planning.plan import Plan, PlannedWave
from schemas.conditions import percent_of
from schemas.policy import CanaryPolicy, Policy

CANARY_SHARE_MAX_PERCENT: Final = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the planner knows of one target device.

    Attributes:
        signal_count: How much of its health it reports; the best monitored device of a type is its canary.
        unfit: Why it may not be a canary; empty if it may.
    """

    device: str
    device_type: str
    region: str
    signal_count: int
    unfit: str = ""


def plan_rollout(candidates: Sequence[Candidate], policy: Policy, *, excluded: Mapping[str, str], seed: int) -> Plan:
    """Deal all candidates into the canary and the policy's waves.

    Args:
        candidates: Every target, at least one, each once.
        policy: Sizes of the canary and the waves.
        excluded: Devices that are no targets, with the reason; copied into the plan.
        seed: Everything random is drawn from it.

    Raises:
        ValueError: No candidate may be a canary; the caller tells the operator.
    """
    targets = sorted(candidates, key=lambda each: each.device)
    fit = [each for each in targets if not each.unfit]
    if not fit:
        raise ValueError("no target device may be a canary")
    size = canary_size(policy.rollout.canary, len(targets), _groups(targets))
    chosen = choose_canary(fit, min(size, len(fit)), targets)
    canary = sorted(chosen)
    rng = random.Random(seed)  # noqa: S311 - a fair deal that anybody can repeat, not a secret
    pool = [each for each in targets if each.device not in chosen]
    names = [wave.name for wave in policy.rollout.waves]
    dealt = deal_waves(pool, [wave.percentage for wave in policy.rollout.waves], rng)
    waves = [PlannedWave(name=name, members=members) for name, members in zip(names, dealt, strict=True) if members]
    return Plan(
        waves=(PlannedWave(name="canary", members=tuple(canary)), *waves),
        chosen=chosen,
        excluded=excluded,
        not_canary={each.device: each.unfit for each in targets if each.unfit},
        dropped_waves=tuple(name for name, members in zip(names, dealt, strict=True) if not members),
        uncovered=_uncovered(targets, set(canary)),
        seed=seed,
    )


def canary_size(policy: CanaryPolicy, target_count: int, group_count: int) -> int:
    """Return how many devices go first: the policy's own numbers, else the reference's table.

    Args:
        policy: With a percentage or a maximum it decides; with neither the table does.
        target_count: Devices that will be updated, at least 1.
        group_count: Device types or regions to cover, whichever are more.
    """
    assert target_count >= 1, "a rollout has at least one target"
    if policy.percentage is not None:
        _, share = percent_of(target_count, policy.percentage)
        wanted = max(policy.min_devices, share)
        return min(wanted, policy.max_devices or target_count, target_count)
    lowest, highest = _table_row(target_count)
    size = min(max(lowest, group_count), highest)
    cap = max(target_count * CANARY_SHARE_MAX_PERCENT // 100, lowest)
    size = max(min(size, cap), policy.min_devices)
    return min(size, policy.max_devices or target_count, target_count)


def _table_row(target_count: int) -> tuple[int, int]:
    """Return the reference's recommended range; lower bounds of the rows are inclusive."""
    rows = ((1000, 10, 50), (200, 5, 10), (50, 3, 5), (10, 2, 3))
    return next(((lowest, highest) for start, lowest, highest in rows if target_count >= start), (1, 1))


def choose_canary(fit: Sequence[Candidate], size: int, targets: Sequence[Candidate]) -> dict[str, str]:
    """Pick ``size`` devices of ``fit``: one of each type by population, then of each region, then the best monitored.

    Returns:
        Each chosen device with the reason for it.
    """
    chosen: dict[str, str] = {}
    covered: set[str] = set()

    def take(pool: Iterable[Candidate], reason: str) -> None:
        best = min(pool, key=lambda each: (each.region in covered, -each.signal_count, each.device), default=None)
        if best is not None and len(chosen) < size:
            chosen[best.device] = reason
            covered.add(best.region)

    for device_type in _by_population(each.device_type for each in targets):
        pool = [each for each in fit if each.device_type == device_type]
        take(pool, f"best monitored {device_type}")
    for region in _by_population(each.region for each in targets):
        if region not in covered:
            take((each for each in fit if each.region == region and each.device not in chosen), f"stands for {region}")
    while len(chosen) < size:
        take((each for each in fit if each.device not in chosen), "best monitored of the rest")
    return chosen


def deal_waves(pool: Sequence[Candidate], percentages: Sequence[float], rng: random.Random) -> list[tuple[str, ...]]:
    """Deal ``pool`` into waves; the last wave takes whatever is left.

    Args:
        pool: Targets without the canary, in a stable order.
        percentages: Share of ``pool`` for each wave.
        rng: Seeded; the same seed deals the same waves.

    Returns:
        One sorted tuple for each wave; together they hold every device once, and while there are enough each holds one
        of every type. Later waves of a small pool are empty.
    """
    shuffled = rng.sample(list(pool), k=len(pool))
    sizes = _wave_sizes(len(pool), percentages)
    waves: list[list[str]] = [[] for _ in percentages]
    dealt: set[str] = set()
    for device_type in _by_population(each.device_type for each in shuffled):
        of_type = iter([each.device for each in shuffled if each.device_type == device_type])
        for wave, size in zip(waves, sizes, strict=True):
            device = next(of_type, None) if len(wave) < size else None
            if device is not None:
                wave.append(device)
                dealt.add(device)
    rest = iter([each.device for each in shuffled if each.device not in dealt])
    for wave, size in zip(waves, sizes, strict=True):
        wave.extend(device for _, device in zip(range(size - len(wave)), rest, strict=False))
    assert sum(map(len, waves)) == len(pool), "waves must hold every device once"
    return [tuple(sorted(wave)) for wave in waves]


def _wave_sizes(pool_count: int, percentages: Sequence[float]) -> list[int]:
    sizes: list[int] = []
    left = pool_count
    for percentage in percentages[:-1]:
        _, share = percent_of(pool_count, percentage)
        sizes.append(min(share, left))
        left -= sizes[-1]
    return [*sizes, left]


def _by_population(names: Iterable[str]) -> list[str]:
    return [name for name, _ in sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))]


def _groups(targets: Sequence[Candidate]) -> int:
    return max(len({each.device_type for each in targets}), len({each.region for each in targets}))


def _uncovered(targets: Sequence[Candidate], canary: set[str]) -> tuple[str, ...]:
    members = [each for each in targets if each.device in canary]
    types = {each.device_type for each in targets} - {each.device_type for each in members}
    regions = {each.region for each in targets} - {each.region for each in members}
    return (*(f"type {name}" for name in sorted(types)), *(f"region {name}" for name in sorted(regions)))

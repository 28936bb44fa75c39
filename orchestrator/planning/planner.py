"""A whole plan: canary, waves, reasons, warnings and the shortest time it can take.

Source:
    Reference, "Canary Selection Algorithm" and "Wave Device Assignment"; readings: DECISIONS.md, 3 and 4.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.planning.advice import canary_warnings, strategy_warnings
from orchestrator.planning.canary import Choice, choose_canary
from orchestrator.planning.columns import Column
from orchestrator.planning.estimate import estimate_seconds
from orchestrator.planning.fleet import ASLEEP, OFFLINE, Fleet
from orchestrator.planning.names import Names
from orchestrator.planning.ordering import run_starts, stable_order
from orchestrator.planning.plan import Plan, PlannedWave
from orchestrator.planning.waves import deal_waves
from schemas.errors import FleetError
from schemas.policy import CanaryPolicy, Policy


class NoCanaryError(FleetError):
    """No target can be watched as a canary now; the text tells the operator why and what would help."""


def plan_fleet(
    fleet: Fleet,
    policy: Policy,
    *,
    excluded: Mapping[str, Names],
    seed: int,
    artifact_bytes: int | None = None,
) -> Plan:
    """Deal all devices of ``fleet`` into the canary and the policy's waves.

    Args:
        fleet: Every target, at least one.
        policy: Sizes of the canary and the waves.
        excluded: Devices that are no targets, by reason, each reason's in ascending order; copied into the plan.
        seed: Everything random is drawn from it; from 0, below 2**64.
        artifact_bytes: What the largest artifact takes on a device; None if it is not known.

    Raises:
        NoCanaryError: Every target is offline or asleep, so that nobody can be watched.
    """
    assert len(fleet) >= 1, "a rollout has at least one target"
    fit = np.flatnonzero(_holds(fleet.unfit, ""))
    choice = choose_canary(fleet, fit, policy.rollout.canary) if len(fit) else _last_resort(fleet)
    is_canary = np.zeros(len(fleet), dtype=np.bool_)
    is_canary[list(choice.reasons)] = True
    places = {"canary": np.flatnonzero(is_canary), **_deal(fleet, np.flatnonzero(~is_canary), policy, seed)}
    waves = [
        PlannedWave(name=name, members=Names.of_array(fleet.names[part])) for name, part in places.items() if len(part)
    ]
    uncovered = _uncovered(fleet, is_canary)
    return Plan(
        waves=tuple(waves),
        chosen={fleet.name(place): reason for place, reason in choice.reasons.items()},
        excluded={reason: names for reason, names in sorted(excluded.items()) if names},
        not_canary=by_reason(fleet.names, fleet.unfit),
        dropped_waves=tuple(name for name, part in places.items() if not len(part)),
        uncovered=uncovered,
        seed=seed,
        warnings=(
            *canary_warnings(choice, len(fit), uncovered),
            *strategy_warnings(policy, len(fleet), artifact_bytes),
        ),
        estimated_seconds=estimate_seconds(policy, [len(wave.members) for wave in waves]),
        strategy=policy.strategy,
        offline_count=int(_holds(fleet.unfit, OFFLINE).sum()),
    )


def _last_resort(fleet: Fleet) -> Choice:
    """Choose one device although none may be a canary: of the most populous type, in its most populous region."""
    there = np.flatnonzero(~_holds(fleet.unfit, OFFLINE, ASLEEP))
    if not len(there):
        raise NoCanaryError(
            "no device may be a canary: every target is offline or asleep, and what nobody hears from cannot be "
            "watched; start when at least one is back"
        )
    one = choose_canary(fleet, there, CanaryPolicy(max_devices=1))
    (place,) = one.reasons
    return replace(
        one, reasons={place: f"most representative, although {fleet.unfit.values[fleet.unfit.codes[place]]}"}
    )


def _deal(fleet: Fleet, pool: NDArray[np.intp], policy: Policy, seed: int) -> dict[str, NDArray[np.intp]]:
    waves = policy.rollout.waves
    types = Column(fleet.device_type.codes[pool], fleet.device_type.values)
    dealt = deal_waves(types, [wave.percentage for wave in waves], seed)
    return {wave.name: pool[part] for wave, part in zip(waves, dealt, strict=True)}


def _holds(column: Column, *texts: str) -> NDArray[np.bool_]:
    """Say for each device whether its text is one of ``texts``."""
    return np.array([each in texts for each in column.values], dtype=np.bool_)[column.codes]


def by_reason(names: NDArray[np.bytes_], why: Column) -> dict[str, Names]:
    """Return the names that something stands against, by reason; the order within a reason stays."""
    places = np.flatnonzero(~_holds(why, ""))
    if not len(places):
        return {}
    places = places[stable_order(why.codes[places])]
    codes = why.codes[places]
    starts = run_starts(codes)
    parts = np.split(names[places], starts[1:])
    by_code = zip(codes[starts].tolist(), parts, strict=True)
    return dict(sorted((why.values[code], Names.of_array(part)) for code, part in by_code))


def _uncovered(fleet: Fleet, is_canary: NDArray[np.bool_]) -> tuple[str, ...]:
    """Name every type and region that has targets and no canary."""
    found: list[str] = []
    for kind, column in (("type", fleet.device_type), ("region", fleet.region)):
        there = np.flatnonzero(np.bincount(column.codes))
        missing = set(there.tolist()) - set(column.codes[is_canary].tolist())
        found += sorted(f"{kind} {column.values[code]}" for code in missing)
    return tuple(found)

"""Rules about the canary: what it can show, whom it stands for, and who must not be in it."""

from collections.abc import Iterator
from typing import Final

from orchestrator.lint.facts import CANARY, FleetFacts, GroupFacts
from orchestrator.lint.finding import Finding, counted, long_enough, name_some, note, percent, warning
from orchestrator.lint.numbers import (
    CONFIDENCE,
    chance_of_any,
    chance_of_at_least,
    devices_to_see,
    rate_not_ruled_out,
    rate_seen,
    requests_to_see,
)
from orchestrator.lint.scene import PlacedCheck, Scene
from schemas.conditions import Metric
from schemas.times import format_duration

CAP_PERCENT: Final = 5
"""The reference's upper limit of a canary that is larger than it must be."""

_RATES: Final = (0.05, 0.10, 0.20)
_LARGEST_SHARE: Final = 4  # a quarter of the fleet is no canary any more
_MARGINS: Final = 2.0


def underpowered(scene: Scene) -> Iterator[Finding]:
    """L003: what so few devices or requests cannot show."""
    canary = scene.policy.rollout.canary
    if scene.facts is None:
        if canary.max_devices is not None and canary.max_devices < devices_to_see(_RATES[0]):
            yield note("L003", "rollout.canary.max_devices", _power(canary.max_devices), _enough(None))
        return
    if scene.facts.canary < devices_to_see(_RATES[0]):
        is_weak = chance_of_any(0.10, scene.facts.canary) < 0.5  # noqa: PLR2004 - more likely missed than seen
        say = warning if is_weak else note
        yield say("L003", "rollout.canary", _power(scene.facts.canary), _enough(scene.facts.targets))
    for check, seconds in _error_rates(scene):
        for name, group in scene.facts.groups.items():
            yield from _blurred(check, seconds, name, group)


def _error_rates(scene: Scene) -> Iterator[tuple[PlacedCheck, float]]:
    """Yield the canary's checks of error rates with the seconds they look at, those that ask the same once."""
    asked = set()
    for each in scene.checks:
        if not each.is_of_canary or each.check.threshold.metric is not Metric.ERROR_RATE:
            continue
        ((_, watched),) = scene.watched_seconds(each)
        seconds = min(each.check.window or float("inf"), watched)
        if (each.check.threshold, seconds) not in asked:
            yield each, seconds
        asked.add((each.check.threshold, seconds))


def _power(devices: int) -> str:
    seen = " / ".join(percent(chance_of_any(rate, devices)) for rate in _RATES)
    return (
        f"{counted(devices, 'canary device')}: a fault of 5% / 10% / 20% of devices shows in {seen} of rollouts; "
        f"no failure proves only (at 95%) that fewer than {percent(rate_not_ruled_out(devices))} fail"
    )


def _enough(targets: int | None) -> str:
    largest = None if targets is None else targets // _LARGEST_SHARE
    fits = [rate for rate in _RATES if largest is None or devices_to_see(rate) <= largest]
    if not fits:
        return f"no canary in {counted(targets or 0, 'device')} shows much more: keep the approval, and soak longer"
    devices, rate = devices_to_see(fits[0]), percent(fits[0])
    return (
        f"{devices} devices show a fault of {rate} in 95% of rollouts; or keep the approval, and the first wave small"
    )


def _blurred(each: PlacedCheck, seconds: float, name: str, group: GroupFacts) -> Iterator[Finding]:
    """Say which error rate the requests of a group's canaries can tell from its limit."""
    baseline, per_minute = group.error_rate, (group.requests_per_minute or 0.0) * group.canary
    limit = each.check.threshold.limit_value(baseline)
    if limit is None or baseline is None or per_minute <= 0 or not baseline < limit < 1:
        return
    requests, wanted = int(per_minute * seconds / 60), min(baseline + _MARGINS * (limit - baseline), (1 + limit) / 2)
    if chance_of_at_least(int(limit * requests) + 1, requests, wanted) >= CONFIDENCE:
        return
    enough = requests_to_see(wanted, limit)
    longer = long_enough(enough, per_minute) if enough else ""
    yield warning(
        "L003",
        each.where,
        f"group {name_some([name])}: {counted(group.canary, 'canary device')} make about {requests:,} requests in "
        f"{format_duration(seconds)}; only an error rate of {percent(rate_seen(requests, limit))} or more "
        f"(baseline {percent(baseline)}, limit {percent(limit)}) is seen in 95% of rollouts",
        f"{f'{longer} show {percent(wanted)}; or ' if longer else ''}more canaries, or a looser limit",
    )


def misses_groups(scene: Scene) -> Iterator[Finding]:
    """L008: a device type or a region for which no canary stands."""
    facts = scene.facts
    if facts is None or not facts.uncovered:
        return
    for kind, sizes in (("type", facts.types), ("region", facts.regions)):
        missed = [each.removeprefix(f"{kind} ") for each in facts.uncovered if each.startswith(f"{kind} ")]
        if missed:
            devices = sum(sizes.get(each, 0) for each in missed)
            yield warning(
                "L008",
                "rollout.canary",
                f"no canary stands for {counted(len(missed), kind)} with {counted(devices, 'device')}: "
                f"{name_some(missed)}; they meet the version first in a wave",
                f"min_devices: {max(len(facts.types), len(facts.regions))}, if those devices may be canaries; "
                "or keep the first wave small",
            )


def exceeds_cap(scene: Scene) -> Iterator[Finding]:
    """L009: the canary's size contradicts itself: percentage, maximum, coverage and the 5% cap."""
    if scene.facts is None:
        return
    yield from _coverage_against_cap(scene.facts)
    canary, targets = scene.policy.rollout.canary, scene.facts.targets
    if canary.percentage is None or canary.max_devices is None:
        return
    share = -(-round(canary.percentage * 1000) * targets // 100_000)
    if share > canary.max_devices:
        yield note(
            "L009",
            "rollout.canary.max_devices",
            f"{canary.percentage:g}% of {targets:,} devices is {share:,}; max_devices makes it {canary.max_devices:,} "
            f"({percent(canary.max_devices / targets)})",
            "leave out one of the two; without both, the reference's table decides",
        )


def _coverage_against_cap(facts: FleetFacts) -> Iterator[Finding]:
    groups = max(len(facts.types), len(facts.regions))
    cap = max(1, facts.targets * CAP_PERCENT // 100)
    if groups > cap:
        yield note(
            "L009",
            "rollout.canary",
            f"one canary for each of {counted(len(facts.types), 'type')} and {counted(len(facts.regions), 'region')} "
            f"needs {groups}, more than {CAP_PERCENT}% of {counted(facts.targets, 'device')} ({cap}); "
            f"{facts.canary} planned",
            "min_devices decides which of the two wins; the largest types and regions come first",
        )


def single_points(scene: Scene) -> Iterator[Finding]:
    """L013: a device whose loss is an outage is updated, or even goes first."""
    if scene.facts is None:
        return
    for wave, devices in scene.facts.single_points.items():
        if not devices:
            continue
        said = f"{counted(len(devices), 'single point')} of failure in {wave}: {name_some(devices)}"
        if wave == CANARY:
            yield warning("L013", "rollout.canary", f"{said}; they go first", "choose other devices for the canary")
        else:
            remedy = "update them in a maintenance window, or leave them out and roll them out by themselves"
            yield note("L013", "rollout.waves", f"{said}; each is out of service while it restarts", remedy)

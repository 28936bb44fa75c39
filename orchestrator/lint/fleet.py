"""Rules about what this fleet cannot give: coverage, capacity, space, trust."""

from collections.abc import Iterator

from orchestrator.lint.facts import FleetFacts
from orchestrator.lint.finding import Finding, counted, error, name_some, note, percent, warning
from orchestrator.lint.scene import PlacedCheck, Scene
from orchestrator.telemetry.evidence import share_holds
from schemas.conditions import Absolute, Metric, percent_of


def coverage_unreachable(scene: Scene) -> Iterator[Finding]:
    """L006: more coverage is asked for than devices can be reached."""
    if scene.facts is None:
        return
    for each in scene.checks:
        limit = each.check.threshold.limit
        if each.check.threshold.metric is Metric.DEPLOYED_PERCENTAGE and isinstance(limit, Absolute):
            yield from _coverage(each, scene.judged_devices(each), scene.facts, limit.value)


def _coverage(each: PlacedCheck, judged: list[tuple[str, int]], facts: FleetFacts, limit: float) -> Iterator[Finding]:
    targets, present, operator = facts.targets, facts.present, each.check.threshold.operator
    early = next(
        ((wave, deployed) for wave, deployed in judged if not share_holds(operator, deployed, targets, limit)), None
    )
    if early is not None:
        wave, deployed = early
        yield error(
            "L006",
            each.where,
            f"{each.check.threshold} after {wave} can never hold: {deployed:,} of {targets:,} targets have their turn "
            f"until then ({percent(deployed / targets)})",
            "move the check to completion_gate",
        )
    elif not share_holds(operator, present, targets, limit):
        yield warning(
            "L006",
            each.where,
            f"{each.check.threshold} cannot hold now: {facts.offline:,} of {targets:,} targets are offline, "
            f"which leaves {percent(present / targets)}; the rollout will wait for them, or for a person",
            f"bring them back, leave them out, or ask for {present * 100 // targets}% or less",
        )


def rounds_to_zero(scene: Scene) -> Iterator[Finding]:
    """L007: a share of the fleet that is less than one device; one is used."""
    facts, update = scene.facts, scene.policy.rolling_update
    if facts is None or facts.present < 1:
        return
    by_maximum, _ = percent_of(facts.present, update.max_unavailable)
    _, needed = percent_of(facts.present, update.min_available)
    if min(by_maximum, facts.present - needed) > 0:
        return
    name = "max_unavailable" if by_maximum == 0 else "min_available"
    said = f"{update.max_unavailable:g}%" if by_maximum == 0 else f"{update.min_available:g}%"
    condition = " while all are healthy" if facts.present - needed <= 1 else ""
    yield note(
        "L007",
        f"rolling_update.{name}",
        f"{name} {said} of {counted(facts.present, 'device')} leaves none to be updated; one at a time is updated"
        f"{condition} ({percent(1 / facts.present)} out of service)",
        f"max_unavailable: {_share_of_one(facts.present)}% and min_available: {100 - _share_of_one(facts.present)}% "
        "say the same",
    )


def _share_of_one(devices: int) -> int:
    return -(-100 // devices)


def too_few_healthy(scene: Scene) -> Iterator[Finding]:
    """L019: so many devices are not healthy that nobody who is may be taken out of service."""
    facts, update = scene.facts, scene.policy.rolling_update
    if facts is None or not 0 < len(facts.unwell) < facts.present:
        return  # Where nobody is healthy, nobody waits: so it is with devices that are empty yet.
    _, needed = percent_of(facts.present, update.min_available)
    if len(facts.unwell) < max(1, facts.present - needed):
        return
    yield warning(
        "L019",
        "rolling_update.min_available",
        f"{len(facts.unwell):,} of {counted(facts.present, 'device')} are not seen to be healthy now "
        f"({name_some(facts.unwell)}), so min_available {update.min_available:g}% lets no healthy one be updated",
        "look at them with tidegate health top, take those out of service that stay ill (tidegate quarantine), or ask "
        "for less",
    )


def no_space(scene: Scene) -> Iterator[Finding]:
    """L011: devices on which the release does not fit twice."""
    if scene.facts is not None and scene.facts.no_space:
        yield warning(
            "L011",
            "strategy",
            f"{counted(len(scene.facts.no_space), 'device')} left out for want of space (twice the artifact, and what "
            f"it unpacks to): {name_some(scene.facts.no_space)}",
            "free space there, or make the release smaller; they can join a later rollout",
        )


def development_settings(scene: Scene) -> Iterator[Finding]:
    """L015: what is for trying out and not for devices that matter."""
    facts = scene.facts
    if facts is None:
        return
    if not facts.is_signed:
        yield warning(
            "L015",
            "release",
            "the release is not signed: a device with a pinned key refuses it, any other installs whatever it is given",
            "sign it when it is built, with the release key",
        )
    if facts.time_scale != 1:
        yield warning(
            "L015",
            "time_scale",
            f"every duration is divided by {facts.time_scale:g}: soaks and windows are too short to show anything",
            "leave --time-scale out",
        )

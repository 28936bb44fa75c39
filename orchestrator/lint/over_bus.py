"""L018: devices that fetch over the broker, where that is too much for it, or that a policy leaves without a source."""

from collections.abc import Iterator
from math import ceil
from typing import Final

from orchestrator.lint.finding import Finding, warning
from orchestrator.lint.scene import Scene
from schemas.times import format_duration

PIECES_BYTES_PER_SECOND: Final = 2_000_000
"""What `tidegate pieces` sends in all, if it is not told otherwise."""
BUS_BYTES_MAX: Final = 2_000_000_000
"""In one rollout: a thousand seconds at that rate, in which orders and health share the broker with it."""


def over_bus(scene: Scene) -> Iterator[Finding]:
    """Say who has no source, and where the broker has more to carry than it should."""
    if scene.facts is None:
        return
    facts, sources = scene.facts, scene.policy.distribution.sources
    without = sum(line.without_http for line in facts.lines)
    if without and sources != "auto" and "mqtt" not in sources:
        yield warning(
            "L018",
            "distribution.sources",
            f"{without} of {facts.targets} devices have no HTTP, and none of the sources is mqtt: they will fail",
            "add mqtt to sources, write auto, or leave these devices out of targets",
        )
    devices, size_bytes = sum(line.over_bus for line in facts.lines), sum(line.bus_bytes for line in facts.lines)
    if size_bytes > BUS_BYTES_MAX:
        yield warning(
            "L018",
            "distribution.sources",
            f"the broker would carry {size_bytes / 1e9:.1f} GB to {devices} devices, as archives",
            "let devices that have HTTP fetch from a registry or a cache, put mqtt last, or go on in smaller rollouts",
        )
    largest = max(facts.waves.values()) * devices / facts.targets
    needed = largest * facts.artifact_bytes / PIECES_BYTES_PER_SECOND
    given = scene.policy.rollout.global_.deploy_timeout_seconds
    if needed > given and not scene.policy.distribution.stages:
        yield warning(
            "L018",
            "rollout.global.deploy_timeout_minutes",
            f"a wave of {ceil(largest)} devices takes {format_duration(needed)} over the broker at the "
            f"{PIECES_BYTES_PER_SECOND / 1e6:.0f} MB/s of tidegate pieces, and after {format_duration(given)} a device "
            "is late; in chunks it may be less",
            f"deploy_timeout_minutes: {ceil(needed * 1.5 / 60)}, activate: manual under distribution, or smaller waves",
        )

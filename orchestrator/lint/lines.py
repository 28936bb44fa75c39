"""L017: sites whose devices may take so little of the line that an archive takes longer than they have."""

from collections.abc import Iterator
from math import ceil

from orchestrator.lint.finding import Finding, warning
from orchestrator.lint.scene import Scene
from orchestrator.planning.distribution import window_seconds
from schemas.times import format_duration


def slow_lines(scene: Scene) -> Iterator[Finding]:
    """Say where a device that fetches the archive is late, because of ``sites.yaml``.

    A device that waits for its hours is not late, so at most one stretch of them counts; nobody is late who was ordered
    ahead of the wave.
    """
    if scene.facts is None or scene.policy.distribution.stages:
        return
    given = scene.policy.rollout.global_.deploy_timeout_seconds
    for line in scene.facts.lines:
        limits = line.limits
        if limits is None or limits.bytes_per_second is None:
            continue
        whole = scene.facts.artifact_bytes / limits.bytes_per_second
        needed = min(whole, window_seconds(limits))
        if needed > given:
            yield warning(
                "L017",
                "rollout.global.deploy_timeout_minutes",
                f"{line.site}: an archive of {scene.facts.artifact_bytes / 1e6:.1f} MB takes a device "
                f"{format_duration(whole)} at {limits.bytes_per_second / 1e3:.1f} kB/s, and after "
                f"{format_duration(given)} it is late; in chunks it may be less",
                f"deploy_timeout_minutes: {ceil(needed * 1.5 / 60)}, activate: manual under distribution, "
                "or a higher bytes_per_second in sites.yaml",
            )

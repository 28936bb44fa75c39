"""The part of L002 about time: deadlines that end before a device can be done."""

from collections.abc import Iterator

from orchestrator.lint.finding import Finding, error
from orchestrator.lint.scene import Scene
from schemas.policy import RollingUpdate
from schemas.times import format_duration


def always_late(scene: Scene) -> Iterator[Finding]:
    """Say where even a perfect device fails: no install can be kept, and no canary can pass."""
    update, limits = scene.policy.rolling_update, scene.policy.rollout.global_
    needed, check, ready = shortest_trial_seconds(update), update.health_check, update.min_ready_seconds
    for where, given in (
        ("rolling_update.progress_deadline", update.progress_deadline),
        ("rollout.global.deploy_timeout_minutes", limits.deploy_timeout_seconds),
    ):
        if given <= needed:  # It takes a moment to switch and to start as well.
            value = needed if where.endswith("deadline") else needed / 60
            yield error(
                "L002",
                where,
                f"every install fails: it ends after {format_duration(given)}, and {check.success_threshold} healthy "
                f"answers {format_duration(check.interval_seconds)} apart, with {format_duration(ready)} of health, "
                f"take {format_duration(needed)} at least",
                f"{value * 2:g} leaves time to start; or fewer answers, closer together",
            )


def shortest_trial_seconds(update: RollingUpdate) -> float:
    """Return how long it takes at least from a device's first healthy answer to the one that proves it healthy."""
    check = update.health_check
    return max((check.success_threshold - 1) * check.interval_seconds, update.min_ready_seconds)

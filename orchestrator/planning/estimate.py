"""The shortest time in which a rollout can end."""

from collections.abc import Sequence

from schemas.conditions import percent_of
from schemas.policy import Policy


def estimate_seconds(policy: Policy, wave_sizes: Sequence[int]) -> float:
    """Return how long a rollout takes at least, in seconds.

    A wave installs in batches of the devices that may be updated at once, each batch takes until its devices count as
    healthy, and then the wave soaks. Time to transfer, to wait for people and to extend a soak comes on top.

    Args:
        policy: Its last waves may have been dropped because they would have been empty.
        wave_sizes: Devices of the canary and of each wave that is left, in order.

    Source:
        Reference, "Execution Flow" of "Rolling Update Pattern", and "Canary Health Evaluation".
    """
    at_once = batch_size(policy, sum(wave_sizes))
    update = policy.rolling_update
    batch_seconds = (
        update.min_ready_seconds + update.health_check.success_threshold * update.health_check.interval_seconds
    )
    batches = sum(-(-size // at_once) for size in wave_sizes)
    soaks = [policy.rollout.canary.watch_seconds, *(wave.soak_minutes * 60 for wave in policy.rollout.waves)]
    return batches * batch_seconds + sum(soak for soak, _ in zip(soaks, wave_sizes, strict=False))


def batch_size(policy: Policy, target_count: int) -> int:
    """Return how many of ``target_count`` devices may be updated at once when all are there, at least 1."""
    share, _ = percent_of(target_count, policy.rolling_update.max_unavailable)
    return max(1, min(policy.rollout.global_.max_parallel_deploys, share))

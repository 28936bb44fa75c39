import pytest

from orchestrator.planning.estimate import batch_size, estimate_seconds
from tests.core.core_bench import make_policy

HEALTH = {"interval_seconds": 10, "success_threshold": 3}


@pytest.mark.parametrize(
    ("max_unavailable", "max_parallel", "targets", "at_once"),
    [
        (10, 50, 100, 10),
        (10, 50, 99, 9),  # rounded down
        (10, 50, 5, 1),  # one at least
        (10, 50, 100_000, 50),
        (10, 5, 100, 5),
    ],
)
def test_as_many_are_updated_at_once_as_both_limits_allow(
    max_unavailable: int, max_parallel: int, targets: int, at_once: int
) -> None:
    policy = make_policy(
        limits={"max_parallel_deploys": max_parallel}, update={"max_unavailable": f"{max_unavailable}%"}
    )

    assert batch_size(policy, targets) == at_once


@pytest.mark.parametrize(
    ("sizes", "seconds"),
    [
        # a batch takes 20 + 3 * 10 s; the canary is watched for 2 + 3 min, a wave soaks for 2 min
        ([1], 50 + 300),
        ([2, 10, 10], 50 + 300 + 3 * 50 + 120 + 3 * 50 + 120),
        ([5, 95], 50 + 300 + 10 * 50 + 120),
    ],
)
def test_a_rollout_takes_at_least_its_batches_and_its_soaks(sizes: list[int], seconds: float) -> None:
    policy = make_policy(
        limits={"max_parallel_deploys": 10},
        update={"max_unavailable": "20%", "min_ready_seconds": 20, "health_check": HEALTH},
    )

    assert estimate_seconds(policy, sizes) == seconds

"""L002 about time: deadlines that not even a perfect device meets."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_client.core.probe import Health, is_proven, observe
from orchestrator.lint.deadlines import shortest_trial_seconds
from schemas.messages import HealthCheck
from tests.lint.lint_bench import REFERENCE, found, make_policy


@dataclass(frozen=True)
class Pace:
    interval: float
    answers: int
    ready: float

    def update(self, **changes: float) -> dict[str, object]:
        check = {"interval_seconds": self.interval, "success_threshold": self.answers}
        return {"health_check": check, "min_ready_seconds": self.ready, **changes}


PACES = st.builds(Pace, st.integers(1, 60).map(float), st.integers(1, 6), st.integers(0, 300).map(float))


def proven_after(pace: Pace) -> float:
    """Return when a device is proven whose every answer is healthy and comes on time, from the first answer on."""
    check = HealthCheck(interval_seconds=pace.interval, success_threshold=pace.answers)
    health, now = Health(), 0.0
    while not is_proven(health := observe(health, check, now, ok=True), check, pace.ready):
        now += pace.interval
    return now


@given(PACES)
def test_no_device_is_proven_sooner_than_said_and_a_punctual_one_hardly_later(pace: Pace) -> None:
    shortest = shortest_trial_seconds(make_policy(rolling_update=pace.update()).rolling_update)

    assert shortest <= proven_after(pace) < shortest + pace.interval


@pytest.mark.parametrize(("deadline", "is_named"), [(60, True), (61, False)])
def test_a_progress_deadline_before_a_device_can_be_healthy_is_an_error(deadline: float, *, is_named: bool) -> None:
    policy = make_policy(rolling_update={"progress_deadline": deadline}, lint={"silence": {"L002": "we hurry"}})

    findings = [each for each in found("L002", policy) if each.severity == "error"]

    assert [each.where for each in findings] == ["rolling_update.progress_deadline"] * is_named
    assert all(each.blocks for each in findings)
    said = (
        "every install fails: it ends after 1 min, and 3 healthy answers 30 s apart, with 1 min of health, "
        "take 1 min at least"
    )
    assert [each.message for each in findings] == [said] * is_named


@pytest.mark.parametrize(("minutes", "is_named"), [(10, True), (10.1, False)])
def test_a_deploy_timeout_before_a_device_can_be_healthy_is_an_error(minutes: float, *, is_named: bool) -> None:
    policy = make_policy(
        rollout={"global": {"deploy_timeout_minutes": minutes}},
        rolling_update=Pace(60.0, 11, 30.0).update(progress_deadline=3600.0),
    )

    findings = [each for each in found("L002", policy) if each.severity == "error"]

    assert [each.where for each in findings] == ["rollout.global.deploy_timeout_minutes"] * is_named
    assert all(each.remedy.startswith("20 leaves time to start") for each in findings)


def test_the_reference_leaves_time_enough() -> None:
    assert [each for each in found("L002", REFERENCE) if each.severity == "error"] == []

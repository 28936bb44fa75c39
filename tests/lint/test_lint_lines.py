"""L017: lines on which an archive takes a device longer than it has."""

from typing import Any

import pytest

from schemas.messages import FetchWindow
from tests.lint.lint_bench import found, make_facts, make_line, make_policy

MEGABYTE = 10**6
HOUR_LONG = FetchWindow(start="23:30", end="00:30")


def told(
    archive_bytes: int,
    *,
    minutes: float = 10,
    activate: str = "at_once",
    **limits: Any,  # noqa: ANN401 - any field of the limits
) -> list[str]:
    policy = make_policy(rollout={"global": {"deploy_timeout_minutes": minutes}}, distribution={"activate": activate})
    facts = make_facts(lines=(make_line(**limits),), artifact_bytes=archive_bytes)
    return [each.message for each in found("L017", policy, facts) if each.severity == "warning"]


def test_an_archive_that_takes_longer_than_the_timeout_is_named_with_its_numbers() -> None:
    said = (
        "plant-7: an archive of 60.0 MB takes a device 20 min at 50.0 kB/s, and after 10 min it is late; "
        "in chunks it may be less"
    )
    assert told(60 * MEGABYTE, bytes_per_second=50_000) == [said]


@pytest.mark.parametrize("limits", [{"bytes_per_second": 100_000}, {"window": HOUR_LONG}, {}])
def test_what_can_be_in_time_is_not_named(limits: dict[str, Any]) -> None:
    assert told(60 * MEGABYTE, **limits) == []


def test_only_one_stretch_of_hours_counts_against_the_timeout() -> None:
    slow: dict[str, Any] = {"bytes_per_second": 20_000, "window": HOUR_LONG}

    assert told(1_000 * MEGABYTE, minutes=59, **slow) != []
    assert told(1_000 * MEGABYTE, minutes=61, **slow) == []


def test_nobody_is_late_who_is_staged() -> None:
    assert told(60 * MEGABYTE, bytes_per_second=50_000, activate="manual") == []

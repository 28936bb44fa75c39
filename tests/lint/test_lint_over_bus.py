"""L018: what the broker would have to carry, and who has no source."""

from typing import Any

import pytest

from tests.lint.lint_bench import found, make_facts, make_line, make_policy

MEGABYTE = 10**6


def told(
    archive_bytes: int,
    *,
    sources: object = "auto",
    minutes: float = 10,
    activate: str = "at_once",
    **line: Any,  # noqa: ANN401 - any field of a line
) -> list[str]:
    policy = make_policy(
        rollout={"global": {"deploy_timeout_minutes": minutes}},
        distribution={"sources": sources, "activate": activate},
    )
    over_bus = line.get("over_bus", 0)
    facts = make_facts(10, lines=(make_line(bus_bytes=over_bus * archive_bytes, **line),), artifact_bytes=archive_bytes)
    return [each.message for each in found("L018", policy, facts)]


@pytest.mark.parametrize("sources", ["auto", ["registry", "mqtt"], ["mqtt"]])
def test_a_few_small_archives_are_nothing_to_speak_of(sources: object) -> None:
    assert told(20 * MEGABYTE, sources=sources, over_bus=10, without_http=10) == []


def test_devices_without_http_that_the_policy_forgets_are_counted() -> None:
    assert told(MEGABYTE, sources=["cache", "registry"], without_http=4) == [
        "4 of 10 devices have no HTTP, and none of the sources is mqtt: they will fail"
    ]


def test_gigabytes_are_named() -> None:
    assert told(300 * MEGABYTE, minutes=600, over_bus=10) == [
        "the broker would carry 3.0 GB to 10 devices, as archives"
    ]


def test_a_wave_that_is_late_at_the_rate_of_the_piece_server_is_named_unless_it_is_staged() -> None:
    (said,) = told(190 * MEGABYTE, minutes=1, over_bus=10)

    assert said.startswith("a wave of ")
    assert "over the broker at the 2 MB/s of tidegate pieces, and after 1 min a device is late" in said
    assert told(190 * MEGABYTE, minutes=1, over_bus=10, activate="manual") == []

"""``list`` with ``what: health``: the devices that are worst off, by name and with why."""

from typing import Any

import pytest

from orchestrator.core.asking_health import reasons
from orchestrator.telemetry.worst import DeviceHealth
from schemas.codec import MESSAGE, encode
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, make_fleet, make_info


def asked(bench: Bench, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of the command
    reply = bench.command("list", what="health", **body)
    assert reply.status == "ok", reply.error
    return dict(reply.data or {})


def device(**fields: Any) -> DeviceHealth:  # noqa: ANN401 - any field
    well = {
        "device": "a", "version": "1", "healthy": True, "down_seconds": None, "bad_samples": 0, "silent": False,
        "sample_age_seconds": 4.0, "requests": 1200, "errors": 0, "restarts": 0, "memory_growth": None,
    }  # fmt: skip
    return DeviceHealth(**{**well, **fields})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, []),
        ({"healthy": False, "down_seconds": 130.4}, ["endpoint down for 2 min 10 s"]),
        ({"healthy": False, "down_seconds": 0.0}, ["endpoint down"]),
        ({"healthy": False}, ["says that it is not healthy"]),
        ({"healthy": False, "silent": True, "sample_age_seconds": 300.2},
         ["was not healthy when last heard", "silent for 5 min"]),
        ({"bad_samples": 3}, ["3 bad samples in 30 min"]),
        ({"bad_samples": 1, "restarts": 1}, ["1 bad sample in 30 min", "1 restart in 30 min"]),
        ({"silent": True, "sample_age_seconds": None}, ["never heard"]),
        ({"errors": 24}, ["24 of 1,200 requests failed"]),
        ({"memory_growth": 0.0312}, ["memory grows 3.1% in 10 min"]),
        ({"memory_growth": 0.002}, []),
    ],
)  # fmt: skip
def test_why_somebody_should_look_at_a_device_is_said_in_words(fields: dict[str, Any], words: list[str]) -> None:
    assert reasons(device(**fields), 1800.0) == words


def test_a_device_that_sends_what_is_no_sample_shows_up_by_name() -> None:
    bench = Bench()
    for _ in range(3):
        bench.hear(TREE.build(Kind.HEALTH, device="d-0004"), b"no sample")

    data = asked(bench, limit=1)

    (row,) = data["devices"]
    assert (row["device"], row["bad_samples"], row["why"]) == ("d-0004", 3, "3 bad samples in 30 min")
    assert (data["count"], data["suspect"], data["unhealthy"], data["silent"]) == (6, 1, 0, 0)


def test_devices_are_chosen_by_a_filter_and_by_the_rollout_whose_order_they_hold() -> None:
    bench = Bench(make_fleet(6, group=lambda number: "odd" if number % 2 else "even"))
    bench.start()

    odd = asked(bench, where='group == "odd"')
    canary = asked(bench, rollout="r-001")

    assert [row["device"] for row in odd["devices"]] == ["d-0001", "d-0003", "d-0005"]
    assert {row["group"] for row in odd["devices"]} == {"odd"}
    assert [row["device"] for row in canary["devices"]] == list(bench.wave(0))


def test_a_rollout_that_is_not_there_and_a_filter_that_does_not_parse_are_refused() -> None:
    bench = Bench()
    bench.start()

    missing = bench.command("list", what="health", rollout="r-01").error
    wrong = bench.command("list", what="health", where="group ==").error

    assert missing is not None
    assert (missing.code, missing.did_you_mean) == ("not_found", ("r-001",))
    assert wrong is not None
    assert (wrong.code, wrong.field) == ("invalid_payload", "where")


def test_an_answer_about_many_devices_with_long_names_fits_into_one_message() -> None:
    long = "x" * 50
    fleet = {f"{long}-{number:05d}": make_info(group=long) for number in range(300)}
    bench = Bench(fleet, warm_up_seconds=60.0)
    for fake in bench.devices.values():
        fake.errors_per_sample = 7
        fake.crashes_per_sample = 1
        fake.version = "1" + "0" * 100
    bench.advance(90)

    reply = bench.command("list", what="health", limit=200)

    data = reply.data or {}
    assert len(encode(reply)) <= MESSAGE.bytes_max
    assert 100 <= len(data["devices"]) < 200
    assert data["count"] == 300

"""What a device took from media is its own word: journaled once, shown, and no rollout's affair."""

from typing import Any

import pytest

from orchestrator.core.members import Progress
from orchestrator.core.snapshot import freeze, thaw
from schemas.messages import Reported
from schemas.topics import Kind
from tests.core.core_bench import Bench, durable

CANARY = "d-0001"


def told(
    bench: Bench,
    state: str = "idle",
    version: str = "3.0.0",
    *,
    order: int | None = 40,
    code: str = "",
    refused: dict[str, Any] | None = None,
) -> None:
    """Have the canary report what it does for an order from a medium."""
    bench.devices[CANARY].version = version
    report = {
        "observed_generation": bench.state.devices[CANARY].generation, "seq": 1, "state": state, "boot_id": "boot",
        "installed_version": version, "latest_version": "3.0.0", "media": {"order": order, "refused": refused},
        "error": {"code": code, "step": "trial", "message": "it broke"} if code else None,
    }  # fmt: skip
    bench.say(Kind.REPORTED, Reported.model_validate(report), device=CANARY)


def row(bench: Bench) -> dict[str, Any]:
    data = bench.command("list", what="devices").data or {}
    found: dict[str, Any] = data["devices"][0]
    return found


def facts(bench: Bench) -> dict[str, str]:
    data = bench.command("get", device=CANARY).data or {}
    found: dict[str, str] = data["facts"]
    return found


def test_what_a_medium_brought_is_written_down_once_and_shown() -> None:
    bench = Bench()

    for _ in range(3):
        told(bench)

    assert bench.kinds().count("media_noted") == 1
    assert (row(bench)["version"], row(bench)["media"]["order"]) == ("3.0.0", 40)
    assert row(bench)["media"]["outcome"] == "installed"
    assert facts(bench)["media"] == "3.0.0 was brought by media, order 40"


def test_it_survives_a_restart_and_a_snapshot() -> None:
    bench = Bench()
    told(bench)

    assert durable(thaw(freeze(bench.state))) == durable(bench.state)
    bench.boot()

    assert bench.state.devices[CANARY].media is not None
    told(bench)
    assert bench.kinds().count("media_noted") == 1


@pytest.mark.parametrize(
    ("state", "version", "outcome"),
    [
        ("downloading", "1.0.0", "under_way"),
        ("trial", "3.0.0", "under_way"),
        ("idle", "3.0.0", "installed"),
        ("rolled_back", "1.0.0", "failed"),
        ("failed", "1.0.0", "failed"),
    ],
)
def test_each_outcome_has_its_word(state: str, version: str, outcome: str) -> None:
    bench = Bench()

    told(bench, state, version, code="unhealthy" if outcome == "failed" else "")

    assert row(bench)["media"]["outcome"] == outcome
    assert row(bench)["media"]["code"] == ("unhealthy" if outcome == "failed" else "")


def test_failure_of_what_a_medium_brought_is_no_failure_of_the_rollout_before_it() -> None:
    bench = Bench()
    bench.start()
    bench.install(CANARY)

    told(bench, "rolled_back", "2.0.0", code="unhealthy")

    assert bench.member(CANARY).progress is Progress.COMMITTED
    assert bench.state.devices[CANARY].quarantine == ""
    assert "device_failed" not in bench.kinds()


def test_version_of_an_order_that_a_medium_brought_is_not_committed_before_the_device_has_taken_the_order() -> None:
    bench = Bench()
    bench.start("3.0.0")

    told(bench)
    assert bench.member(CANARY).progress is Progress.ORDERED
    bench.report(CANARY)

    assert bench.member(CANARY).progress is Progress.COMMITTED
    assert bench.state.devices[CANARY].media is None
    assert bench.kinds().count("media_noted") == 2
    assert "grant_issued" not in bench.kinds()


def test_device_that_runs_it_already_is_no_target_of_a_later_rollout() -> None:
    bench = Bench()
    told(bench)

    bench.start("3.0.0")

    assert CANARY not in bench.rollout.members
    assert CANARY in bench.rollout.plan.excluded["runs 3.0.0 already"]


def test_refused_order_is_shown_with_its_code() -> None:
    bench = Bench()

    told(bench, version="1.0.0", order=None, refused={"order": 12, "code": "expired", "message": "it was good until"})

    assert facts(bench)["refused"] == "order 12 on media: expired: it was good until"
    assert "media" not in facts(bench)


def test_device_that_waits_under_an_order_from_a_medium_asks_for_nothing() -> None:
    bench = Bench()
    bench.start()

    told(bench, "waiting", "1.0.0")

    assert not bench.state.devices[CANARY].is_asking

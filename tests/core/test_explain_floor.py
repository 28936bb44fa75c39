"""What people are told while healthy devices wait because too many others are not healthy."""

from typing import Any

from schemas.codec import decode
from schemas.documents import StatusDocument
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, make_fleet, make_policy

UPDATE = {"max_unavailable": "20%", "min_available": "80%"}


def short_of_healthy(ill: int = 4) -> Bench:
    """Return a fleet of twenty in whose second wave so many devices are not healthy, and nobody is under way."""
    bench = Bench(make_fleet(20), make_policy(waves=[{"name": "wave-1", "percentage": 100}], update=UPDATE))
    bench.reach_wave(1)
    for name in bench.wave(1)[-ill:]:
        bench.devices[name].is_healthy = False
    bench.advance(30)
    return bench


def explained(bench: Bench, **subject: str) -> dict[str, Any]:
    return dict(bench.command("get", **subject).data or {})


def status(bench: Bench) -> StatusDocument:
    """Return the rollout's retained document."""
    return decode(StatusDocument, bench.retained()[TREE.build(Kind.STATUS, rollout="r-001")])


def reasons(bench: Bench) -> tuple[str, ...]:
    """Return why the rollout is where it is, as its retained document says."""
    return status(bench).reasons


def test_a_healthy_device_that_waits_says_for_whom_and_what_to_type() -> None:
    bench = short_of_healthy()
    first, ill = bench.wave(1)[0], bench.wave(1)[-4:]

    assert bench.ask(first).reason == "too_few_healthy"
    told = explained(bench, device=first)

    assert told["awaited"]["text"] == (
        "too few healthy devices would be left (min_available) (too_few_healthy): of 20 that are present 4 "
        f"are not seen to be healthy ({', '.join(ill[:3])}, …), 0 are under way or lost, and min_available 80% keeps "
        "16 healthy"
    )
    assert [choice["command"] for choice in told["next"]][:3] == [
        "tidegate health top --rollout r-001", f"tidegate device {ill[0]}", f"tidegate quarantine {ill[0]}",
    ]  # fmt: skip


def test_a_rollout_that_waits_for_health_says_so_in_its_explanation() -> None:
    told = explained(short_of_healthy(), rollout="r-001")

    assert told["awaited"]["text"].startswith("more healthy devices: of 20 that are present 4 are not seen")
    assert told["next"][0]["command"] == "tidegate health top --rollout r-001"


def test_a_device_that_is_not_healthy_says_so_and_waits_for_nobody() -> None:
    bench = short_of_healthy()
    ill = bench.wave(1)[-1]

    told = explained(bench, device=ill)

    assert told["facts"]["health"] == "not seen to be healthy: its last good sample says so"
    assert told["awaited"]["text"].startswith("nothing holds it")
    assert "health" not in explained(bench, device=bench.wave(1)[0])["facts"]


def test_the_status_says_it_when_it_begins_and_no_more_when_it_ends() -> None:
    bench = short_of_healthy()
    *_, last = ill = bench.wave(1)[-4:]
    said = f"min_available 80%: healthy devices wait for 4 not seen to be healthy: {', '.join(ill[:3])}, …"
    assert said in reasons(bench)
    assert status(bench).blocking_devices == 4

    bench.devices[last].is_healthy = True
    bench.advance(30)

    assert not any(reason.startswith("min_available") for reason in reasons(bench))
    assert status(bench).blocking_devices == 0


def test_nothing_is_said_while_some_healthy_device_may_go() -> None:
    bench = short_of_healthy(ill=3)

    assert not any(reason.startswith("min_available") for reason in reasons(bench))
    told = explained(bench, rollout="r-001")
    assert "to fetch it and ask for a turn" in told["awaited"]["text"]
    assert "health" not in told["next"][0]["command"]


def test_a_plan_says_beforehand_that_too_few_are_healthy() -> None:
    bench = Bench(make_fleet(20), make_policy(update=UPDATE))
    for name in ("d-0003", "d-0004", "d-0008", "d-0009"):
        bench.devices[name].is_healthy = False
    bench.advance(30)

    data = dict(bench.command("plan", release="app-2.0.0", policy="careful").data or {})

    (finding,) = [each for each in data["lint"] if each["id"] == "L019"]
    assert finding["message"].startswith(
        "4 of 20 devices are not seen to be healthy now (d-0003, d-0004, d-0008, d-0009), so min_available 80% lets"
    )

"""What an order lets its device take of the site's line: a rate, and hours of the day."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.chunked import Chunked
from device_client.adapters.failure import WindowClosedError
from device_client.adapters.pace import Pace, PacedChunks
from device_client.adapters.trust import PinnedKeys
from device_client.core.codes import ErrorCode
from device_client.core.device import next_wake
from device_client.core.effects import Fetch
from device_client.core.events import Step
from device_client.core.fetching import fetch_opens_in_seconds
from device_client.core.machine import Phase
from schemas.chunks import Chunk
from schemas.messages import FetchLimits, FetchWindow
from schemas.times import parse_timestamp
from tests.device.chunk_world import HURRIED, Exchange, World, made_world
from tests.device.device_bench import Bench
from tests.device.device_driver import unpack_here
from tests.device.device_world import RELEASE_KEY, public
from tests.device.peer_world import Device, told, with_peers

HOUR = 3600.0
NIGHT = FetchWindow(start="22:00", end="05:00", time_zone="Europe/Berlin")
NOON = parse_timestamp("2026-12-01T12:00:00+01:00")
MIDNIGHT = parse_timestamp("2026-12-01T00:00:00+01:00")
RATE = 1_000_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with made_world(tmp_path) as made:
        yield made


# The rule


@pytest.mark.parametrize(
    ("clock", "hours"),
    [("2026-12-01T12:00:00+01:00", 10), ("2026-12-01T22:00:00+01:00", 0), ("2026-12-02T04:59:59+01:00", 0),
     ("2026-12-02T05:00:00+01:00", 17), ("2026-07-01T21:00:00+02:00", 1)],
)  # fmt: skip
def test_a_window_is_one_of_the_clock_on_the_wall_there(clock: str, hours: float) -> None:
    assert fetch_opens_in_seconds(FetchLimits(window=NIGHT), parse_timestamp(clock)) == hours * HOUR


@pytest.mark.parametrize(
    ("limits", "clock"),
    [
        (None, NOON),
        (FetchLimits(bytes_per_second=20_000), NOON),
        (FetchLimits(window=NIGHT), 12 * HOUR),  # a clock that was never set shows 1970
        (FetchLimits(window=FetchWindow(start="22:00", end="05:00", time_zone="Mars/Olympus")), NOON),
    ],
)
def test_without_a_window_that_can_be_known_it_fetches_at_any_time(limits: FetchLimits | None, clock: float) -> None:
    assert fetch_opens_in_seconds(limits, clock) == 0


# The rate


class _Source:
    """Gives every chunk at once, and says how many threads were in it at a time."""

    name = "registry"

    def __init__(self) -> None:
        self.guard, self.inside, self.most = threading.Lock(), 0, 0

    def get(self, chunk: Chunk, _go_on: object) -> bytes:
        with self.guard:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.001)
        with self.guard:
            self.inside -= 1
        return b"x" * chunk.size_bytes

    def close(self) -> None:
        """Nothing is open."""


def test_several_threads_share_one_rate() -> None:
    source = _Source()
    paced = PacedChunks(source, Pace(RATE))
    chunk = Chunk("ab" * 32, 50_000)
    threads = [threading.Thread(target=lambda: paced.get(chunk, lambda: None)) for _ in range(6)]
    began_at = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert time.monotonic() - began_at >= 6 * 50_000 / RATE
    assert source.most == 1


def test_who_waits_for_the_rate_can_be_cancelled() -> None:
    def refuse() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Pace(1).take(1_000_000, refuse)


@pytest.mark.parametrize("takes_chunks", [True, False])
def test_chunks_and_archives_come_no_faster_than_ordered(world: World, *, takes_chunks: bool) -> None:
    if not takes_chunks:
        for path in (world.store / "chunks").iterdir():
            path.unlink()
    source = world.source()
    source = replace(source, artifact=source.artifact.model_copy(update={"limits": FetchLimits(bytes_per_second=RATE)}))
    began_at = time.monotonic()
    world.artifacts.fetch(source, lambda: False, world.percentages.append)

    fetched_bytes = world.registry.sent_bytes - source.manifest.size_bytes
    assert fetched_bytes > RATE
    assert time.monotonic() - began_at >= fetched_bytes / RATE * 0.95  # the chunk list is one of them


def test_neighbours_are_asked_no_faster_either(world: World, tmp_path: Path) -> None:
    giver, taker = Device(tmp_path / "giver"), Device(tmp_path / "taker", gives=False)
    try:
        giver.install(world.source())
        giver.slots.switch("green")
        taker.hear(told(world.source().artifact.sha256, str(giver.url)))
        source = with_peers(world.source(), wait_seconds=30.0)
        source = replace(
            source, artifact=source.artifact.model_copy(update={"limits": FetchLimits(bytes_per_second=RATE)})
        )
        began_at = time.monotonic()
        receipt = taker.artifacts.fetch(source, lambda: False, lambda _: None)

        assert receipt is not None
        assert receipt.carried_bytes["peers"] > RATE
        assert time.monotonic() - began_at >= receipt.carried_bytes["peers"] / RATE * 0.95
    finally:
        giver.close()


# The hours


class _Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def artifacts_at(world: World, clock: _Clock) -> Artifacts:
    identity = Identity("aarch64", "pi4", PinnedKeys((public(RELEASE_KEY),)))
    return Artifacts(world.slots, identity, unpack_here, Chunked(world.slots, tolerance=HURRIED), clock=clock)


def test_outside_of_its_hours_a_device_asks_nobody(world: World) -> None:
    source = world.source()
    source = replace(source, artifact=source.artifact.model_copy(update={"limits": FetchLimits(window=NIGHT)}))

    with pytest.raises(WindowClosedError, match=r"from 22:00 to 05:00 \(Europe/Berlin\)") as closed:
        artifacts_at(world, _Clock(NOON)).fetch(source, lambda: False, lambda _: None)

    assert closed.value.opens_in_seconds == 10 * HOUR
    assert not world.registry.asked


def test_what_came_before_the_hours_were_over_is_not_fetched_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_client.adapters.pace._WINDOW_LOOK_SECONDS", 0.0)
    source = world.source()
    source = replace(source, artifact=source.artifact.model_copy(update={"limits": FetchLimits(window=NIGHT)}))
    clock = _Clock(MIDNIGHT)

    def morning_comes(exchange: Exchange) -> bool:
        if exchange.path.startswith("/chunks/") and len(world.staged_chunks()) >= 5:
            clock.now = NOON
        return False

    world.registry.disturb = morning_comes
    with pytest.raises(WindowClosedError):
        artifacts_at(world, clock).fetch(source, lambda: False, lambda _: None)
    there = world.staged_chunks()
    assert there

    world.registry.asked.clear()
    clock.now = MIDNIGHT
    world.registry.disturb = lambda _: False
    assert artifacts_at(world, clock).fetch(source, lambda: False, lambda _: None) is not None
    assert not there & set(world.registry.chunks_asked())


def test_a_device_waits_for_its_hours_without_using_up_attempts() -> None:
    bench = Bench().started()
    bench.fail(Step.FETCH, ErrorCode.OUTSIDE_WINDOW, retryable=True)
    bench.order(1)

    assert (bench.phase(), bench.error_code, bench.record.attempts) == (Phase.WAITING, "outside_window", 0)
    assert bench.reported.state == "waiting"
    wake = next_wake(bench.device)
    assert wake is not None
    assert bench.now < wake <= bench.now + HOUR + 60
    for _ in range(9):
        bench.wait(HOUR + 60)
    assert (bench.phase(), bench.record.attempts) == (Phase.WAITING, 0)

    bench.failures.clear()
    bench.wait(HOUR + 60)
    assert (bench.phase(), bench.error_code) == (Phase.READY, None)
    assert len(bench.all(Fetch)) > 9

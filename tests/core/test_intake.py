"""What devices send of their health, on its way in."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.interpret import Refused
from orchestrator.intake import Intake, Located
from orchestrator.telemetry import limiter, offences
from orchestrator.telemetry.columns import Rows
from orchestrator.telemetry.limiter import Limiter
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.offences import Offences
from orchestrator.telemetry.places import Place
from schemas.codec import encode, encode_msgpack
from schemas.ids import shard_of
from schemas.topics import TopicTree
from tests.telemetry.telemetry_streams import sample

FLEET = {"a": 7, "b": 3, "c": 11}
"""Devices with their rows in the inventory."""


class Door:
    """An intake with its monitor, and what it refused."""

    def __init__(self) -> None:
        self.monitor = Monitor()
        self.refused: Counter[tuple[str, str]] = Counter()
        self.located: Counter[str] = Counter()
        self.group = "g"
        self.intake = Intake(self.monitor, TopicTree(), self.locate, self.refuse)

    def locate(self, device: str) -> Located | None:
        self.located[device] += 1
        return Located(Place(self.group), FLEET[device]) if device in FLEET else None

    def refuse(self, refused: Refused, count: int = 1) -> None:
        self.refused[refused.topic, refused.reason] += count

    def take(self, *messages: tuple[str, bytes], now: float = 1000.0) -> list[int]:
        devices = [device for device, _ in messages]
        shards = np.array([int(shard_of(device)) for device in devices], dtype=np.uint8)
        rows: list[int] = self.intake.take(devices, shards, [each for _, each in messages], now).tolist()
        return rows

    def requests(self, device: str, now: float = 1000.0) -> int:
        return self.monitor.window([device], version=None, seconds=None, now=now).request_count


def payload(seq: int, *, json: bool = False) -> bytes:
    return (encode if json else encode_msgpack)(sample(seq))


def test_samples_of_a_batch_are_taken_in_their_order_whatever_their_encoding() -> None:
    door = Door()
    messages = [("a", payload(1)), ("b", payload(5, json=True)), ("a", payload(2, json=True)), ("b", payload(6))]
    assert door.take(*messages) == [7, 3, 7, 3]
    assert door.requests("a") == door.requests("b") == 100
    assert not door.refused


def test_one_message_that_is_no_sample_costs_the_others_nothing() -> None:
    door = Door()
    assert door.take(("a", payload(1)), ("b", b"\xc1"), ("a", payload(2)), ("c", payload(1))) == [7, 7, 11]
    assert door.requests("a") == 100
    assert door.refused == {(f"fleet/v1/health/{shard_of('b')}/b", "undecodable"): 1}


def test_a_device_that_nobody_knows_says_nothing_until_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()
    assert door.take(("new", payload(1)), ("a", payload(1))) == [7]
    assert door.refused == {(f"fleet/v1/health/{shard_of('new')}/new", "unknown_device"): 1}
    monkeypatch.setitem(FLEET, "new", 20)
    assert door.take(("new", payload(2))) == [20]


def test_nobody_speaks_in_the_shard_of_others() -> None:
    door = Door()
    wrong = np.array([(int(shard_of("a")) + 1) % 64], dtype=np.uint8)
    assert not len(door.intake.take(["a"], wrong, [payload(1)], 1000.0))
    assert door.refused == {(f"fleet/v1/health/{wrong[0]:02d}/a", "foreign_shard"): 1}


def test_a_device_is_located_once_until_it_may_have_moved() -> None:
    door = Door()
    door.take(("a", payload(1)), ("b", payload(1)), ("a", payload(2)))
    door.take(("a", payload(3)))
    assert door.located == {"a": 1, "b": 1}
    door.intake.displace(["a", "never seen"])
    door.take(("a", payload(4)), ("b", payload(2)))
    assert door.located == {"a": 2, "b": 1}
    door.intake.displace(None)
    door.take(("a", payload(5)), ("b", payload(3)))
    assert door.located == {"a": 3, "b": 2}


def test_what_a_device_did_counts_where_it_belonged_when_it_was_heard() -> None:
    door = Door()
    door.take(("a", payload(1)), ("a", payload(2)))
    door.group = "h"
    door.intake.displace(["a"])
    door.take(("a", payload(3)), now=1100.0)
    for group, requests in (("g", 100), ("h", 100)):
        found = door.monitor.baseline(group, now=1100.0, seconds=3600, excluding_version="1", min_samples=1)
        assert found is not None
        assert found.request_count == requests


def test_a_flood_is_counted_as_bad_before_it_is_decoded_and_takes_nothing_from_others() -> None:
    door = Door()
    flood = [("a", b"nonsense")] * 1000
    door.take(("a", payload(1)), *flood, ("b", payload(1)), ("b", payload(2)))
    topic = f"fleet/v1/health/{shard_of('a')}/a"
    assert door.refused == {
        (topic, "undecodable"): limiter.BURST_COUNT - 1,
        (topic, "flood"): 1001 - limiter.BURST_COUNT,
    }
    assert door.requests("b") == 100
    assert tuple(door.monitor.window(["a", "b"], version=None, seconds=None, now=1000.0).suspect) == ("a",)


def test_a_device_that_floods_for_a_minute_is_named_once() -> None:
    door = Door()
    named: list[list[str]] = []
    for second in range(150):
        door.take(*[("a", payload(1))] * 100, ("b", payload(second)), now=1000.0 + second)
        named.append(door.intake.troublemakers(1000.0 + second))
    assert not any(named[:60])
    assert [each for each in named if each] == [["a"], ["a"]]  # and again, when it goes on for another minute


def test_a_device_that_sends_nonsense_for_long_is_named() -> None:
    door = Door()
    named = []
    for turn in range(offences.COUNT_MIN):
        door.take(("a", b"\xc1"), now=1000.0 + 30 * turn)
        named += door.intake.troublemakers(1000.0 + 30 * turn)
    assert named == ["a"]


@pytest.mark.parametrize(("count", "apart"), [(offences.COUNT_MIN - 1, 30.0), (200, 61.0), (200, 0.2)])
def test_few_rare_or_short_offences_are_forgiven(count: int, apart: float) -> None:
    found = Offences()
    for turn in range(count):
        found.note(np.array([3]), apart * turn)
        assert not len(found.over(apart * turn))


def test_offenders_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offences, "OFFENDERS_MAX", 10)
    found = Offences()
    for now in range(0, 120, 5):
        found.note(np.repeat(np.arange(12), 10), float(now))
    assert set(found.over(115.0).tolist()) == set(range(2, 12))


def _one_by_one(stream: list[tuple[float, list[int]]]) -> Iterator[bool]:
    """Say of each message whether a bucket of its own lets it through; the obvious reading."""
    tokens: dict[int, float] = {}
    asked_at: dict[int, float] = {}
    for now, rows in stream:
        for row in rows:
            held = tokens.get(row, limiter.BURST_COUNT) + limiter.SAMPLES_PER_SECOND * (now - asked_at.get(row, now))
            tokens[row], asked_at[row] = min(held, limiter.BURST_COUNT), now
            yield tokens[row] >= 1 - 1e-9
            tokens[row] -= tokens[row] >= 1 - 1e-9


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.125, 1.0, 4.0]), st.lists(st.sampled_from([0, 1, 9]), max_size=70)),
        max_size=12,
    )
)
def test_the_limiter_is_a_token_bucket_for_each_device(steps: list[tuple[float, list[int]]]) -> None:
    found, now, stream = Limiter(), 1000.0, []
    admitted: list[bool] = []
    for pause, rows in steps:
        now += pause
        stream.append((now, rows))
        admitted += found.admit(_rows(rows), now).tolist()
    assert admitted == list(_one_by_one(stream))


def _rows(rows: list[int]) -> Rows:
    return np.array(rows, dtype=np.intp)

"""Evaluators hand samples on, and what comes of them is as if the orchestrator had read everything itself."""

from collections import Counter
from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.inputs import BundleReceived
from orchestrator.core.interpret import Refused
from orchestrator.core.leases import ALL_SHARDS
from orchestrator.evaluator import Evaluator
from orchestrator.evaluators import Evaluators
from orchestrator.intake import Intake, Located
from orchestrator.outgoing import Outgoing
from orchestrator.telemetry.bundle import BUNDLE_MAX_BYTES, NOTES_MAX, SAMPLES_MAX, Bundle, decode_bundle, encode_bundle
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.sample import Sample
from orchestrator.telemetry.sample_table import NUMBERS, SampleTable
from schemas.codec import decode, encode, encode_msgpack
from schemas.documents import ShardLease
from schemas.errors import DecodeError
from schemas.ids import shard_of
from schemas.messages import HealthSample
from schemas.topics import TopicTree
from tests.telemetry.telemetry_streams import Stream, sample, shown, sketch_of, streams

TREE = TopicTree()
FLEET = ("a", "b", "c")
LOW = frozenset(range(32))


class House:
    """An orchestrator's intake, and the evaluators beside it."""

    def __init__(self, *wanted: frozenset[int]) -> None:
        self.monitor = Monitor()
        self.refused: Counter[tuple[str, str]] = Counter()
        self.intake = Intake(self.monitor, TREE, self._locate, self._refuse)
        self.evaluators = Evaluators(self.intake, TREE, self._refuse)
        self.workers = {f"e{number}": Evaluator(f"e{number}", TREE, each) for number, each in enumerate(wanted)}
        self.shards: dict[str, frozenset[int]] = {}
        self.now = 1000.0
        self.lease()

    def _locate(self, device: str) -> Located | None:
        return Located(Place("g"), FLEET.index(device)) if device in FLEET else None

    def _refuse(self, refused: Refused, count: int) -> None:
        self.refused[refused.topic, refused.reason] += count

    def deliver(self, worker: str, said: list[Outgoing]) -> list[int]:
        rows: list[int] = []
        for each in said:
            assert each.topic == f"fleet/v1/evaluator/{worker}/samples"
            assert len(each.payload) <= BUNDLE_MAX_BYTES
            rows += self.evaluators.take(BundleReceived(worker, each.payload), self.now).tolist()
        return rows

    def hand_on(self) -> None:
        for name, worker in self.workers.items():
            self.deliver(name, worker.hand_on())

    def lease(self) -> None:
        """Let the evaluators have their leases and read under them."""
        self.hand_on()
        for each in self.evaluators.let(1, self.now):
            name = each.topic.split("/")[3]
            lease = decode(ShardLease, each.payload)
            self.workers[name].term, self.shards[name] = lease.term, frozenset(lease.shards)
        self.hand_on()

    def hear(self, device: str, payload: bytes) -> None:
        """Have a device's message read by whoever reads its shard."""
        shard = int(shard_of(device))
        args = [device], np.array([shard], dtype=np.uint8), [payload], self.now
        for name, worker in self.workers.items():
            if shard in self.shards[name]:
                self.deliver(name, worker.hear(*args))
        if shard in self.evaluators.own():
            self.intake.take(*args)


def facts(monitor: Monitor, now: float) -> object:
    window = monitor.window(FLEET, version=None, seconds=None, now=now)
    slow = (shown(window), [monitor.version_of(each) for each in FLEET])
    return slow, monitor.endpoints_down(FLEET, version=None, now=now), [monitor.last_seen(each) for each in FLEET]


@given(streams(), st.integers(0, 63), st.sampled_from([encode, encode_msgpack]))
def test_two_evaluators_and_one_give_the_same_as_none(
    stream: Stream, cut: int, write: Callable[[HealthSample], bytes]
) -> None:
    low = frozenset(range(cut))
    houses = House(), House(ALL_SHARDS), House(low, ALL_SHARDS - low), House(low)
    for device, new, at in stream:
        for house in houses:
            if house.now != 1000.0 + at:
                house.hand_on()  # What waits in an evaluator comes a moment later; here it comes in time.
            house.now = 1000.0 + at
            house.hear(device, write(new))
    for house in houses:
        house.hand_on()
    assert all(house.refused == houses[0].refused for house in houses)
    assert all(facts(house.monitor, house.now) == facts(houses[0].monitor, houses[0].now) for house in houses)


def test_latencies_and_qualities_survive_the_way() -> None:
    here, there = House(), House(ALL_SHARDS)
    for house in (here, there):
        for seq in range(3):
            spoken = sample(seq, latency=sketch_of([0.1, 0.2]), quality={"accuracy": 0.5}) if seq else sample(seq)
            house.hear("a", encode_msgpack(spoken))
        house.hand_on()
    both = [each.monitor.window(FLEET, version=None, seconds=None, now=1000.0).together for each in (here, there)]
    assert both[0] == both[1]
    assert both[0].latency.count == 4


def test_what_is_refused_is_counted_by_name_wherever_it_was_read() -> None:
    here, there = House(), House(ALL_SHARDS)
    for house in (here, there):
        house.hear("a", b"poison")
        house.hear("nobody", encode(sample(0)))
        for _ in range(70):
            house.hear("b", encode_msgpack(sample(1)))
        house.hand_on()
        assert house.monitor.window(FLEET, version=None, seconds=None, now=1000.0).suspect == ("b",)

    assert there.refused == here.refused
    assert {reason for _, reason in there.refused} == {"undecodable", "unknown_device", "flood"}


def test_an_evaluator_speaks_only_for_the_shards_of_its_lease() -> None:
    house = House(LOW)
    foreign = next(each for each in FLEET if int(shard_of(each)) not in LOW)
    bundle = Bundle.of(house.workers["e0"].term, (), [foreign], table_of(1), bad=[(foreign, 3)], notes=())

    assert house.evaluators.take(BundleReceived("e0", encode_bundle(bundle)), 1000.0).tolist() == []
    assert {reason for _, reason in house.refused} == {"foreign_shard"}
    assert house.monitor.last_seen(foreign) is None


def test_what_is_sent_under_a_lease_that_has_ended_is_not_taken() -> None:
    house = House(ALL_SHARDS)
    house.workers["e0"].hear(["a"], np.array([int(shard_of("a"))], dtype=np.uint8), [encode(sample(0))], house.now)
    house.evaluators.lose("e0")
    house.hand_on()

    assert house.refused == {("fleet/v1/evaluator/e0/samples", "stale_lease"): 1}
    assert house.monitor.last_seen("a") is None
    assert house.evaluators.own() == ALL_SHARDS


def table_of(count: int) -> SampleTable:
    return SampleTable.of([Sample.of(sample(seq)) for seq in range(count)])


def test_many_samples_are_parted_into_messages_that_a_broker_takes() -> None:
    house = House(ALL_SHARDS)
    wide = HealthSample.model_validate(
        {"seq": 1, "boot_id": "b", "latency": {"gamma": 1.02, "offset": 0, "counts": [200] * 1000}}
    )
    hear = partial(house.workers["e0"].hear, now=house.now)
    names = [f"d{number}" for number in range(SAMPLES_MAX - 1)]
    shards = np.array([int(shard_of(each)) for each in names], dtype=np.uint8)
    assert hear(names, shards, [encode_msgpack(wide)] * len(names)) == []

    said = house.workers["e0"].hand_on()
    assert all(len(each.payload) <= BUNDLE_MAX_BYTES for each in said)
    assert sum(len(decode_bundle(each.payload).devices) for each in said) == len(names)
    assert house.workers["e0"].count == 0


def test_names_that_somebody_invents_do_not_fill_a_message() -> None:
    house = House(ALL_SHARDS)
    house.workers["e0"].hear_odd([f"fleet/v1/health/99/x{number}" for number in range(10 * NOTES_MAX)])
    house.hand_on()

    assert sum(house.refused.values()) == 10 * NOTES_MAX
    assert len(house.refused) == NOTES_MAX // 2 + 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"boots": []}, "boots"),
        ({"numbers": b"123"}, "numbers"),
        ({"columns": (0, 0)}, "numbers"),
        ({"words": [(1, None, None)]}, "words"),
        ({"columns": (NUMBERS.index("seq"),), "numbers": np.array([0.5]).tobytes()}, "seq"),
        ({"columns": (NUMBERS.index("seq"),), "numbers": np.array([np.nan]).tobytes()}, "seq"),
        ({"columns": (0, NUMBERS.index("seq")), "numbers": np.array([-1.0, 1.0]).tobytes()}, "numbers"),
        ({"columns": (0, NUMBERS.index("seq")), "numbers": np.array([np.inf, 1.0]).tobytes()}, "numbers"),
    ],
)
def test_a_bundle_whose_parts_do_not_fit_is_refused_whole(change: dict[str, object], field: str) -> None:
    bundle = Bundle.of("1-1", (), ["a"], table_of(1), bad=(), notes=())
    fields = {**msgspec.structs.asdict(bundle), **change}

    with pytest.raises(DecodeError) as caught:
        decode_bundle(msgspec.msgpack.encode(list(fields.values()))).table()
    assert caught.value.field == field


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"x" * (BUNDLE_MAX_BYTES + 1), b"\x93\x01\x02\x03"])
def test_what_is_no_bundle_is_refused(payload: bytes) -> None:
    house = House(ALL_SHARDS)

    assert house.evaluators.take(BundleReceived("e0", payload), house.now).tolist() == []
    assert house.refused == {("fleet/v1/evaluator/e0/samples", "undecodable"): 1}

"""Rollouts whose health is read by evaluators: the same verdicts, and none on half the evidence."""

from typing import Any

import numpy as np

from orchestrator.core.inputs import BundleReceived, Tick
from orchestrator.core.leases import ALL_SHARDS
from orchestrator.core.rollout import Phase
from orchestrator.core.soaking import soaked_seconds
from orchestrator.evaluator import Evaluator
from schemas.codec import decode
from schemas.documents import ShardLease
from schemas.ids import shard_of
from tests.core.core_bench import TREE, Bench, make_fleet

LOW, HIGH = frozenset(range(32)), frozenset(range(32, 64))


class SharedBench(Bench):
    """A bench whose devices are heard by evaluators, and by the orchestrator where none reads."""

    workers: dict[str, Evaluator]
    shards: dict[str, frozenset[int]]
    reads_itself: bool

    def __init__(self, *wanted: frozenset[int], **fields: Any) -> None:  # noqa: ANN401 - those of a bench
        self.workers = {f"e{number}": Evaluator(f"e{number}", TREE, each) for number, each in enumerate(wanted)}
        self.shards = dict.fromkeys(self.workers, frozenset())
        self.reads_itself = True
        super().__init__(**fields)

    def measure(self, name: str, payload: bytes) -> None:
        shard = int(shard_of(name))
        for worker, evaluator in self.workers.items():
            if shard in self.shards[worker]:
                evaluator.hear([name], np.array([shard], dtype=np.uint8), [payload], self.now)
        if shard in self.engine.evaluators.reads:
            super().measure(name, payload)

    def hand_on(self, worker: str) -> None:
        for each in self.workers[worker].hand_on():
            self.take(self.engine.handle(BundleReceived(worker, each.payload), self.now))

    def tick(self) -> None:
        for worker in self.workers:
            self.hand_on(worker)
        for each in self.take(self.engine.handle(Tick(), self.now)):
            if each.topic.endswith("/lease") and each.payload:
                worker, lease = each.topic.split("/")[3], decode(ShardLease, each.payload)
                self.workers[worker].term, self.shards[worker] = lease.term, frozenset(lease.shards)
        self.engine.evaluators.reads = self.engine.evaluators.own() if self.reads_itself else frozenset()

    def kill(self, worker: str) -> None:
        del self.workers[worker]


def halves(**fields: Any) -> SharedBench:  # noqa: ANN401 - those of a bench
    return SharedBench(LOW, HIGH, **fields)


def told(bench: Bench) -> list[tuple[str, float]]:
    return [(entry.kind, entry.at) for entry in bench.entries()]


def good_rollout(bench: Bench) -> Bench:
    bench.start()
    while bench.phase() in {Phase.DEPLOYING, Phase.SOAKING}:
        bench.install_wave()
        bench.soak()
    return bench


def bad_rollout(bench: Bench) -> Bench:
    bench.start()
    bench.install_wave(errors_per_sample=30)
    bench.advance(120)
    return bench


def test_rollouts_end_the_same_whoever_reads_the_health() -> None:
    fleet = make_fleet(12)
    assert {int(shard_of(name)) in LOW for name in fleet} == {True, False}
    for story, phase in ((good_rollout, Phase.COMPLETED), (bad_rollout, Phase.ROLLING_BACK)):
        alone, one, two = (
            story(each) for each in (Bench(fleet), SharedBench(ALL_SHARDS, fleet=fleet), halves(fleet=fleet))
        )
        assert alone.phase() is phase
        assert told(alone) == told(one) == told(two)
        judged = [each.facts("gate_judged") for each in (alone, one, two)]
        assert judged[0] == judged[1] == judged[2]


def test_no_gate_passes_and_no_soak_counts_while_nobody_reads_the_shards_of_one_that_died() -> None:
    bench = halves(fleet=make_fleet(12))
    bench.start()
    bench.install_wave()
    bench.advance(40)
    soaked, bench.reads_itself = soaked_seconds(bench.rollout, bench.now), False
    assert bench.phase() is Phase.SOAKING
    bench.kill("e1")
    bench.advance(3600)

    assert (bench.phase(), bench.rollout.wave) == (Phase.SOAKING, 0)
    assert bench.rollout.soaked_seconds <= soaked
    assert bench.state.unread == "nobody reads the health of shards 32-63"

    bench.reads_itself = True
    bench.advance(10)
    bench.advance(10)
    assert bench.state.unread == ""
    assert soaked_seconds(bench.rollout, bench.now) <= soaked + 20
    bench.advance(400)
    assert bench.rollout.wave == 1


def test_what_turns_bad_among_those_that_are_read_goes_back_all_the_same() -> None:
    bench = halves(fleet=make_fleet(12))
    bench.reach_wave(1)
    members = bench.install_wave()
    bench.reads_itself = False
    bench.kill("e1")
    heard = [name for name in members if int(shard_of(name)) in LOW]
    for name in heard:
        bench.devices[name].crashes_per_sample = 2
    bench.advance(300)

    assert heard
    first = bench.facts("rollback_ordered")[0]
    assert (first["trigger"], first["devices"][0] in heard) == ("crash_loop", True)


def test_another_that_wants_them_reads_the_shards_of_one_that_died_within_ten_seconds() -> None:
    bench = SharedBench(ALL_SHARDS, ALL_SHARDS, fleet=make_fleet(12))
    bench.advance(20)
    assert sorted(map(len, bench.shards.values())) == [32, 32]
    assert bench.engine.evaluators.own() == frozenset()
    bench.kill("e0")
    for _ in range(10):
        bench.advance(1)

    assert bench.shards["e1"] == ALL_SHARDS
    assert bench.state.unread == ""
    assert bench.engine.evaluators.own() == frozenset()


def test_it_is_told_who_reads_what_and_what_nobody_reads() -> None:
    bench = halves(fleet=make_fleet(12))
    bench.tick()
    assert readers(bench) == ({"e0": "0-31", "e1": "32-63"}, "none", "none")

    bench.kill("e1")
    bench.reads_itself = False
    bench.now += 3.0
    bench.hand_on("e0")

    rows = bench.command("list", what="evaluators").data or {}
    late = {each["evaluator"]: (each["late"], each["heard_seconds"]) for each in rows["evaluators"]}
    assert late == {"e0": (False, 0.0), "e1": (True, 3.0)}
    assert rows["unread"] == "32-63", "its heartbeat is missing, so nobody is sure that it reads"

    bench.advance(30.0)
    assert readers(bench) == ({"e0": "0-31"}, "none", "32-63")
    told = bench.command("list").data or {}
    assert told["unread"] == "nobody reads the health of shards 32-63"


def test_an_orchestrator_without_evaluators_says_that_it_reads_everything() -> None:
    assert readers(Bench()) == ({}, "0-63", "none")


def readers(bench: Bench) -> tuple[dict[str, str], str, str]:
    data = bench.command("list", what="evaluators").data or {}
    return {each["evaluator"]: each["reads"] for each in data["evaluators"]}, data["orchestrator_reads"], data["unread"]

"""What a sample costs the orchestrator when an evaluator has read it, and what when it reads it itself.

No broker: the processor's time alone, of the same fleet's samples, in batches as a busy stream brings them. The bar is
what the orchestrator spends when it reads for itself, measured in the same run.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
from firehose import TREE, name_of
from numpy.typing import NDArray
from readers import make_engine
from scene import machine

from orchestrator.adapters.journal import Journal
from orchestrator.core.inputs import Tick
from orchestrator.core.interpret import Received
from orchestrator.core.leases import ALL_SHARDS
from orchestrator.evaluator import Evaluator
from orchestrator.outgoing import Outgoing
from orchestrator.service import Engine
from schemas.codec import decode
from schemas.documents import ShardLease
from schemas.ids import shard_of

BATCH: Final = 2_000
"""Messages that come together in a turn of the stream."""
READ_AT_ONCE: Final = 4
"""Bundles that the orchestrator finds waiting: of several evaluators, or of a busy one."""


class Fleet:
    """The same samples for everybody, again and again with a higher ``seq``."""

    def __init__(self, devices: int) -> None:
        self.names = [name_of(number) for number in np.random.default_rng(1).permutation(devices)]
        self.shards = np.array([int(shard_of(name)) for name in self.names], dtype=np.uint8)

    def batches(self, seq: int) -> list[tuple[list[str], NDArray[np.uint8], list[bytes]]]:
        """Return one round of the fleet."""
        starts = range(0, len(self.names), BATCH)
        return [
            (
                self.names[at : at + BATCH],
                self.shards[at : at + BATCH],
                [_payload(seq, each) for each in self.names[at : at + BATCH]],
            )
            for at in starts
        ]


def _payload(seq: int, name: str) -> bytes:
    sample = {
        "seq": seq, "boot_id": f"b{name}", "version": "1.2.3", "requests_total": 100_000 + 100 * seq,
        "errors_total": 300, "restarts_total": 0, "memory_bytes": 100_000_000, "cpu_ratio": 0.2, "healthy": True,
        "endpoint_up": True,
    }  # fmt: skip
    return msgspec.msgpack.encode(sample)


def _timed(work: Callable[[], object], count: int) -> float:
    """Return the processor's time for each of ``count`` samples, in microseconds."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / count * 1e6


def measure(devices: int, runs: int) -> dict[str, float]:
    """Return the medians over rounds of the whole fleet."""
    fleet = Fleet(devices)
    alone, beside = (make_engine(devices, Journal(None)) for _ in range(2))
    worker = Evaluator("evaluator", TREE, ALL_SHARDS)
    found: dict[str, list[float]] = {"alone": [], "evaluator": [], "orchestrator": []}
    for engine in (alone, beside):
        engine.start(0.0)
    for number in range(runs + 1):
        now = 30.0 * (number + 1)
        batches = fleet.batches(number)
        said: list[Outgoing] = []
        _lease(beside, worker, now)
        cost = {
            "alone": _timed(lambda: _hear(alone, batches, now), devices),  # noqa: B023 - called at once
            "evaluator": _timed(lambda: said.extend(_read(worker, batches, now)), devices),  # noqa: B023 - the same
            "orchestrator": _timed(lambda: _take(beside, said, now), devices),  # noqa: B023 - the same
        }
        for name, spent in cost.items():
            found[name] += [spent] if number else []  # In the first round every device is new.
        if number == runs:
            found["bytes"] = [sum(len(each.payload) for each in said) / devices]
    assert dict(alone.context.monitor.outcomes) == dict(beside.context.monitor.outcomes), "both took the same"
    return {name: statistics.median(each) for name, each in found.items()}


def _lease(engine: Engine, worker: Evaluator, now: float) -> None:
    _take(engine, worker.hand_on(), now)
    for each in engine.handle(Tick(), now):
        if each.topic.endswith("/lease"):
            worker.term = decode(ShardLease, each.payload).term


def _hear(engine: Engine, batches: Sequence[tuple[list[str], NDArray[np.uint8], list[bytes]]], now: float) -> None:
    for names, shards, payloads in batches:
        engine.hear(names, shards, payloads, now)
        engine.context.monitor.settle()


def _read(
    worker: Evaluator, batches: Sequence[tuple[list[str], NDArray[np.uint8], list[bytes]]], now: float
) -> list[Outgoing]:
    return [each for names, shards, payloads in batches for each in worker.hear(names, shards, payloads, now)]


def _take(engine: Engine, said: Sequence[Outgoing], now: float) -> None:
    for number, each in enumerate(said, start=1):
        engine.receive(Received(each.topic, each.payload), now)
        if number % READ_AT_ONCE == 0 or number == len(said):
            engine.react(now)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5, help="rounds of the fleet that count")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = measure(options.devices, options.runs)
    ratio = found["orchestrator"] / found["alone"]
    if options.json:
        print(json.dumps({
            "name": "evaluators", "figure": round(found["orchestrator"], 3), "bar": round(found["alone"], 3),
            "ratio": round(ratio, 3), "unit": "us", "evaluator_us": round(found["evaluator"], 3),
            "bundle_bytes": round(found["bytes"], 1), "machine": machine(),
        }))  # fmt: skip
        return
    print(machine())
    print(f"{options.devices:,} devices, median of {options.runs} rounds; processor time for each sample:")
    print(f"  the orchestrator reads by itself         {found['alone']:.2f} us")
    print(f"  an evaluator reads and hands on          {found['evaluator']:.2f} us, {found['bytes']:.0f} bytes")
    print(f"  the orchestrator takes what it hands on  {found['orchestrator']:.2f} us, {ratio:.2f} of that by itself")


if __name__ == "__main__":
    main()

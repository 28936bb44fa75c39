"""What a scrape of a million devices in a rollout costs: for how long nothing else is decided, in processor time.

The fleet and the rollout are those of ``restart.py``. ``--kinds`` makes so many devices one of their kind, which is
what a scrape after a restart has to learn.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import time
import urllib.request
from itertools import takewhile
from types import SimpleNamespace
from typing import Any, cast

from restart import NOW, events
from scene import machine

from orchestrator.adapters.journal import Journal
from orchestrator.adapters.metric_facts import FactMetrics
from orchestrator.adapters.registry import serve_app
from orchestrator.adapters.watching import Watched, create_app
from orchestrator.core import events as e
from orchestrator.core.context import Context
from orchestrator.core.inventory import NOT_ANNOUNCED, Device
from orchestrator.core.state import State, evolve
from orchestrator.service import Engine
from orchestrator.telemetry.monitor import Monitor
from schemas.topics import TopicTree

BAR_SECONDS = 0.1
BEAT_SECONDS = 0.001


def make_state(devices: int, kinds: int) -> State:
    """Return a fleet in a rollout whose canary has been ordered; ``kinds`` of the devices are one of their kind."""
    state = State()
    for event in takewhile(lambda event: not isinstance(event, e.DeviceCommitted), events(state, devices)):
        evolve(state, event, NOW)
    for number in range(kinds):
        state.devices[state.devices.names[number]].info = NOT_ANNOUNCED.model_copy(update={"site": f"site-{number}"})
    state.devices.column(Device.is_online)[::10] = False
    return state


async def measure(state: State, runs: int, *, per_device: bool) -> dict[str, Any]:
    """Scrape and return, for the first scrape and the others, how long the loop did nothing else."""
    journal, now = Journal(None), [NOW]
    journal.open_epoch(NOW)
    engine = Engine(journal, Context(Monitor(), {}, {}, "http://registry"), lambda payload: payload, TopicTree())
    engine.resume(state, 0)
    bus = cast("Any", SimpleNamespace(is_connected=True, failure=None))
    watched = Watched(engine, bus, journal, FactMetrics(), lambda: now[0], 1.0)
    stalls, spent, size = [], [], 0
    async with serve_app(create_app(watched, per_device=per_device), "127.0.0.1", 0, what="metrics") as url:
        for _ in range(runs + 1):
            now[0] += 15.0
            beating = asyncio.create_task(_longest_beat())
            await asyncio.sleep(0.05)
            began = time.process_time()
            size = len(await asyncio.to_thread(_get, f"{url}/metrics"))
            spent.append(time.process_time() - began)
            beating.cancel()
            stalls.append(await beating)
    return {
        "first_stall_seconds": round(stalls[0], 4),
        "stall_seconds": round(statistics.median(stalls[1:]), 4),
        "processor_seconds": round(statistics.median(spent[1:]), 4),
        "first_processor_seconds": round(spent[0], 4),
        "bytes": size,
    }


async def _longest_beat() -> float:
    """Return the most processor time that the loop's thread spent between two beats: other processes do not count."""
    longest, before = 0.0, time.thread_time()
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = time.thread_time()
            longest, before = max(longest, now - before), now
    return longest


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return cast("bytes", answer.read())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--kinds", type=int, default=0)
    parser.add_argument("--per-device", action="store_true", help="name each device")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    state = make_state(options.devices, options.kinds)
    found = asyncio.run(measure(state, options.runs, per_device=options.per_device))
    figure = found["stall_seconds"]
    facts = {
        "name": f"scrape_{options.devices}_devices_seconds", "figure": figure, "unit": "s", "bar": BAR_SECONDS,
        "ratio": round(figure / BAR_SECONDS, 2), **found, "machine": machine(),
    }  # fmt: skip
    if options.json:
        print(json.dumps(facts))
        return
    print(facts["machine"])
    print(f"scrape of {options.devices:,} devices in a rollout, {found['bytes']:,} bytes, median of {options.runs}:")
    print(f"nothing else for {figure * 1000:.1f} ms, bar {BAR_SECONDS * 1000:g}, ratio {facts['ratio']}")
    print(f"processor {found['processor_seconds'] * 1000:.1f} ms")
    print(f"the first scrape: nothing else for {found['first_stall_seconds'] * 1000:.1f} ms at a time")


if __name__ == "__main__":
    main()

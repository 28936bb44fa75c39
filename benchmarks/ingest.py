"""How fast the fleet's health becomes evidence: publishers, a mosquitto, and a reader on this machine.

Saturated: as many samples as the broker delivers, to tidegate and, over the same broker in the same run, to a reader on
a raw socket that throws them away. Paced: a fleet that reports every 30 s, and how old each sample is when its device
can be judged by it. A flood is one device that sends a third of what the broker delivers.
"""

import argparse
import json
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from firehose import Firehose, Round, firehose
from readers import Reader, Reading, Tally, reader
from scene import machine
from verdict import verdict_to_broker

CONF: Final = """
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 1000000
max_inflight_messages 1000
set_tcp_nodelay true
log_type error
"""
"""As broker-config has it, without users: fifty connections stand for a million devices."""
BARS: Final = {0: 0.95, 1: 0.85}
PARTS: Final = ("qos0", "qos1", "fleet", "large", "flood", "verdict")
INTERVAL_SECONDS: Final = 30
FLOOD_PERCENT: Final = 33
SATURATED_COUNT: Final = 900_000
SATURATED_DEVICES: Final = 300_000
"""With fewer messages than mosquitto keeps for a reader, so that nothing is lost."""
LOOPERS: Final = 300
MEETING_RATE: Final = 50_000.0


@dataclass(frozen=True)
class Figure:
    """What was measured, beside its bar; None where there is no bar."""

    name: str
    figure: float
    bar: float | None
    unit: str
    more: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Return it for machines."""
        ratio = round(self.figure / self.bar, 3) if self.bar else None
        return {
            "name": self.name, "figure": round(self.figure, 3), "bar": self.bar, "ratio": ratio, "unit": self.unit,
            **self.more,
        }  # fmt: skip

    def __str__(self) -> str:
        facts = self.facts()
        bar = "" if self.bar is None else f", bar {self.bar:g}" + (f", ratio {facts['ratio']}" if self.bar else "")
        more = f"  {dict(self.more)}" if self.more else ""
        return f"{self.name}: {facts['figure']:g} {self.unit}".rstrip() + bar + more


@contextmanager
def mosquitto() -> Iterator[int]:
    """Start a broker; yield its port."""
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as conf:
        conf.write(CONF.format(port=port))
        conf.flush()
        with subprocess.Popen([program, "-c", conf.name]) as process:
            try:
                _await(port)
                yield port
            finally:
                process.terminate()


def _await(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("mosquitto did not start: apt install mosquitto")


def measured(hose: Firehose, taker: Reader, wanted: Round) -> Tally:
    """Send a round and return what was read of it."""
    taker.begin(is_aged=wanted.rate is not None)
    hose.send(wanted)
    hose.sent()
    return taker.tally()


def meet(hose: Firehose, taker: Reader, devices: int) -> None:
    """Let each device be heard once, which is not measured."""
    measured(hose, taker, Round(devices, MEETING_RATE))


def saturated(qos: int, devices: int, count: int, runs: int) -> Iterator[Figure]:
    """Compare what both readers get of as much as the broker delivers."""
    rates: dict[Reading, list[float]] = {"discard": [], "tidegate": []}
    costs_us, lost = [], 0
    with mosquitto() as port, firehose(port, devices, qos) as hose:
        for _ in range(runs):
            for kind, reached in rates.items():
                with reader(kind, port, devices, qos) as taker:
                    meet(hose, taker, devices)
                    tally = measured(hose, taker, Round(count))
                    reached.append(tally.rate)
                    if kind == "tidegate":
                        lost += count - tally.received
                        costs_us.append(tally.cpu_seconds / tally.received * 1e6)
    ours, peer = statistics.median(rates["tidegate"]), statistics.median(rates["discard"])
    name = f"saturated, QoS {qos}"
    runs_of = {kind: [round(each) for each in rate] for kind, rate in rates.items()}
    yield Figure(
        f"{name}: of what a reader gets that discards",
        ours / peer,
        BARS[qos],
        "",
        more={"messages_per_second": runs_of},
    )
    yield Figure(f"{name}: messages lost", lost, 0, "")
    yield Figure(f"{name}: processor time for each message", statistics.median(costs_us), None, "us")


def paced(name: str, devices: int, seconds: int, bars: Mapping[str, float], flood_percent: int = 0) -> Iterator[Figure]:
    """Let a fleet report every 30 s."""
    rate = devices / INTERVAL_SECONDS
    with mosquitto() as port, firehose(port, devices, 0) as hose, reader("tidegate", port, devices, 0) as taker:
        meet(hose, taker, devices)
        wanted = Round(int(rate * seconds), rate, flood_percent)
        tally = measured(hose, taker, wanted)
    ages = np.concatenate(tally.ages) / 1000
    p50, p99 = (float(each) for each in np.percentile(ages, [50, 99]))
    name = f"{name}, {devices:,} devices, {round(rate):,} messages/s"
    yield Figure(f"{name}: until it is evidence, p50", p50, bars.get("p50"), "ms")
    yield Figure(f"{name}: until it is evidence, p99", p99, bars.get("p99"), "ms", more={"worst": float(ages.max())})
    yield Figure(f"{name}: messages lost", wanted.count - tally.received, 0, "")
    cores = tally.cpu_seconds / (tally.last_at - tally.first_at)
    yield Figure(f"{name}: processor", cores, bars.get("cores"), "cores")
    yield Figure(f"{name}: memory for each device", tally.device_bytes, bars.get("memory"), "bytes")


def verdicts(devices: int) -> Iterator[Figure]:
    """Let devices of a fleet crash, one after the other."""
    with mosquitto() as port:
        found = verdict_to_broker(port, devices, devices / INTERVAL_SECONDS, LOOPERS)
    yield Figure("from the verdict to the rollback on the broker, p99", found.pop("p99_ms"), 50.0, "ms", more=found)
    yield Figure("from the sample to the rollback on the broker, p99", found["from_sample_p99_ms"], None, "ms")


def measure(parts: Sequence[str], options: argparse.Namespace) -> Iterator[Figure]:
    """Yield each figure as it comes."""
    devices, seconds = options.devices, options.seconds
    for qos in (0, 1):
        if f"qos{qos}" in parts:
            yield from saturated(qos, min(devices, SATURATED_DEVICES), options.count, options.runs)
    if "fleet" in parts:
        yield from paced("fleet", devices, seconds, {"p50": 10.0, "p99": 20.0, "cores": 0.25, "memory": 450.0})
    if "large" in parts:
        yield from paced("large fleet", 3 * devices, seconds, {"p99": 100.0})
    if "flood" in parts:
        yield from paced("fleet with a flood", devices, seconds, {"p99": 20.0}, FLOOD_PERCENT)
    if "verdict" in parts:
        yield from verdicts(devices)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--count", type=int, default=SATURATED_COUNT, help="messages of each saturated run")
    parser.add_argument("--seconds", type=int, default=30, help="how long a paced fleet is watched")
    parser.add_argument("--runs", type=int, default=3, help="of each reader where they are compared")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be given several times")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    figures = []
    if not options.json:
        print(machine(), flush=True)
    for figure in measure(options.only or PARTS, options):
        figures.append(figure)
        if not options.json:
            print(figure, flush=True)
    if options.json:
        print(json.dumps({"name": "ingest", "figures": [each.facts() for each in figures], "machine": machine()}))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    main()

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
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
INTERVAL_SECONDS: Final = 30
SATURATED_COUNT: Final = 1_500_000
LOOPERS: Final = 300
MEETING_RATE: Final = 50_000.0


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
    taker.begin()
    hose.send(wanted)
    hose.sent()
    return taker.tally()


def meet(hose: Firehose, taker: Reader, devices: int) -> None:
    """Let each device be heard once, which is not measured."""
    measured(hose, taker, Round(devices, MEETING_RATE))


def saturated(qos: int, devices: int, count: int, runs: int) -> dict[str, Any]:
    """Compare what both readers get of as much as the broker delivers."""
    rates: dict[Reading, list[float]] = {"discard": [], "tidegate": []}
    lost: list[int] = []
    with mosquitto() as port, firehose(port, devices, qos) as hose:
        for _ in range(runs):
            for kind, reached in rates.items():
                with reader(kind, port, devices, qos) as taker:
                    meet(hose, taker, devices)
                    tally = measured(hose, taker, Round(count))
                    reached.append(tally.rate)
                    if kind == "tidegate":
                        lost.append(count - tally.received)
                        cost_us = tally.cpu_seconds / tally.received * 1e6
    figure = statistics.median(rates["tidegate"])
    peer = statistics.median(rates["discard"])
    return {
        "name": f"ingest_saturated_qos{qos}", "figure": round(figure), "unit": "messages/s", "peer": round(peer),
        "bar": BARS[qos], "ratio": round(figure / peer, 3), "lost": lost, "cpu_us_per_message": round(cost_us, 2),
        "runs": {kind: [round(each) for each in rate] for kind, rate in rates.items()},
    }  # fmt: skip


def paced(devices: int, seconds: int, flood_percent: int = 0) -> dict[str, Any]:
    """Let a fleet report every 30 s."""
    rate = devices / INTERVAL_SECONDS
    with mosquitto() as port, firehose(port, devices, 0) as hose, reader("tidegate", port, devices, 0) as taker:
        meet(hose, taker, devices)
        wanted = Round(int(rate * seconds), rate, flood_percent)
        tally = measured(hose, taker, wanted)
    ages = np.concatenate(tally.ages) / 1000
    p50, p99 = np.percentile(ages, [50, 99])
    return {
        "rate": round(rate), "p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1),
        "worst_ms": round(float(ages.max()), 1), "lost": wanted.count - tally.received,
        "cores": round(tally.cpu_seconds / (tally.last_at - tally.first_at), 3),
        "bytes_per_device": round(tally.device_bytes),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--count", type=int, default=SATURATED_COUNT, help="samples of each saturated run")
    parser.add_argument("--seconds", type=int, default=30, help="how long a paced fleet is watched")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=("qos0", "qos1", "fleet", "large", "flood", "verdict"), action="append")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    parts = options.only or ["qos0", "qos1", "fleet", "large", "flood", "verdict"]
    found: dict[str, Any] = {}
    for qos in (0, 1):
        if f"qos{qos}" in parts:
            found[f"qos{qos}"] = saturated(qos, options.devices, options.count, options.runs)
            print(found, file=sys.stderr)
    if "fleet" in parts:
        found["fleet"] = paced(options.devices, options.seconds)
        print(found["fleet"], file=sys.stderr)
    if "large" in parts:
        found["large"] = paced(3 * options.devices, options.seconds)
        print(found["large"], file=sys.stderr)
    if "verdict" in parts:
        with mosquitto() as port:
            found["verdict"] = verdict_to_broker(port, options.devices, options.devices / INTERVAL_SECONDS, LOOPERS)
        print(found["verdict"], file=sys.stderr)
    if "flood" in parts:
        found["flood"] = paced(options.devices, options.seconds, 33)
        print(found["flood"], file=sys.stderr)
    print(json.dumps({**found, "machine": machine()}))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    main()

"""How long it takes from the verdict on a device until its rollback stands on the broker, under the load of a fleet."""

import asyncio
import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final

import numpy as np
from firehose import TREE, Round, firehose
from planning import make_release
from readers import make_engine

from orchestrator.adapters import clock
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.connection import Connection
from orchestrator.adapters.journal import Journal
from orchestrator.adapters.mqtt import MqttBus
from orchestrator.core import events as e
from orchestrator.core.inventory import Device
from orchestrator.core.state import State, evolve
from orchestrator.core.targets import make_plan
from orchestrator.outgoing import Outgoing
from orchestrator.planning.plan import Plan
from schemas.codec import encode_msgpack
from schemas.messages import HealthSample, Info
from schemas.policy import Policy
from schemas.topics import Kind

JOURNAL_NAME: Final = "journal.db"
ROLLOUT: Final = "r-1"
APART_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 30.0
POLICY: Final = Policy.model_validate({
    "rollout": {
        "canary": {"percentage": 1, "min_devices": 1, "immediate_minutes": 0, "short_term_minutes": 0,
                   "soak_minutes": 60, "require_human_approval_after": False},
        "waves": [{"name": "wave-1", "percentage": 100, "failure_threshold_percent": 99, "soak_minutes": 60}],
    },
    "health_gates": {gate: {"checks": [{"type": "crash_count", "threshold": 0, "window": "10m"}]}
                     for gate in ("canary_gate", "wave_gate")},
    "rollback_triggers": {"immediate": [{"name": "crash_loop", "condition": "device restarts > 3 in 5 minutes",
                                         "scope": "single_device", "action": "rollback_device"}]},
})  # fmt: skip
"""After the canary one wave, which a device leaves alone when it loops."""


def looper_name(number: int) -> str:
    """Return the id of a device that will crash again and again."""
    return f"loops-{number:04d}"


def add_rollout(state: State, loopers: int, now: float) -> list[str]:
    """Bring a fleet's only outdated devices to the new version, twice as many as will loop.

    Return those that will: the canary is not among them, and their wave shall go on.
    """
    devices = state.devices
    devices.fill(np.arange(len(devices)), Device.version, "2.0.0")
    rows = devices.add([looper_name(number) for number in range(2 * loopers)])
    info = Info(
        session=0, boot_id="-", agent="agent/1", arch="aarch64", device_type="type-1", region="region-1",
        group="loopers", signals=("error_rate",),
    )  # fmt: skip
    for said in (Device.said, Device.info):
        devices.fill(rows, said, info)
    devices.fill(rows, Device.version, "1.0.0")
    devices.fill(rows, Device.is_online, value=True)
    release = make_release()
    plan = make_plan(state, release, POLICY, ROLLOUT, now=now)
    assert isinstance(plan, Plan), plan
    started = e.RolloutStarted(
        rollout=ROLLOUT, by="alice", reason="", release=release, registry_url="http://registry", policy=POLICY,
        plan=plan, baselines={},
    )  # fmt: skip
    evolve(state, started, now)
    for number, wave in enumerate(plan.waves):
        facts: list[e.AnyEvent] = [
            e.WaveStarted(rollout=ROLLOUT, wave=number),
            e.DevicesOrdered(
                rollout=ROLLOUT, action="install", generation=number + 1, epoch=1,
                devices=dict.fromkeys(wave.members, "1.0.0"),
            ),
        ]  # fmt: skip
        facts += [
            e.DeviceCommitted(rollout=ROLLOUT, device=name, generation=number + 1, version="2.0.0")
            for name in wave.members
        ]
        for fact in facts:
            evolve(state, fact, now)
    return list(plan.waves[1].members)[:loopers]


def _orchestrate(pipe: Pipe, folder: Path, port: int, devices: int, loopers: int) -> None:
    """Be the orchestrator: the engine with its journal on this disk, behind both its connections."""
    journal = Journal(folder / JOURNAL_NAME)
    engine = make_engine(devices, journal, settle_seconds=0.5)
    names = add_rollout(engine.state, loopers, clock.now())
    bus = MqttBus(
        engine, BrokerUrl("127.0.0.1", port), TREE, clock=clock.now, tick_seconds=1.0, greet=lambda: b"{}",
        together=journal.together,
    )  # fmt: skip

    async def ready() -> None:
        pipe.send(names)

    asyncio.run(bus.run(ready))


@contextlib.contextmanager
def _orchestrator(folder: Path, port: int, devices: int, loopers: int) -> Iterator[list[str]]:
    """Start it; yield the devices that may loop."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_orchestrate, args=(theirs, folder, port, devices, loopers), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


async def _loop_all(port: int, names: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Let one device after the other crash; return when each said so, and when its rollback was seen."""
    connection = await Connection.open(
        BrokerUrl("127.0.0.1", port), "watches", ("nobody", b""), note_refused=lambda *_: None, on_idle=lambda: None
    )
    await connection.subscribe([(TREE.filter(Kind.DESIRED), 1)])
    said: dict[str, float] = {}
    seen: dict[str, float] = {}

    def say(name: str, seq: int, restarts: int) -> None:
        sample = HealthSample(
            seq=seq, boot_id="b", version="2.0.0", requests_total=100 * seq, errors_total=0, restarts_total=restarts,
            healthy=True, endpoint_up=True,
        )  # fmt: skip
        connection.send([Outgoing(TREE.build(Kind.HEALTH, device=name), encode_msgpack(sample), qos=0)])

    async def crash() -> None:
        for seq in (1, 2):
            for name in names:
                say(name, seq, 0)
            await asyncio.sleep(2)
        for name in names:
            said[name] = clock.now()
            say(name, 3, 5)
            await asyncio.sleep(APART_SECONDS)

    crashing = asyncio.create_task(crash())
    async with asyncio.timeout(len(names) * APART_SECONDS + _PATIENCE_SECONDS):
        while len(seen) < len(names):
            for message in await connection.read(100):
                name = message.topic.split("/")[-2]
                if name in said:
                    seen.setdefault(name, clock.now())
                connection.take([message])
    await crashing
    connection.abort()
    return said, seen


def verdict_to_broker(port: int, devices: int, rate: float, loopers: int) -> dict[str, Any]:
    """Measure it with so many samples in a second on the way."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:  # /tmp may be in memory
        folder = Path(name)
        with firehose(port, devices, 0) as hose, _orchestrator(folder, port, devices, loopers) as names:
            hose.send(Round(devices, 2 * rate))  # Each device is met before it is measured.
            hose.sent()
            hose.send(Round(int(rate * (loopers * APART_SECONDS + 10)), rate))
            time.sleep(2)
            said, seen = asyncio.run(_loop_all(port, names))
            hose.sent()
        with contextlib.closing(Journal.open_reader(folder / JOURNAL_NAME)) as journal:
            decided = {
                device: entry.at
                for entry in journal.read()
                if entry.kind == "rollback_ordered"
                for device in e.event_from_json(entry.body).devices  # type: ignore[union-attr]  # as the kind says
            }
    percentiles = partial(np.percentile, q=[50, 99])
    from_verdict = percentiles([1000 * (seen[name] - decided[name]) for name in seen])
    from_sample = percentiles([1000 * (seen[name] - said[name]) for name in seen])
    return {
        "rate": round(rate), "rollbacks": len(seen), "p50_ms": round(float(from_verdict[0]), 1),
        "p99_ms": round(float(from_verdict[1]), 1), "from_sample_p50_ms": round(float(from_sample[0]), 1),
        "from_sample_p99_ms": round(float(from_sample[1]), 1),
    }  # fmt: skip

"""The scene of a storm: a broker, an orchestrator and a crowd of devices as processes, and an operator who asks on."""

import asyncio
import contextlib
import json
import os
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from orchestrator.adapters.broker_url import BrokerUnavailableError, BrokerUrl
from orchestrator.cli.bus import TREE, request, session
from schemas.topics import Kind
from tests.end_to_end.stage import Stage, furnish
from tests.storm.crowd import Crowd
from tests.storm.light_device import Pace
from tests.storm.mortal_broker import BrokerKind, MortalBroker, mortal_broker

OPERATOR: Final = "alice"
WATCHER: Final = "bob"
ROLLOUT: Final = "r-1"
NEW_VERSION: Final = "1.2.0"
ASKED_EACH_SECONDS: Final = 0.25
FIRST_SECONDS: Final = 400.0
"""So long everybody may take to connect for the first time."""
SPARE_FILES: Final = 200
POLICY: Final[dict[str, Any]] = {
    "targets": 'group == "storm"',
    "rollout": {
        "canary": {"min_devices": 5, "max_devices": 5, "immediate_minutes": 0.1, "short_term_minutes": 0.1,
                   "soak_minutes": 0, "require_human_approval_after": False},
        "waves": [{"name": "wave-1", "percentage": 20, "soak_minutes": 0.1},
                  {"name": "wave-2", "percentage": 100, "soak_minutes": 0.1}],
        "global": {"max_parallel_deploys": 1000, "deploy_timeout_minutes": 10, "health_check_interval_seconds": 5},
    },
    "rolling_update": {"max_unavailable": 50, "min_available": 50, "min_ready_seconds": 1,
                       "health_check": {"interval_seconds": 5}},
    "health_gates": {gate: {"checks": [{"type": "device_health", "threshold": "healthy_percentage >= 95%",
                                  "min_samples": 1}]}
                     for gate in ("canary_gate", "wave_gate")},
    "rollback_triggers": {"immediate": [{"name": "crash_loop", "condition": "device restarts > 3 in 5 minutes",
                                         "scope": "single_device", "action": "rollback_device"}]},
}  # fmt: skip
"""A canary and two waves, the second with most of the fleet; half of it may be out of service at a time."""


@dataclass(frozen=True)
class Shape:
    """What a scene is made of.

    Attributes:
        processes: That the devices live in.
        under: A program that becomes the orchestrator, with its arguments.
        time_scale: The policy's durations, and those of the orchestrator, are divided by it.
        others: Devices that have a user and are not of the crowd.
        say: Told in a few words what happens.
    """

    devices: int
    broker: BrokerKind = "mosquitto"
    processes: int = 2
    seed: int = 0
    jitter: bool = True
    time_scale: float = 1.0
    pace: Pace = field(default_factory=Pace)
    under: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    say: Callable[[str], None] = lambda _: None
    progress: Callable[[Counter[str], Mapping[str, Any]], None] = lambda _seen, _known: None


@dataclass
class Asker:
    """An operator who asks how the rollout is four times a second, whether or not there was an answer.

    Attributes:
        answers: When each question was sent that was answered, and after how many seconds the answer came.
        known: The last answer.
    """

    url: BrokerUrl
    answers: list[tuple[float, float]] = field(default_factory=list)
    open: dict[str, float] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    async def run(self) -> None:
        """Ask until cancelled."""
        topic = TREE.build(Kind.REPLY, actor=OPERATOR, verb="get")
        while True:
            with contextlib.suppress(BrokerUnavailableError):
                async with session(self.url, [topic]) as client:
                    asking = asyncio.create_task(self._ask(client))
                    try:
                        async for message in client.messages:
                            self._hear(json.loads(bytes(message.payload)))
                    finally:
                        asking.cancel()
            await asyncio.sleep(0.2)

    async def _ask(self, client: Any) -> None:  # noqa: ANN401 - aiomqtt's client
        number = len(self.answers) + len(self.open)
        while True:
            number += 1
            transaction = f"t-{number}"
            self.open[transaction] = time.monotonic()
            body = json.dumps({"rollout": ROLLOUT, "transaction": transaction})
            with contextlib.suppress(Exception):  # Without a connection the reader ends, which ends this.
                await client.publish(TREE.build(Kind.COMMAND, actor=OPERATOR, verb="get"), body, qos=1)
            await asyncio.sleep(ASKED_EACH_SECONDS)

    def _hear(self, reply: Mapping[str, Any]) -> None:
        sent_at = self.open.pop(str(reply.get("transaction")), None)
        if sent_at is not None:
            self.answers.append((sent_at, time.monotonic() - sent_at))
        self.known = reply.get("data") or {}

    def p99_seconds(self, since: float, until: float) -> float:
        """Return how long 99 of 100 answers took at most to what was asked in that time; infinite if one never came."""
        seconds = [took for at, took in self.answers if since <= at <= until]
        missing = [at for at in self.open.values() if since <= at <= until]
        if not seconds or missing:
            return float("inf")
        return float(np.percentile(seconds, 99))


@dataclass
class Scene:
    """Everything that runs.

    Attributes:
        rss_mib: The most memory that any process of the orchestrator has held so far.
    """

    shape: Shape
    broker: MortalBroker
    stage: Stage
    crowd: Crowd
    asker: Asker
    rss_mib: float = 0.0

    async def start_orchestrator(self) -> None:
        """Start it with what is set when nothing is, in the scene's time."""
        tick, settle = (f"{seconds / self.shape.time_scale:g}" for seconds in (1.0, 5.0))
        await asyncio.to_thread(self.stage.start, "--tick-seconds", tick, "--settle-seconds", settle)

    async def kill_orchestrator(self) -> None:
        """A power cut for the orchestrator alone."""
        self.look_at_memory()
        await asyncio.to_thread(self.stage.kill)

    def look_at_memory(self) -> float:
        """Note how much memory the orchestrator has held at most; return what it holds now, in MiB."""
        assert self.stage.process is not None
        status = Path(f"/proc/{self.stage.process.pid}/status").read_text()
        found = dict(line.split(":", 1) for line in status.splitlines())
        self.rss_mib = max(self.rss_mib, int(found["VmHWM"].split()[0]) / 1024)
        return int(found["VmRSS"].split()[0]) / 1024

    def processor_seconds(self) -> dict[str, float]:
        """Return how much processor time the processes that run now have used, by what they are."""
        assert self.stage.process is not None
        return {
            "orchestrator": processor_seconds(self.stage.process.pid),
            "broker": processor_seconds(self.broker.pid),
            "devices": sum(map(processor_seconds, self.crowd.pids)),
        }

    async def command(self, verb: str, who: str = WATCHER, **body: object) -> dict[str, Any]:
        """Send a command and return the answer's data."""
        reply = await request(self.stage.operator(who), verb, body, timeout_seconds=60)
        assert reply.error is None, reply.error
        return dict(reply.data or {})

    async def until(self, what: str, holds: Callable[[Counter[str]], bool], seconds: float = 120) -> float:
        """Wait until ``holds`` of the crowd; return when that was.

        Raises:
            TimeoutError: It was not in time; says how everything is.
        """
        began = time.monotonic()
        while True:
            seen = self.crowd.seen()
            self.shape.progress(seen, self.asker.known)
            now = time.monotonic()
            if holds(seen):
                self.shape.say(f"{what} after {now - began:.1f} s")
                return now
            if now - began > seconds:
                known = {key: self.asker.known.get(key) for key in ("phase", "wave", "counts", "reason")}
                raise TimeoutError(f"not {what} within {seconds:g} s: {known}, {dict(seen)}")
            await asyncio.sleep(0.1)

    async def until_known(self, count: int) -> None:
        """Wait until all are connected and the orchestrator knows so many devices."""
        everybody = self.shape.devices
        await self.until("connected", lambda seen: seen["connected"] == everybody, FIRST_SECONDS)
        for _ in range(600):
            if (await self.command("list"))["devices"] >= count:
                return
            await asyncio.sleep(0.1)
        raise AssertionError("the orchestrator does not know all devices")

    async def start_rollout(self) -> None:
        """Start it, and ask on how it goes."""
        data = await self.command(
            "start",
            release=f"lab-{NEW_VERSION}",
            policy=POLICY,
            rollout=ROLLOUT,
            ignore_lint=True,
            time_scale=self.shape.time_scale,
        )
        assert sum(wave["devices"] for wave in data["waves"]) == self.shape.devices, data

    async def until_committed(self, share: float) -> float:
        """Wait until that share of the devices has committed the new version."""
        wanted = round(share * self.shape.devices)
        return await self.until(f"{share:.0%} committed", lambda seen: seen["committed"] >= wanted)

    async def until_converged(self, seconds: float) -> float:
        """Wait until everybody is connected and has committed, and the rollout is completed; infinite if never."""

        def is_so(seen: Counter[str]) -> bool:
            is_done = seen["committed"] == seen["connected"] == self.shape.devices
            return is_done and self.asker.known.get("phase") == "completed"

        try:
            return await self.until("converged", is_so, seconds)
        except TimeoutError as error:
            self.shape.say(str(error))
            return float("inf")


@asynccontextmanager
async def a_scene(shape: Shape, folder: Path) -> AsyncIterator[Scene]:
    """Start broker, orchestrator and crowd; all of it ends with the block."""
    names = [f"device-{number:05d}" for number in range(shape.devices)]
    with ExitStack() as stack:
        broker = stack.enter_context(mortal_broker(folder, shape.broker, [*names, *shape.others], (OPERATOR, WATCHER)))
        stage = furnish(stack, folder, broker.broker)
        stage.under = shape.under
        assert broker.broker.access is not None
        passwords = {name: broker.broker.access.passwords[name] for name in names}
        crowd = Crowd(
            broker.broker.url.host, broker.broker.device_port, passwords, stage.command_key,
            pace=shape.pace, jitter=shape.jitter, seed=shape.seed, processes=shape.processes,
        )  # fmt: skip
        scene = Scene(shape, broker, stage, crowd, Asker(stage.operator(OPERATOR)))
        await scene.start_orchestrator()
        stack.enter_context(crowd)
        await scene.until_known(shape.devices)
        asking = asyncio.create_task(scene.asker.run())
        try:
            yield scene
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


def processor_seconds(pid: int) -> float:
    """Return how much processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def raise_limits(devices: int) -> None:
    """Take as many open files as this user may have, and say what to do if that is not enough.

    Raises:
        SystemExit: It is not: the broker needs one for each device.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = devices + SPARE_FILES
    if most != resource.RLIM_INFINITY and most < needed:
        raise SystemExit(
            f"{devices} devices need {needed} open files in one process, this user may have {most}: run "
            f"`ulimit -n {needed}` as root first (limits.conf: nofile; systemd: LimitNOFILE), or ask for --devices "
            f"{max(most - SPARE_FILES, 0)}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    if high - low < needed:
        raise SystemExit(
            f"{devices} connections need as many local ports, this machine has {high - low}: "
            "`sysctl net.ipv4.ip_local_port_range='1024 65535'`, or fewer --devices"
        )


def load() -> float:
    """Return how busy this machine is: the load of the last minute."""
    return round(os.getloadavg()[0], 1)

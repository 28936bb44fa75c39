"""A small fleet, its operator and its broker, which live as fast as the orchestrator can follow.

Time is a number in a file: it goes on by ten seconds whenever the orchestrator has told how the fleet was ten seconds
ago, so that a rollout of half an hour takes a second and no machine is too slow for it. The fleet speaks MQTT over a
real socket; what a device does is the wire contract and nothing else.
"""

import asyncio
import contextlib
import hashlib
import json
import mmap
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from embedded_broker.server import ServerConfig, serving
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.connection import Connection, DisconnectedError
from orchestrator.outgoing import Outgoing
from schemas.codec import decode, encode
from schemas.documents import Reply
from schemas.dsse import GRANT_TYPE, unseal
from schemas.messages import Desired, Grant, HealthSample, Info, Ready, Reported
from schemas.topics import RULES, Kind, TopicTree

TREE: Final = TopicTree()
STEP_SECONDS: Final = 10.0
START: Final = 1_700_000_000.0
PATIENCE_SECONDS: Final = 20.0
LAG_SECONDS: Final = 0.05
"""Of the machine's own time, for health, which comes to the orchestrator over a connection that nobody waits for."""
DEVICES: Final = tuple(f"d-{number}" for number in range(1, 6))
OLD, NEW = "1.0.0", "1.1.0"
ROLLOUT: Final = "r-1"
POLICY: Final[dict[str, Any]] = {
    "rollout": {
        "canary": {"min_devices": 1, "max_devices": 1, "immediate_minutes": 1, "short_term_minutes": 1,
                   "soak_minutes": 1, "require_human_approval_after": True},
        "waves": [
            {"name": "wave-1", "percentage": 50, "soak_minutes": 1, "auto_rollback": False},
            {"name": "wave-2", "percentage": 100, "soak_minutes": 2},
        ],
        "global": {"deploy_timeout_minutes": 30, "health_check_interval_seconds": 10},
    },
    "rolling_update": {"max_unavailable": 50, "min_available": 50, "min_ready_seconds": 1,
                       "health_check": {"interval_seconds": 12}},
    "health_gates": {
        "canary_gate": {"checks": [{"type": "error_rate", "threshold": "baseline + 2%", "window": "1m"}]},
        "wave_gate": {"checks": [{"type": "error_rate", "threshold": "baseline + 5%", "window": "1m"}]},
    },
    "rollback_triggers": {
        "threshold": [{"name": "error_rate_spike", "condition": "error_rate > baseline + 10%", "window": "1m",
                       "scope": "all_deployed", "action": "rollback_all"}],
    },
    "baseline": {"min_samples": 5},
    "max_soak_extensions": 50,
}  # fmt: skip
"""Approved after the canary; one device of the first wave fails; the second wave is bad, and everybody goes back."""
SAYS: Final = {"": "start", "awaiting_approval": "approve", "halted": "resume"}


def read_clock(hand: mmap.mmap) -> float:
    """Return where the hand stands, in seconds since the Unix epoch."""
    (now,) = struct.unpack("d", hand[:8])
    return float(now)


@dataclass
class Device:
    """One device: what it runs, what it was told, and what it has done."""

    name: str
    version: str = OLD
    previous: str = OLD
    generation: int = 0
    order: Desired | None = None
    digest: str = ""
    state: str = "idle"
    step: str = ""
    """What it asks for; empty while it asks for nothing."""
    nonce: str = ""
    seq: int = 0
    requests: int = 0
    errors: int = 0
    marks: tuple[int, int] = (0, 0)
    """Epoch and number of the last grant that it accepted."""
    activations: list[tuple[int, str]] = field(default_factory=list)
    granted: list[Grant] = field(default_factory=list)
    stale_count: int = 0
    """Orders and grants of an earlier epoch that reached it and were refused."""


@dataclass
class World:
    """Everything outside of the orchestrator.

    Attributes:
        replies: Answers to commands that were done, by transaction.
        audit: Number and hash of each record that was published.
        wrong: What no device should ever see.
    """

    port: int
    command_key: bytes
    hand: mmap.mmap
    link: Connection
    devices: dict[str, Device] = field(default_factory=lambda: {name: Device(name) for name in DEVICES})
    plan: dict[str, list[str]] = field(default_factory=dict)
    phase: str = ""
    """Of the rollout; "paused" while it is."""
    says: dict[str, str] = field(default_factory=lambda: dict(SAYS))
    """What the operator does in a phase."""
    is_last_wave_bad: bool = False
    """It turns bad when it is complete, so that the rollout ends in one way only."""
    frozen: bool = False
    lags: bool = False
    """A wave soaks, and the orchestrator has heard nothing of it on the new version yet."""
    heard: int = 0
    summaries: asyncio.Event = field(default_factory=asyncio.Event)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    replies: dict[str, str] = field(default_factory=dict)
    audit: dict[int, str] = field(default_factory=dict)
    wrong: Counter[str] = field(default_factory=Counter)

    @property
    def now(self) -> float:
        return read_clock(self.hand)

    def say(self, kind: Kind, message: BaseModel | bytes, /, **ids: str) -> None:
        payload = message if isinstance(message, bytes) else encode(message)
        rule = RULES[kind]
        self.link.send([Outgoing(TREE.build(kind, **ids), payload, rule.retained, rule.qos)])

    async def hear(self) -> None:
        """Take what is published, for as long as there is a broker."""
        with contextlib.suppress(DisconnectedError):
            while True:
                messages = await self.link.read(100)
                self.link.take(messages)
                for each in messages:
                    address = TREE.parse(each.topic)
                    if address is not None and each.payload:
                        self.take(address.kind, address.ids.get("device", ""), each.payload)

    def take(self, kind: Kind, device: str, payload: bytes) -> None:
        match kind:
            case Kind.GROUP_SUMMARY:
                self.heard += 1
                self.summaries.set()
            case Kind.SYNC:
                self.introduce()
            case Kind.DESIRED:
                self.follow(self.devices[device], payload)
            case Kind.GRANT:
                grant = json.loads(unseal(GRANT_TYPE, payload, [self.command_key]))
                self.go(self.devices[device], Grant.model_validate(grant))
            case Kind.PLAN:
                self.plan = json.loads(payload)["members"]
            case Kind.STATUS:
                status = json.loads(payload)
                is_paused = status["paused"] and status["ended_at"] is None
                self.phase, self.frozen = "paused" if is_paused else status["phase"], status["frozen"]
                self.is_last_wave_bad |= self.phase == "soaking" and status["wave"] == "wave-2"
            case Kind.WAVE:
                wave = json.loads(payload)
                self.lags = wave["state"] == "soaking" and wave["health"] is None
            case Kind.REPLY:
                reply = decode(Reply, payload)
                if reply.status == "ok" and reply.transaction is not None:
                    self.replies[reply.transaction] = reply.status
            case Kind.AUDIT:
                record = json.loads(payload)
                if self.audit.setdefault(record["seq"], record["hash"]) != record["hash"]:
                    self.wrong[f"audit record {record['seq']} was published with two hashes"] += 1
            case _:
                pass

    def forget_the_orchestrator(self) -> None:
        """Let the broker lose what it remembers of it."""
        self.link.send([Outgoing(TREE.build(Kind.ORCHESTRATOR_INFO), b"", retain=True)])

    def introduce(self) -> None:
        for device in self.devices.values():
            self.say(Kind.AVAILABILITY, b"online", device=device.name)
            info = Info(
                session=1, boot_id="b", agent="lockstep", device_type="light", arch="noarch", region="here",
                group="lab", signals=("error_rate",), version=device.version,
            )  # fmt: skip
            self.say(Kind.INFO, info, device=device.name)
            self.report(device, device.state)

    def report(self, device: Device, state: str) -> None:
        device.state = state
        device.seq += 1
        error = {"code": "smoke_test_failed", "step": "trial", "message": "it broke"} if state == "failed" else None
        body = {
            "observed_generation": device.generation, "seq": device.seq, "state": state, "boot_id": "b",
            "installed_version": device.version, "previous_version": device.previous, "error": error,
        }  # fmt: skip
        self.say(Kind.REPORTED, Reported.model_validate(body), device=device.name)

    def follow(self, device: Device, payload: bytes) -> None:
        """Take an order as the contract says: never a lower generation or epoch, the same one only with its target."""
        desired = decode(Desired, payload)
        if desired.generation < device.generation or desired.epoch < device.marks[0]:
            device.stale_count += 1
            return
        if desired.generation == device.generation:
            if device.order is not None and (desired.action, desired.version) != (
                device.order.action,
                device.order.version,
            ):
                self.wrong[f"{device.name}: generation {desired.generation} got another target"] += 1
            device.digest = hashlib.sha256(payload).hexdigest()
            self.report(device, device.state)
            return
        device.generation, device.order = desired.generation, desired
        device.digest = hashlib.sha256(payload).hexdigest()
        device.step = ""
        if desired.action == "hold" or desired.version == device.version:
            self.report(device, "idle")
        elif desired.action == "install" and device.name == self.unlucky:
            self.report(device, "downloading")
        else:
            self.report(device, "ready")
            self.ask(device, "activate")

    @property
    def unlucky(self) -> str:
        """The device that fails."""
        return min(self.plan["wave-1"])

    def fail(self) -> None:
        """Let that device fail when the others of its wave have come through, so that a halt holds nobody."""
        if not self.plan or self.devices[self.unlucky].state != "downloading":
            return
        others = [self.devices[name] for name in self.plan["wave-1"] if name != self.unlucky]
        if all((each.version, each.state) == (NEW, "idle") for each in others):
            self.report(self.devices[self.unlucky], "failed")

    def ask(self, device: Device, step: str) -> None:
        device.step = step
        device.nonce = f"{next(self.numbers):032x}"
        ready = Ready.model_validate({"generation": device.generation, "step": step, "nonce": device.nonce})
        self.say(Kind.READY, ready, device=device.name)

    def go(self, device: Device, grant: Grant) -> None:
        """Take a grant as the contract says, and do what it allows."""
        if (grant.epoch, grant.seq) <= device.marks:
            device.stale_count += 1
            return
        if grant.nonce != device.nonce or grant.step != device.step or grant.decision != "go":
            return
        if grant.generation != device.generation or grant.desired_sha256 != device.digest:
            return
        device.marks = grant.epoch, grant.seq
        device.granted.append(grant)
        device.step = ""
        assert device.order is not None
        if grant.step == "activate":
            device.activations.append((device.generation, device.order.version))
            device.version, device.previous = device.order.version, device.version
            if device.order.action == "install":
                self.report(device, "trial")
                self.ask(device, "commit")
                return
        self.report(device, "idle")

    def measure(self) -> None:
        for device in self.devices.values():
            is_bad = self.is_last_wave_bad and device.version == NEW and device.name in self.plan["wave-2"]
            device.requests += 100
            device.errors += 50 if is_bad else 0
            device.seq += 1
            sample = HealthSample(
                seq=device.seq, boot_id="b", version=device.version, requests_total=device.requests,
                errors_total=device.errors, restarts_total=0, healthy=True, endpoint_up=True,
            )  # fmt: skip
            self.say(Kind.HEALTH, sample, device=device.name)

    def operate(self) -> None:
        """Do what a person does at this point; said again until it shows."""
        verb = self.says.get(self.phase)
        if verb == "start":
            self.command("start", release=f"lab-{NEW}", policy=POLICY, rollout=ROLLOUT)
        elif verb is not None:
            self.command(verb, rollout=ROLLOUT)

    def command(self, verb: str, **body: object) -> None:
        payload = json.dumps({**body, "transaction": f"{verb}-{next(self.numbers)}"}).encode()
        self.say(Kind.COMMAND, payload, actor="alice", verb=verb)

    async def step(self, ended: "asyncio.Future[Any]") -> None:
        """Let ten seconds pass, and wait until the orchestrator has told how the fleet was, or has ended."""
        if self.lags:
            await asyncio.sleep(LAG_SECONDS)
        self.measure()
        for device in self.devices.values():
            if device.step:
                self.ask(device, device.step)
        self.fail()
        self.operate()
        self.summaries.clear()
        self.hand[:8] = struct.pack("d", self.now + STEP_SECONDS)
        told = asyncio.ensure_future(self.summaries.wait())
        await asyncio.wait({told, ended}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        is_silent = not told.done() and not ended.done()
        told.cancel()
        if is_silent:
            raise TimeoutError(f"the orchestrator said nothing for {PATIENCE_SECONDS:g} s in phase {self.phase!r}")

    async def live(self, ended: "asyncio.Future[Any]", is_over: Callable[[], bool], steps_max: int = 2000) -> None:
        """Live until ``is_over``, or the orchestrator has ended."""
        for _ in range(steps_max):
            if ended.done() or is_over():
                return
            await self.step(ended)
        raise TimeoutError(f"no end of it in {steps_max} steps: phase {self.phase!r}, frozen {self.frozen}")


@asynccontextmanager
async def a_world(clock: Path, command_key: bytes) -> AsyncIterator[World]:
    """Make a world whose time is in ``clock``."""
    clock.write_bytes(struct.pack("d", START))  # noqa: ASYNC240 - eight bytes
    failed = asyncio.get_running_loop().create_future()
    async with contextlib.AsyncExitStack() as stack:
        file = stack.enter_context(clock.open("r+b"))
        hand = stack.enter_context(mmap.mmap(file.fileno(), 8))
        listening = await stack.enter_async_context(serving(ServerConfig(port=0), failed))
        url = BrokerUrl("127.0.0.1", listening.port, username="world")
        will = TREE.build(Kind.AVAILABILITY, device=DEVICES[0]), b"offline"
        link = await Connection.open(url, "world", will, note_refused=lambda *_: None, on_idle=lambda: None)
        stack.callback(link.abort)
        world = World(listening.port, command_key, hand, link)
        await link.subscribe([(f"{TREE.root}/#", 1)])
        hearing = asyncio.create_task(world.hear())
        stack.callback(hearing.cancel)
        world.introduce()
        yield world

"""What the demo sees: an operator's connection to the bus, nothing more."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiomqtt

from orchestrator.adapters.broker_url import BrokerUrl
from schemas.codec import RETAINED, decode, decode_object
from schemas.documents import GateResult, Reply, RollbackOrder, StatusDocument, WaveDocument
from schemas.errors import DecodeError, FleetError
from schemas.messages import Reported
from schemas.topics import Address, Kind, TopicTree

ACTOR: Final = "operator"
_QUIET_SECONDS: Final = 1.0
_WATCHED: Final = (
    Kind.REPORTED, Kind.AVAILABILITY, Kind.STATUS, Kind.WAVE, Kind.GATE, Kind.ROLLBACK,
    Kind.DEVICE_EVENT, Kind.AUDIT,
)  # fmt: skip


class DemoError(FleetError):
    """The demo did not get where it must; the message says where it stood."""


@dataclass
class Exposure:
    """One device running one version, from a switch to the next."""

    version: str
    since: float
    until: float | None = None


@dataclass
class Observed:
    """All that was seen so far, on the observer's clock."""

    reported: dict[str, Reported] = field(default_factory=dict)
    online: set[str] = field(default_factory=set)
    status: dict[str, StatusDocument] = field(default_factory=dict)
    waves: dict[str, dict[str, WaveDocument]] = field(default_factory=dict)
    gates: dict[str, dict[str, GateResult]] = field(default_factory=dict)
    rollbacks: dict[str, list[RollbackOrder]] = field(default_factory=dict)
    exposures: dict[str, list[Exposure]] = field(default_factory=dict)
    audit_count: int = 0


class Observer:
    """Subscribes, keeps what matters, and sends commands as the operator."""

    def __init__(self, broker: BrokerUrl, tree: TopicTree, clock: Callable[[], float]) -> None:
        self.seen = Observed()
        self._broker = broker
        self._clock = clock
        self._tree = tree
        self._changed = asyncio.Event()
        self._replies: dict[str, asyncio.Future[Reply]] = {}
        self._client: aiomqtt.Client | None = None

    async def run(self, connected: asyncio.Event) -> None:
        """Watch until cancelled."""
        url = self._broker
        async with aiomqtt.Client(url.host, url.port, username=url.username, password=url.password) as client:
            for kind in _WATCHED:
                await client.subscribe(self._tree.filter(kind), qos=1)
            await client.subscribe(self._tree.filter(Kind.REPLY, actor=ACTOR), qos=1)
            self._client = client
            connected.set()
            async for message in client.messages:
                address = self._tree.parse(str(message.topic))
                if address is not None:
                    self._note(address, message.payload)
                    self._changed.set()

    async def command(self, verb: str, body: dict[str, Any]) -> Reply:
        """Send one command and return the answer; raises ``TimeoutError`` after 15 s without one."""
        assert self._client is not None, "commands need the connection"
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[verb] = reply
        await self._client.publish(self._tree.build(Kind.COMMAND, actor=ACTOR, verb=verb), json.dumps(body), qos=1)
        async with asyncio.timeout(15):
            return await reply

    async def until(self, condition: Callable[[Observed], bool], *, seconds: float, what: str) -> None:
        """Return once ``condition`` holds of what was seen.

        Raises:
            DemoError: It did not within ``seconds``.
        """
        try:
            async with asyncio.timeout(seconds):
                while not condition(self.seen):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise DemoError(f"waited {seconds:g} s in vain until {what}") from None

    def _note(self, address: Address, payload: bytes) -> None:
        ids = address.ids
        try:
            match address.kind:
                case Kind.REPORTED:
                    self.seen.reported[ids["device"]] = decode(Reported, payload, RETAINED)
                case Kind.AVAILABILITY:
                    (self.seen.online.add if payload == b"online" else self.seen.online.discard)(ids["device"])
                case Kind.DEVICE_EVENT if ids["kind"] == "slot_switched":
                    self._expose(ids["device"], str(decode_object(payload).get("version")))
                case Kind.STATUS:
                    self.seen.status[ids["rollout"]] = decode(StatusDocument, payload)
                case Kind.WAVE:
                    self.seen.waves.setdefault(ids["rollout"], {})[ids["wave"]] = decode(WaveDocument, payload)
                case Kind.GATE:
                    self.seen.gates.setdefault(ids["rollout"], {})[ids["wave"]] = decode(GateResult, payload)
                case Kind.ROLLBACK:
                    self.seen.rollbacks.setdefault(ids["rollout"], []).append(decode(RollbackOrder, payload))
                case Kind.REPLY:
                    waiting = self._replies.pop(ids["verb"], None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(decode(Reply, payload))
                case Kind.AUDIT:
                    self.seen.audit_count += 1
                case _:
                    pass
        except DecodeError as error:
            raise DemoError(f"{address.kind} does not decode: {error}") from error

    def _expose(self, device: str, version: str) -> None:
        now = self._clock()
        exposures = self.seen.exposures.setdefault(device, [])
        if exposures:
            exposures[-1].until = now
        exposures.append(Exposure(version, now))


async def clear_retained(broker: BrokerUrl, tree: TopicTree) -> None:
    """Take every retained document below the root away: on somebody's own broker nothing of us stays."""
    async with aiomqtt.Client(broker.host, broker.port, username=broker.username, password=broker.password) as client:
        await client.subscribe(f"{tree.root}/#", qos=1)
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(_QUIET_SECONDS):
                    message = await anext(client.messages)
                if message.retain and message.payload:
                    await client.publish(str(message.topic), b"", qos=1, retain=True)

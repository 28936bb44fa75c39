"""A broker in memory behind the command line's own connection: retained documents, and an orchestrator that answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiomqtt
from pydantic import BaseModel

from orchestrator.adapters.broker_url import BrokerUrl
from schemas.codec import encode
from schemas.documents import Reply
from schemas.topics import Kind, TopicTree

TREE = TopicTree()
Answering = Callable[[str, dict[str, Any]], Reply | None]


@dataclass(frozen=True)
class Heard:
    """What a client receives."""

    topic: str
    payload: bytes


@dataclass
class FakeBus:
    """Every connection of the command line ends here.

    Attributes:
        retained: Payloads by topic.
        answer: The orchestrator; None answers nothing.
        after: What each connection hears once it has subscribed, one list for each; an exception breaks it.
        commands: What was sent: verb and body.
    """

    retained: dict[str, bytes] = field(default_factory=dict)
    answer: Answering = lambda _verb, _body: None
    after: list[list[tuple[str, bytes] | Exception]] = field(default_factory=list)
    commands: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refuses: aiomqtt.MqttError | None = None
    connections: int = 0

    def connect(self, _url: BrokerUrl) -> "FakeClient":
        """Stand for ``orchestrator.cli.bus.connect``."""
        self.connections += 1
        return FakeClient(self)

    def keep(self, kind: Kind, document: BaseModel | bytes, **ids: str) -> None:
        """Retain a document."""
        payload = document if isinstance(document, bytes) else encode(document)
        self.retained[TREE.build(kind, **ids)] = payload


class FakeClient:
    """One connection."""

    def __init__(self, bus: FakeBus) -> None:
        self._bus = bus
        self._topics: list[str] = []
        self._heard: asyncio.Queue[Heard | Exception] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        if self._bus.refuses is not None:
            raise self._bus.refuses
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def subscribe(self, topic: str, qos: int = 0) -> tuple[int, ...]:
        first = not self._topics
        self._topics.append(topic)
        for name, payload in self._bus.retained.items():
            if aiomqtt.Topic(name).matches(topic):
                self._heard.put_nowait(Heard(name, payload))
        if first and self._bus.after:
            for what in self._bus.after.pop(0):
                self._heard.put_nowait(what if isinstance(what, Exception) else Heard(*what))
        return (qos,)

    async def publish(self, topic: str, payload: str, qos: int = 0) -> None:
        address = TREE.parse(topic)
        assert address is not None
        assert address.kind is Kind.COMMAND
        body = json.loads(payload)
        verb = address.ids["verb"]
        self._bus.commands.append((verb, body))
        reply = self._bus.answer(verb, body)
        if reply is not None:
            reply_topic = TREE.build(Kind.REPLY, actor=address.ids["actor"], verb=verb)
            stranger = Reply(status="ok", data={"rollout": "r-999"}, transaction="somebody-else")
            for each in (stranger, reply.model_copy(update={"transaction": body["transaction"]})):
                self._heard.put_nowait(Heard(reply_topic, encode(each)))

    @property
    def messages(self) -> AsyncIterator[Heard]:
        return self._messages()

    async def _messages(self) -> AsyncIterator[Heard]:
        while True:
            heard = await self._heard.get()
            if isinstance(heard, Exception):
                raise heard
            yield heard


def ok(**data: Any) -> Reply:  # noqa: ANN401 - any JSON value
    return Reply(status="ok", data=data)


def refused(code: str, message: str, **hints: Any) -> Reply:  # noqa: ANN401 - any hint
    return Reply.model_validate({"status": "error", "error": {"code": code, "message": message, **hints}})


def always(reply: Reply) -> Answering:
    return lambda _verb, _body: reply


SUMMARY: Mapping[str, Any] = {
    "rollout": "r-042", "release": "vision-app-2.4.0", "version": "2.4.0", "phase": "awaiting_approval",
    "wave": "canary", "paused": False, "counts": {"committed": 3, "pending": 97, "total": 100, "failed_ever": 0},
    "soaked_seconds": 2100.0, "soak_required_seconds": 2100.0, "reason": "", "plan_digest": "ab" * 32,
    "started_at": "2025-11-24T10:18:53.000Z", "started_by": "alice",
}  # fmt: skip
PLAN: Mapping[str, Any] = {
    "rollout": "r-043", "release": "vision-app-2.4.0", "version": "2.4.0", "plan_digest": "cd" * 32, "seed": 42,
    "strategy": "blue_green", "targets": 100, "offline": 6, "estimated_seconds": 5700.0,
    "waves": [{"wave": "canary", "devices": 3, "soak_seconds": 2100.0},
              {"wave": "wave-1", "devices": 97, "soak_seconds": 900.0}],
    "canary": {"pi-0001": "best monitored raspberrypi4", "pi-0007": "stands for us-east"},
    "excluded": {"runs vision-app-2.4.0 already": 8, "in quarantine": 2}, "not_canary": {"offline": 6},
    "dropped_waves": ["wave-2"], "uncovered": ["type esp32"], "warnings": ["disk is short on 2 devices"],
    "baselines": ["vision"], "nothing_to_do": False,
    "lint": [{"id": "L002", "severity": "warning", "where": "rollout.waves[0]", "message": "the first failure stops it",
              "remedy": "take 20", "silenced": None}],
}  # fmt: skip

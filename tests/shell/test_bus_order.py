"""In which order the orchestrator's bus writes down, says and acknowledges; without a broker."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pytest

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.mqtt import MqttBus
from orchestrator.adapters.packets import Incoming
from orchestrator.outgoing import Outgoing
from schemas.topics import TopicTree

if TYPE_CHECKING:
    from orchestrator.adapters.connection import Connection
    from orchestrator.service import Engine

ASKED = Incoming("fleet/v1/device/d-1/ready", b"{}", retain=False, packet_id=7)
ANSWER = Outgoing("fleet/v1/device/d-1/grant", b"go")


class Watched:
    """What an engine, its journal and a connection are to a bus, and what it does with them, in order."""

    def __init__(self, decide: Callable[[], list[Outgoing]]) -> None:
        self.done: list[str] = []
        self._decide = decide
        self._unread = [[ASKED]]
        self.bus = MqttBus(
            cast("Engine", self), BrokerUrl("127.0.0.1", 1), TopicTree(), clock=lambda: 0.0, tick_seconds=1.0,
            greet=lambda: b"", suspect=lambda _: "", together=self.together,
        )  # fmt: skip

    async def read_on(self) -> None:
        with pytest.raises(asyncio.CancelledError):
            await self.bus._read(cast("Connection", self))

    # The journal.

    @contextmanager
    def together(self) -> Iterator[None]:
        yield
        self.done.append("written")

    # The engine.

    def receive(self, *_arguments: object) -> list[Outgoing]:
        self.done.append("decided")
        return self._decide()

    def react(self, _now: float) -> list[Outgoing]:
        return []

    def performed(self) -> None:
        self.done.append("performed")

    # The connection.

    async def head_start(self, _seconds: float) -> None:
        pass

    async def read(self, _count_max: int) -> list[Incoming]:
        if self._unread:
            return self._unread.pop()
        raise asyncio.CancelledError

    def send(self, messages: list[Outgoing]) -> None:
        assert messages == [ANSWER]
        self.done.append("said")

    def take(self, messages: list[Incoming]) -> None:
        assert messages == [ASKED]
        self.done.append("acknowledged")

    def put_back(self, messages: list[Incoming]) -> None:
        assert messages == []


async def test_what_was_decided_is_written_then_said_and_only_then_is_the_message_acknowledged() -> None:
    watched = Watched(lambda: [ANSWER])

    await watched.read_on()

    assert watched.done == ["decided", "written", "said", "acknowledged"]


async def test_engine_that_failed_is_asked_nothing_more_and_nothing_counts_as_sent() -> None:
    def fail() -> list[Outgoing]:
        raise OSError("disk full")

    watched = Watched(fail)
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            await watched.bus._read(cast("Connection", watched))
        watched._unread = [[ASKED]]
    watched.bus._performed()

    assert watched.done == ["decided"]

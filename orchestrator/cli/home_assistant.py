"""``tidegate home-assistant``: make the fleet appear in Home Assistant, and disappear again."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Annotated, Final

import aiomqtt
import typer

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.cli import bus
from orchestrator.cli.exits import reported
from orchestrator.cli.options import DEFAULT_BROKER, SET_UP, BrokerOption, broker_url
from orchestrator.cli.serving import announce, log_to_stderr
from orchestrator.discovery import OURS, Config, configurations
from orchestrator.signals import until_signalled
from schemas.codec import decode
from schemas.documents import StatusDocument
from schemas.errors import DecodeError
from schemas.ids import check_id
from schemas.topics import Kind

app = typer.Typer()

log = logging.getLogger(__name__)

_QUIET_SECONDS: Final = 1.0
"""Retained documents are complete when none came for so long."""


@app.command("home-assistant", rich_help_panel=SET_UP)
def home_assistant(
    broker: BrokerOption = DEFAULT_BROKER,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", help="As whom Home Assistant connects: adds a button that approves, and the emergency brake."
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option("--prefix", help="Where Home Assistant looks for discovery.")
    ] = "homeassistant",
    remove: Annotated[bool, typer.Option("--remove", help="Take everything of ours away again, and end.")] = False,
) -> None:
    """Publish what Home Assistant needs to show rollouts and groups; prints a line of JSON when it listens."""
    log_to_stderr()
    with reported():
        announcer = Announcer(broker_url(broker), check_id(prefix), None if user is None else check_id(user))
        if remove:
            print(json.dumps({"removed": asyncio.run(announcer.remove())}))
        else:
            ready = json.dumps({"ready": True})
            asyncio.run(until_signalled(announcer.run(lambda: announce(ready))))


class Announcer:
    """Keeps Home Assistant's retained configurations as they follow from what is on the bus.

    Args:
        url: The broker, as whoever may write below ``prefix``.
        prefix: The level under which Home Assistant looks.
        commander: As whom it connects; None: it is to command nothing.
    """

    def __init__(self, url: BrokerUrl, prefix: str, commander: str | None) -> None:
        self._url = url
        self._prefix = prefix
        self._commander = commander
        self._rollouts: dict[str, StatusDocument] = {}
        self._groups: set[str] = set()
        self._said: dict[str, Config] = {}

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Announce until cancelled; a lost connection comes back.

        Raises:
            BrokerUnavailableError: There was none to begin with.
        """
        topics = [*(bus.TREE.filter(kind) for kind in (Kind.STATUS, Kind.GROUP_SUMMARY)), self._topic("+")]
        await bus.stay_connected(self._url, topics, self._serve, on_ready)

    async def remove(self) -> list[str]:
        """Take away every configuration of ours, and return their names.

        Raises:
            BrokerUnavailableError: No connection.
        """
        async with bus.session(self._url, [self._topic("+")]) as client:
            await self._hear_retained(client)
            for name in self._said:
                await client.publish(self._topic(name), b"", qos=1, retain=True)
        return sorted(self._said)

    async def _serve(self, client: aiomqtt.Client, ready: Callable[[], None]) -> None:
        """Hear what is retained before anything is said: what we said before a restart is taken back if it is over."""
        self._rollouts, self._groups, self._said = {}, set(), {}
        await self._hear_retained(client)
        await self._say(client)
        ready()
        async for message in client.messages:
            if self._hear(message):
                await self._say(client)

    async def _hear_retained(self, client: aiomqtt.Client) -> None:
        messages = aiter(client.messages)
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(_QUIET_SECONDS):
                    self._hear(await anext(messages))

    def _topic(self, name: str) -> str:
        return f"{self._prefix}/device/{name}/config"

    def _hear(self, message: aiomqtt.Message) -> bool:
        """Take a message over; false if nothing follows from it."""
        topic, payload = str(message.topic), bytes(message.payload)
        address = bus.TREE.parse(topic)
        if address is None:
            name = topic.split("/")[2]
            if message.retain and payload and name.startswith(OURS):
                self._said[name] = _read(payload)
            return False
        if address.kind is Kind.GROUP_SUMMARY:
            group = address.ids["group"]
            before = set(self._groups)
            (self._groups.add if payload else self._groups.discard)(group)
            return before != self._groups
        name = address.ids["rollout"]
        if not payload:
            return self._rollouts.pop(name, None) is not None
        try:
            self._rollouts[name] = decode(StatusDocument, payload)
        except DecodeError as error:
            log.warning("cannot be read, topic=%r: %s", topic, error)
            return False
        return True

    async def _say(self, client: aiomqtt.Client) -> None:
        """Publish what is different from what was said."""
        wanted = configurations(bus.TREE, self._rollouts, sorted(self._groups), self._commander)
        for name, config in wanted.items():
            if self._said.get(name) != config:
                await client.publish(self._topic(name), json.dumps(config), qos=1, retain=True)
        for name in self._said.keys() - wanted.keys():
            await client.publish(self._topic(name), b"", qos=1, retain=True)
        self._said = wanted


def _read(payload: bytes) -> Config:
    try:
        return dict(json.loads(payload))
    except (ValueError, TypeError):
        return {}

"""Listening to health on the bus: to one device, to one group, to all groups, or to what the orchestrator answers."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final

from orchestrator.adapters.broker_url import BrokerUnavailableError, BrokerUrl
from orchestrator.cli import bus
from orchestrator.cli.exits import NoAnswerError
from orchestrator.cli.health_devices import Worst
from orchestrator.cli.health_groups import HEARD, Groups
from orchestrator.cli.refusals import describe
from schemas.topics import Address

QUIET_SECONDS: Final = 1.0
"""Retained documents are complete when none came for so long."""
ASK_SECONDS: Final = 5.0
"""How often the worst devices are asked for again; for a million it costs the orchestrator a third of a second."""
_RETRY_SECONDS: Final = 2.0


async def heard(
    url: BrokerUrl, topics: Iterable[str], *, timeout_seconds: float | None
) -> AsyncGenerator[tuple[Address, bytes], None]:
    """Yield what comes on ``topics``.

    Raises:
        BrokerUnavailableError: No connection, or it broke.
        TimeoutError: Nothing came for ``timeout_seconds``.
    """
    async with bus.session(url, topics) as client:
        messages = aiter(client.messages)
        while True:
            async with asyncio.timeout(timeout_seconds):
                message = await anext(messages)
            address = bus.TREE.parse(str(message.topic))
            if address is not None:
                yield address, bytes(message.payload)


async def find_groups(url: BrokerUrl) -> Groups:
    """Return what is known of the groups now.

    Raises:
        BrokerUnavailableError: No connection.
    """
    groups = Groups()
    with contextlib.suppress(TimeoutError):
        await _hear_groups(url, groups, timeout_seconds=QUIET_SECONDS)
    return groups


async def follow_groups(url: BrokerUrl, groups: Groups) -> None:
    """Keep ``groups`` up to date for ever, through every break of the connection."""
    while True:
        try:
            await _hear_groups(url, groups, timeout_seconds=None)
        except BrokerUnavailableError as error:
            groups.trouble = f"connection lost, trying again: {error}"
        await asyncio.sleep(_RETRY_SECONDS)


async def _hear_groups(url: BrokerUrl, groups: Groups, *, timeout_seconds: float | None) -> None:
    topics = [bus.TREE.filter(kind) for kind in HEARD]
    async with contextlib.aclosing(heard(url, topics, timeout_seconds=timeout_seconds)) as messages:
        async for address, payload in messages:
            groups.trouble = ""
            groups.hear(address, payload)


async def keep_asking(url: BrokerUrl, body: dict[str, Any], worst: Worst, *, timeout_seconds: float) -> None:
    """Keep ``worst`` up to date for ever; what goes wrong meanwhile is said beside the last answer."""
    while True:
        await asyncio.sleep(ASK_SECONDS)
        try:
            reply = await bus.request(url, "list", body, timeout_seconds=timeout_seconds)
        except (BrokerUnavailableError, NoAnswerError) as error:
            worst.trouble = f"trying again: {error}"
            continue
        if reply.error is not None:
            worst.trouble = describe(reply.error)
        else:
            worst.data, worst.trouble = reply.data or {}, ""

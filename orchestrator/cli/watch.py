"""``tidegate watch``: follow a rollout until it ends, live on a terminal, line by line elsewhere."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from rich.console import Console

from orchestrator.adapters.broker_url import BrokerUnavailableError, BrokerUrl
from orchestrator.cli import bus
from orchestrator.cli.answers import leave
from orchestrator.cli.documents import WATCHED, Change, Documents
from orchestrator.cli.exits import Exit
from orchestrator.cli.live import drawn
from orchestrator.cli.phases import look_of, phase_look, phase_words
from orchestrator.cli.render import render_watch
from orchestrator.cli.terminal import make_console, printable
from schemas.documents import StatusDocument
from schemas.times import parse_timestamp
from schemas.topics import Kind

QUIET_SECONDS: Final = 1.0
"""Retained documents are complete when none came for so long."""
_RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 10.0)

Clock = Callable[[], float]
Say = Callable[[Change], None]


@dataclass(frozen=True, slots=True)
class Until:
    """When watching ends beside the rollout's own end.

    Attributes:
        seconds: After so long; None never.
        waiting: As soon as a person is waited for.
    """

    seconds: float | None = None
    waiting: bool = False


async def choose(url: BrokerUrl, name: str | None) -> str:
    """Return the rollout to watch: the named one, or the newest that has not ended.

    Raises:
        BrokerUnavailableError: No connection.
        typer.Exit: There is none; it says what to type instead.
    """
    found = await bus.find_rollouts(url, quiet_seconds=QUIET_SECONDS)
    by_age = sorted(found.values(), key=lambda each: parse_timestamp(each.started_at))
    if name is None:
        active = [each for each in by_age if phase_look(each.phase).ending is None]
        if active:
            return active[-1].rollout
        if by_age:
            last = by_age[-1]
            leave(f"no rollout is active; the last, {last.rollout}, ended {phase_words(last.phase)}",
                  f"tidegate watch {last.rollout}")  # fmt: skip
        leave("there is no rollout yet", "tidegate plan POLICY --release RELEASE")
    elif name not in found:
        near = get_close_matches(name, found, n=3, cutoff=0.4)
        leave(f"no rollout {name!r}", *(f"tidegate watch {each}" for each in near), "tidegate list")
    return str(name)


async def watch(url: BrokerUrl, documents: Documents, until: Until, clock: Clock, say: Say) -> Exit:
    """Keep ``documents`` up to date until the rollout ends, and return what that means.

    Args:
        url: The broker.
        documents: Of the rollout; written to.
        until: When else to end.
        clock: Seconds since the epoch.
        say: Called with every change.

    Raises:
        BrokerUnavailableError: The first connection failed; later ones are tried again and again.
    """
    deadline = asyncio.timeout(until.seconds)
    try:
        async with deadline, contextlib.aclosing(_changes(url, documents, clock)) as changes:
            async for change in changes:
                say(change)
                code = _end_of(documents.status, waiting=until.waiting)
                if code is not None:
                    return code
    except TimeoutError:
        if not deadline.expired():
            raise
        return Exit.UNREACHABLE if documents.trouble else Exit.TIMEOUT
    raise AssertionError("changes never end by themselves")


def _end_of(status: StatusDocument | None, *, waiting: bool) -> Exit | None:
    if status is None:
        return None
    look = look_of(status)
    return look.ending if look.ending is not None else Exit.WAITING if waiting and look.waits else None


async def _changes(url: BrokerUrl, documents: Documents, clock: Clock) -> AsyncGenerator[Change, None]:
    """Yield what changes, through every break of the connection after the first."""
    topics = [bus.TREE.filter(kind, rollout=documents.rollout) for kind in WATCHED]
    topics.append(bus.TREE.build(Kind.ORCHESTRATOR_AVAILABILITY))
    failures, was_connected = 0, False
    while True:
        try:
            async with bus.session(url, topics) as client:
                failures, was_connected = 0, True
                for change in documents.lose("", clock()):
                    yield change
                async for message in client.messages:
                    address = bus.TREE.parse(str(message.topic))
                    if address is not None:
                        for change in documents.hear(address, bytes(message.payload), clock()):
                            yield change
        except BrokerUnavailableError as error:
            if not was_connected:
                raise
            for change in documents.lose(f"connection lost, trying again: {error}", clock()):
                yield change
        await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
        failures += 1


async def watch_live(url: BrokerUrl, documents: Documents, until: Until, clock: Clock, console: Console) -> Exit:
    """Watch with a picture that is drawn again while time passes; the last one stays."""
    return await drawn(
        console,
        lambda: render_watch(documents, clock(), console.width),
        watch(url, documents, until, clock, lambda _change: None),
    )


def say_plain(change: Change) -> None:
    """Print a change for people and logs."""
    print(f"{change.at} {change.rollout} {change.kind}: {printable(change.text)}", flush=True)


def say_json(change: Change) -> None:
    """Print a change as one JSON object."""
    print(change.model_dump_json(), flush=True)


async def follow(
    url: BrokerUrl, name: str | None, until: Until, clock: Clock, *, plain: bool, as_json: bool
) -> tuple[Exit, Documents]:
    """Watch the rollout ``name``, or the newest active one, in the way that fits where it is shown."""
    documents = Documents(await choose(url, name))
    console = make_console()
    if as_json or plain or not console.is_terminal:
        return await watch(url, documents, until, clock, say_json if as_json else say_plain), documents
    return await watch_live(url, documents, until, clock, console), documents

"""A person's connection to the bus: ask the orchestrator, or listen. Nothing more is privileged here."""

import asyncio
import getpass
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiomqtt

from orchestrator.adapters.broker_url import BrokerUnavailableError, BrokerUrl
from orchestrator.adapters.reconnecting import retry_seconds
from orchestrator.cli.exits import NoAnswerError
from schemas.codec import decode
from schemas.documents import Reply, StatusDocument
from schemas.errors import DecodeError
from schemas.topics import TOPIC_ROOT, Kind, TopicTree

log = logging.getLogger(__name__)

TREE: Final = TopicTree(TOPIC_ROOT)
_KEEPALIVE_SECONDS: Final = 15
_REFUSED: Final = 128
"""Return codes of a SUBACK from here on are refusals."""
_DENIED: Final = frozenset({4, 5, 134, 135})
"""CONNACK codes for a wrong user or password, of MQTT 3.1.1 and 5."""


def actor_of(url: BrokerUrl) -> str:
    """Return the name under which commands are sent: the broker's user, or who is logged in where it has none."""
    return url.username or getpass.getuser()


def connect(url: BrokerUrl) -> aiomqtt.Client:
    """Return a client for ``url``, not connected yet."""
    return aiomqtt.Client(
        url.host,
        url.port,
        username=url.username,
        password=url.password,
        keepalive=_KEEPALIVE_SECONDS,
        tls_context=url.tls_context(),
    )


@asynccontextmanager
async def session(url: BrokerUrl, topics: Iterable[str]) -> AsyncIterator[aiomqtt.Client]:
    """Connect and subscribe.

    Raises:
        BrokerUnavailableError: No connection, or it broke; the text says what to do.
    """
    try:
        async with connect(url) as client:
            for topic in topics:
                await _subscribe(client, url, topic)
            yield client
    except aiomqtt.MqttError as error:
        raise BrokerUnavailableError(f"{url}: {_remedy(error)}") from error


async def stay_connected(
    url: BrokerUrl,
    topics: Sequence[str],
    serve: Callable[[aiomqtt.Client, Callable[[], None]], Awaitable[None]],
    on_ready: Callable[[], None],
) -> None:
    """Serve in one session after another until cancelled: a broker that is lost is come back to.

    Args:
        url: The broker.
        topics: Subscribed to in each session.
        serve: Goes on for as long as a session does, and calls what it is given once it is ready for messages.
        on_ready: Called the first time.

    Raises:
        BrokerUnavailableError: It was not ready a first time.
    """
    attempt, was_ready = 0, False

    def ready() -> None:
        nonlocal attempt, was_ready
        attempt = 0
        if not was_ready:
            on_ready()
        was_ready = True

    while True:
        try:
            async with session(url, topics) as client:
                await serve(client, ready)
        except BrokerUnavailableError as error:
            if not was_ready:
                raise
            delay = retry_seconds(attempt)
            log.warning("broker lost, next attempt in %.1f s: %s", delay, error)
            attempt += 1
            await asyncio.sleep(delay)


async def request(broker: BrokerUrl, verb: str, body: dict[str, Any], *, timeout_seconds: float) -> Reply:
    """Send one command as the broker's user and return the answer to it.

    Raises:
        BrokerUnavailableError: No connection.
        NoAnswerError: No orchestrator answered in time.
    """
    actor = actor_of(broker)
    transaction = body.get("transaction") or secrets.token_hex(8)
    topics = (TREE.build(Kind.REPLY, actor=actor, verb=verb), TREE.build(Kind.ORCHESTRATOR_AVAILABILITY))
    seen, is_connected = "", False
    try:
        async with asyncio.timeout(timeout_seconds), session(broker, topics) as client:
            is_connected = True
            payload = json.dumps({**body, "transaction": transaction})
            await client.publish(TREE.build(Kind.COMMAND, actor=actor, verb=verb), payload, qos=1)
            async for message in client.messages:
                if str(message.topic) == topics[1]:
                    seen = bytes(message.payload).decode("ascii", "replace")
                    continue
                reply = decode(Reply, bytes(message.payload))
                # A payload that could not be read is answered without its transaction.
                if reply.transaction == transaction or (reply.transaction is None and reply.error is not None):
                    return reply
    except TimeoutError:
        if not is_connected:
            raise BrokerUnavailableError(f"{broker}: {_mute(broker)}") from None
        raise NoAnswerError(_silence(broker, verb, seen, timeout_seconds)) from None
    raise AssertionError("messages end only with the connection")


async def find_rollouts(url: BrokerUrl, *, quiet_seconds: float) -> dict[str, StatusDocument]:
    """Return the retained status of every rollout; they are complete when none came for ``quiet_seconds``.

    Raises:
        BrokerUnavailableError: No connection.
    """
    found: dict[str, StatusDocument] = {}
    async with session(url, [TREE.filter(Kind.STATUS)]) as client:
        messages = aiter(client.messages)
        while True:
            try:
                async with asyncio.timeout(quiet_seconds):
                    message = await anext(messages)
            except TimeoutError:
                return found
            address = TREE.parse(str(message.topic))
            if address is not None and message.payload:
                try:
                    found[address.ids["rollout"]] = decode(StatusDocument, bytes(message.payload))
                except DecodeError:
                    continue  # Another version's document; whoever asks for that rollout is told.


async def may_read(client: aiomqtt.Client, topic: str) -> bool:
    """Subscribe, and say whether the broker lets this user; some let everybody and send nothing."""
    codes = await client.subscribe(topic, qos=1)
    return not any(code >= _REFUSED if isinstance(code, int) else code.is_failure for code in codes)


async def _subscribe(client: aiomqtt.Client, url: BrokerUrl, topic: str) -> None:
    if not await may_read(client, topic):
        raise BrokerUnavailableError(
            f"{url}: may not read {topic}; the broker's access list knows no operator {actor_of(url)!r}"
        )


def _remedy(error: aiomqtt.MqttError) -> str:
    code = getattr(error, "rc", None)
    if getattr(code, "value", code) in _DENIED:
        return "the broker refused the user or the password; write mqtt://user:password@host:port into TIDEGATE_BROKER"
    text = str(error) or type(error).__name__
    if "CERTIFICATE" in text.upper():
        return f"{text}; is it the right host, and is its certificate of whom --ca-file or this machine trusts?"
    return f"{text}; is the broker running, and is --broker (or TIDEGATE_BROKER) right?"


def _mute(url: BrokerUrl) -> str:
    """Say what it may be when somebody listens and takes no connection: TLS tells the reason to the broker's log."""
    if url.files.certificate_file is not None:
        return (
            f"the broker takes no connection with {url.files.certificate_file}; has it run out, was it revoked, or is "
            "it of an authority that this port does not trust? The broker's log says which"
        )
    return "somebody listens there and does not answer as a broker; are port and mqtt:// or mqtts:// right?"


def _silence(url: BrokerUrl, verb: str, seen: str, timeout_seconds: float) -> str:
    waited = f"no answer to {verb!r} within {timeout_seconds:g} s"
    match seen:
        case "offline":
            return f"{waited}: the orchestrator is offline, nothing was carried out; start it and type this again"
        case "online":
            return (
                f"{waited}, though the orchestrator is connected; look at its log, and whether {actor_of(url)!r} may "
                f"command here (the broker's access list); what came of it: tidegate list"
            )
        case _:
            return f"{waited}; no orchestrator was ever connected to {url}: is it the right broker?"

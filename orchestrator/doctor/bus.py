"""Looking at the broker as one of its users: does it take us, who may write what, who answers, whose clock is right.

The access list is tried out with a message to a device that does not exist, which no device and no orchestrator reads.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from orchestrator.adapters.broker_url import BrokerUnavailableError, BrokerUrl
from orchestrator.cli import bus
from orchestrator.cli.exits import NoAnswerError
from orchestrator.doctor.findings import Finding, State, ok
from orchestrator.version import VERSION
from schemas.codec import decode
from schemas.documents import OrchestratorInfo, Reply
from schemas.errors import DecodeError, FleetError
from schemas.times import parse_timestamp
from schemas.topics import Kind

SKEW_SECONDS_MAX: Final = 5.0
_SLOW_SECONDS: Final = 1.0
_REST_SECONDS: Final = 0.3
"""After the first retained document; a broker sends them together."""
_INFO, _PIECES = bus.TREE.build(Kind.ORCHESTRATOR_INFO), bus.TREE.build(Kind.PIECES_AVAILABILITY)
_FORBIDDEN: Final = (Kind.DESIRED, Kind.GRANT, Kind.REPORTED)
"""What no person may publish: orders, permissions, and a device's words."""


async def look_at_bus(url: BrokerUrl, timeout_seconds: float, now: Callable[[], float]) -> list[Finding]:
    """Look at the broker and at who orchestrates there.

    Args:
        url: The broker, and whom to connect as.
        timeout_seconds: For each thing that is waited for.
        now: The clock of this machine, in seconds since the epoch.
    """
    try:
        retained = await _retained(url, timeout_seconds)
    except FleetError as error:
        where, _, remedy = str(error).partition("; ")
        return [Finding("broker", State.FAILED, where, remedy)]
    findings = [ok("broker", f"{url} takes {bus.actor_of(url)}"), await _rights(url, timeout_seconds)]
    findings += [*_version(retained.get(_INFO)), *await _answer(url, timeout_seconds, now)]
    return [*findings, *_pieces(retained.get(_PIECES))]


async def _retained(url: BrokerUrl, timeout_seconds: float) -> dict[str, bytes]:
    """Return what orchestrator and piece server say of themselves, by topic; nothing of who was never there."""
    heard: dict[str, bytes] = {}
    is_connected = False
    try:
        async with asyncio.timeout(timeout_seconds), bus.session(url, [_INFO, _PIECES]) as client:
            is_connected = True
            async with asyncio.timeout(min(1.0, timeout_seconds)) as patience:
                async for message in client.messages:
                    heard[str(message.topic)] = bytes(message.payload)
                    if len(heard) == 2:  # noqa: PLR2004 - both
                        break
                    patience.reschedule(asyncio.get_running_loop().time() + _REST_SECONDS)
    except TimeoutError:
        if not is_connected:
            raise BrokerUnavailableError(f"{url}: does not answer; are port and mqtt:// or mqtts:// right?") from None
    return heard


def _version(said: bytes | None) -> list[Finding]:
    try:
        info = decode(OrchestratorInfo, said) if said is not None else None
    except DecodeError:
        info = None
    if info is None:
        remedy = "start it: tidegate orchestrator --folder FOLDER; or is this another broker than its own?"
        return [Finding("orchestrator", State.WARNING, "says nothing of itself on this broker", remedy)]
    told = f"version {info.version}, epoch {info.epoch}, since {info.started_at}"
    if info.version != VERSION:
        remedy = f"this one is {VERSION}: install the same version here and there"
        return [Finding("versions", State.WARNING, told, remedy)]
    return [ok("versions", told)]


async def _answer(url: BrokerUrl, timeout_seconds: float, now: Callable[[], float]) -> list[Finding]:
    """Ask the orchestrator for its rollouts, and hold its clock against ours."""
    began, asked_at = time.monotonic(), now()
    try:
        reply = await bus.request(url, "list", {"limit": 1}, timeout_seconds=timeout_seconds)
    except (NoAnswerError, BrokerUnavailableError) as error:
        text, _, remedy = str(error).partition(": ")
        return [Finding("answer", State.FAILED, text, remedy)]
    seconds = time.monotonic() - began
    if reply.error is not None:
        return [Finding("answer", State.FAILED, f"refused: {reply.error.message}", "look at the orchestrator's log")]
    answered = f"the orchestrator answers after {seconds * 1000:.0f} ms"
    slow = "is the broker far away, or the orchestrator's machine too small?"
    first = Finding("answer", State.WARNING, answered, slow) if seconds > _SLOW_SECONDS else ok("answer", answered)
    return [first, *_frozen(reply), *_unread(reply), _clock(reply, asked_at, seconds)]


def _frozen(reply: Reply) -> list[Finding]:
    why = (reply.data or {}).get("frozen")
    if not why:
        return []
    return [
        Finding("fleet", State.WARNING, f"nothing is decided: {why}", "tidegate list, then tidegate resume ROLLOUT")
    ]


def _unread(reply: Reply) -> list[Finding]:
    why = (reply.data or {}).get("unread")
    if not why:
        return []
    told = f"{why}: meanwhile no gate passes and no soak counts"
    return [Finding("health", State.WARNING, told, "tidegate evaluators, then start what is missing")]


def _pieces(said: bytes | None) -> list[Finding]:
    """Look at the piece server, where there ever was one."""
    if said is None:
        return []
    if said == b"online":
        return [ok("pieces", "devices without HTTP are given what they install")]
    remedy = (
        "start it again: tidegate pieces --folder fleet/releases; if it is not wanted any more, clear what is retained"
    )
    told = "nobody gives pieces: devices without HTTP wait for what they install"
    return [Finding("pieces", State.WARNING, told, f"{remedy}: mosquitto_pub -r -n -t {_PIECES}")]


def _clock(reply: Reply, asked_at: float, seconds: float) -> Finding:
    told: Any = (reply.data or {}).get("time")
    try:
        their = parse_timestamp(told)
    except (TypeError, ValueError):
        return Finding("clock", State.UNKNOWN, "the orchestrator does not tell its time", "install a newer one")
    skew = their - asked_at
    if -SKEW_SECONDS_MAX <= skew <= seconds + SKEW_SECONDS_MAX:
        return ok("clock", "this machine and the orchestrator agree on the time")
    ahead = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'}"
    remedy = "set both by NTP: maintenance windows, approvals and not_after go by the orchestrator's"
    return Finding("clock", State.WARNING, f"the orchestrator's clock is {ahead} this machine's", remedy)


async def _rights(url: BrokerUrl, timeout_seconds: float) -> Finding:
    """Try to publish what only others may."""
    try:
        codes = await asyncio.to_thread(_publish_forbidden, url, timeout_seconds)
    except (OSError, ValueError, TimeoutError) as error:
        text = f"could not be tried out: {str(error) or 'no acknowledgement'}"
        return Finding("access list", State.UNKNOWN, text, "does the broker speak MQTT 5?")
    taken = [kind.value for kind, code in codes.items() if not code]
    if taken:
        told = f"{bus.actor_of(url)} may publish {', '.join(taken)} for any device"
        remedy = "give the broker an access list: tidegate broker-config FOLDER; a grant's signature protects devices"
        return Finding("access list", State.WARNING, told, remedy)
    return ok("access list", f"{bus.actor_of(url)} may command, and can neither order devices nor speak for them")


def _publish_forbidden(url: BrokerUrl, timeout_seconds: float) -> dict[Kind, bool]:
    """Return for each kind whether the broker refused it; says so in MQTT 5 only."""
    refused: dict[int, bool] = {}
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_publish = lambda _client, _data, mid, code, _properties: refused.__setitem__(mid, code.is_failure)
    client.username_pw_set(url.username, url.password)
    context = url.tls_context()
    if context is not None:
        client.tls_set_context(context)
    client.connect_timeout = timeout_seconds
    nobody = f"nobody-{secrets.token_hex(4)}"
    client.connect(url.host, url.port)
    try:
        sent: dict[int, Kind] = {}
        end = time.monotonic() + timeout_seconds
        while len(refused) < len(_FORBIDDEN):
            if time.monotonic() > end:
                raise TimeoutError
            client.loop(timeout=0.1)
            if client.is_connected() and not sent:
                sent = {
                    client.publish(bus.TREE.build(kind, device=nobody), b"", qos=1).mid: kind for kind in _FORBIDDEN
                }
        return {kind: refused[mid] for mid, kind in sent.items()}
    finally:
        client.disconnect()

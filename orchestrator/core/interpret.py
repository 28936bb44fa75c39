"""From the bus into the core: a topic and a payload become one input, or a refusal with its reason.

The id in the topic is the sender; nothing in a payload can speak for another device. What does not decode is counted
and dropped, and a command is always answered.
"""

from dataclasses import dataclass
from difflib import get_close_matches

from orchestrator.core.inputs import (
    Announced,
    BundleReceived,
    CommandReceived,
    CommandRefused,
    DeviceReady,
    DeviceReported,
    EvaluatorLost,
    HoldSeen,
    Input,
    PresenceSeen,
    SampleReceived,
)
from schemas.codec import RETAINED, decode
from schemas.commands import VERBS, parse_command
from schemas.documents import ReplyError
from schemas.errors import DecodeError
from schemas.ids import SHARDS
from schemas.messages import Info, Ready, Reported
from schemas.topics import Kind, TopicTree


@dataclass(frozen=True, slots=True)
class Received:
    """One message as the bus delivered it.

    Attributes:
        retained: The broker kept it, or its sender asked for that.
    """

    topic: str
    payload: bytes
    retained: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that says nothing, and why; ``reason`` is one of a few words, for counting."""

    topic: str
    reason: str
    detail: str = ""


def interpret(tree: TopicTree, received: Received) -> Input | Refused | None:
    """Turn a message into an input; None for what changes nothing: a retained document was cleared, or it is ours."""
    address = tree.parse(received.topic)
    if address is None:
        return Refused(received.topic, "foreign_topic")
    if address.kind is Kind.COMMAND:
        return _command(address.ids["actor"], address.ids["verb"], received)
    if address.kind is Kind.HOLD:
        return HoldSeen(is_held=bool(received.payload))  # Any brake counts, also one we cannot read.
    if not received.payload or address.kind is Kind.ORCHESTRATOR_INFO:
        return None
    if "worker" in address.ids:
        return _from_evaluator(address.kind, address.ids["worker"], received)
    try:
        return _from_device(address.kind, address.ids.get("device", ""), address.ids.get("shard"), received)
    except DecodeError as error:
        return Refused(received.topic, "undecodable", str(error)[:200])


def _from_device(kind: Kind, device: str, shard: str | None, received: Received) -> Input | Refused:
    payload = received.payload
    match kind:
        case Kind.AVAILABILITY if payload in {b"online", b"offline"}:
            return PresenceSeen(device, payload == b"online")
        case Kind.INFO:
            return Announced(device, decode(Info, payload, RETAINED))
        case Kind.REPORTED:
            return DeviceReported(device, decode(Reported, payload, RETAINED))
        case Kind.READY if not received.retained:
            return DeviceReady(device, decode(Ready, payload, RETAINED))
        case Kind.HEALTH if not received.retained and shard in SHARDS:
            return SampleReceived(device, SHARDS[shard], payload)
        case Kind.HEALTH if not received.retained:
            return Refused(received.topic, "foreign_shard")
        case Kind.READY | Kind.HEALTH:
            return Refused(received.topic, "retained_event")
        case _:
            return Refused(received.topic, "unexpected_kind")


def _from_evaluator(kind: Kind, worker: str, received: Received) -> Input | Refused | None:
    match kind:
        case Kind.EVALUATOR_SAMPLES if not received.retained:
            return BundleReceived(worker, received.payload)
        case Kind.EVALUATOR_SAMPLES:
            return Refused(received.topic, "retained_event")
        case Kind.EVALUATOR_AVAILABILITY:
            return (
                EvaluatorLost(worker) if received.payload == b"offline" else None
            )  # Its bundles say that it is there.
        case _:
            return Refused(received.topic, "unexpected_kind")


def _command(actor: str, verb: str, received: Received) -> Input | None:
    def refused(error: ReplyError) -> CommandRefused:
        return CommandRefused(actor, verb, error, received.topic, received.response_topic, received.correlation)

    if received.retained:
        if not received.payload:
            return None
        remedy = f"not carried out, because it was retained; cleared from {received.topic}: send it without -r"
        return refused(ReplyError(code="retained_command", message=remedy))
    if verb not in VERBS:
        near = tuple(get_close_matches(verb, VERBS, n=2))
        message = f"unknown command {verb!r}"
        return refused(ReplyError(code="unknown_command", message=message, allowed=tuple(VERBS), did_you_mean=near))
    try:
        command = parse_command(verb, received.payload)
    except DecodeError as error:
        return refused(ReplyError(code="invalid_payload", message=str(error)[:1024], field=error.field[:128]))
    return CommandReceived(actor, verb, command, received.response_topic, received.correlation)

"""What reaches the core: observed facts and commands, already decoded, each a frozen value."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.commands import Command
from schemas.documents import ReplyError
from schemas.messages import Info, Ready, Reported


@dataclass(frozen=True, slots=True)
class Announced:
    """A device sent its birth document."""

    device: str
    info: Info


@dataclass(frozen=True, slots=True)
class PresenceSeen:
    """A device, or the broker in its name, said whether it is connected."""

    device: str
    is_online: bool


@dataclass(frozen=True, slots=True)
class DeviceReported:
    """A device said where it is."""

    device: str
    reported: Reported


@dataclass(frozen=True, slots=True)
class DeviceReady:
    """A device asks whether it may take a step."""

    device: str
    ready: Ready


@dataclass(frozen=True, slots=True)
class SampleReceived:
    """A device sent what is meant to be a sample of its health; folded into telemetry, never journaled."""

    device: str
    shard: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SamplesSeen:
    """Devices sent samples, by their rows in the inventory; one may stand in it several times."""

    rows: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Asked:
    """Devices are asked how far they are."""

    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BundleReceived:
    """An evaluator handed samples on, or only showed that it is alive."""

    worker: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class EvaluatorLost:
    """An evaluator left, or the broker lost it."""

    worker: str


@dataclass(frozen=True, slots=True)
class ShardsUnread:
    """Nobody reads the health of the devices in these shards at present; none is good."""

    shards: frozenset[int]


@dataclass(frozen=True, slots=True)
class HoldSeen:
    """The emergency brake was set or released."""

    is_held: bool


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A person or a tool wants something.

    Attributes:
        response_topic: Where an MQTT 5 sender also wants the answer.
        correlation: What it wants to see again with the answer.
    """

    actor: str
    verb: str
    command: Command
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """A command that is none: retained, unknown or undecodable. It is answered and audited like any other.

    Attributes:
        topic: Where it came from; a retained one is cleared there.
    """

    actor: str
    verb: str
    error: ReplyError
    topic: str
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Input = (
    Announced
    | PresenceSeen
    | DeviceReported
    | DeviceReady
    | SampleReceived
    | SamplesSeen
    | Asked
    | BundleReceived
    | EvaluatorLost
    | ShardsUnread
    | HoldSeen
    | CommandReceived
    | CommandRefused
    | Tick
)

"""Ops commands: what people and tools send, verb by verb, and how a payload is read.

A payload is a JSON object, or a bare id where the id alone says it (``mosquitto_pub -m r-042``).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from schemas.codec import decode
from schemas.errors import DecodeError
from schemas.ids import Id, Name, is_id
from schemas.messages import Label, Message, Text


class RolloutCommand(Message):
    """approve, reject, pause, resume, abort, rollback: about one rollout.

    Attributes:
        wave: The wave that is meant; None means the current one.
        plan: Digest of the plan that is meant; None means the one that runs.
        transaction: Comes back with the answer.
    """

    rollout: Id
    wave: Id | None = None
    plan: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    reason: Text = ""
    transaction: Label | None = None


class StartCommand(Message):
    """plan and start: bring every eligible device to a release.

    Attributes:
        policy: The policy file's content as an object, or the name of a policy the orchestrator holds.
        time_scale: All durations of the policy are divided by it; for trying out.
    """

    release: Name
    policy: Mapping[str, Any] | Name
    rollout: Id | None = None
    time_scale: Annotated[float, Field(ge=1, le=100_000)] = 1.0
    reason: Text = ""
    transaction: Label | None = None


class DeviceCommand(Message):
    """quarantine and release: about one device."""

    device: Id
    reason: Text = ""
    transaction: Label | None = None


class QueryCommand(Message):
    """get: one rollout; list: all of them."""

    rollout: Id | None = None
    transaction: Label | None = None


Command = RolloutCommand | StartCommand | DeviceCommand | QueryCommand

VERBS: Final[Mapping[str, type[Command]]] = {
    "plan": StartCommand,
    "start": StartCommand,
    "approve": RolloutCommand,
    "reject": RolloutCommand,
    "pause": RolloutCommand,
    "resume": RolloutCommand,
    "abort": RolloutCommand,
    "rollback": RolloutCommand,
    "quarantine": DeviceCommand,
    "release": DeviceCommand,
    "get": QueryCommand,
    "list": QueryCommand,
}
"""Every verb that is answered with more than ``unknown_command``."""

_BARE: Final[Mapping[type[Message], str]] = {
    RolloutCommand: "rollout",
    DeviceCommand: "device",
    QueryCommand: "rollout",
}


def parse_command(verb: str, payload: bytes) -> Command:
    """Read the payload of a known ``verb``.

    Raises:
        DecodeError: It is not what the verb needs; the sender's fault. The text names the field.
    """
    model = VERBS[verb]
    text = payload.strip()
    bare = _BARE.get(model)
    if bare is not None and not text.startswith(b"{"):
        name = text.decode("ascii", "replace")
        if verb == "list" and not text:
            return QueryCommand()
        if not is_id(name):
            raise DecodeError(f"{bare}: {name[:80]!r} is no id; send an id or a JSON object", bare)
        return model.model_validate({bare: name})
    return decode(model, payload)

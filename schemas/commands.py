"""Ops commands: what people and tools send, verb by verb, and how a payload is read.

A payload is a JSON object, or a bare id where the id alone says it (``mosquitto_pub -m r-042``).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from schemas.codec import decode
from schemas.errors import DecodeError
from schemas.ids import Id, Name, Sha256, is_id
from schemas.inventory import DeviceEntry
from schemas.messages import Label, Message, Text
from schemas.policy_distribution import Activation


class RolloutCommand(Message):
    """activate, approve, reject, pause, resume, abort, rollback, finish, retry, skip: about one rollout.

    Attributes:
        wave: The wave that is meant; None means the current one.
        plan: Digest of the plan that is meant; None means the one that runs.
        devices: For retry and skip: which members. Retry without them means every one that failed or was brought back.
        transaction: Comes back with the answer.
    """

    rollout: Id
    wave: Id | None = None
    plan: Sha256 | None = None
    devices: Annotated[tuple[Id, ...], Field(strict=False, max_length=200)] = ()
    reason: Text = ""
    transaction: Label | None = None


class StartCommand(Message):
    """plan and start: bring every eligible device to a release.

    Attributes:
        policy: The policy file's content as an object, or the name of a policy the orchestrator holds.
        time_scale: All durations of the policy are divided by it; for trying out.
        plan: Digest of the plan that was looked at; the start is refused if it would be another one by now.
        activate: Replaces what the policy says of it under ``distribution``.
        supersede: Active rollouts that hold its devices end if their priority is the same or lower and they are not
            rolling back; then these devices are free.
        ignore_lint: Start in spite of lint errors; it stands in the audit.
    """

    release: Name
    policy: Mapping[str, Any] | Name
    rollout: Id | None = None
    time_scale: Annotated[float, Field(ge=1, le=100_000)] = 1.0
    plan: Sha256 | None = None
    activate: Activation | None = None
    supersede: bool = False
    ignore_lint: bool = False
    reason: Text = ""
    transaction: Label | None = None


class DeviceCommand(Message):
    """quarantine and release: about one device."""

    device: Id
    reason: Text = ""
    transaction: Label | None = None


class QueryCommand(Message):
    """get: one rollout, or one device in it or by itself."""

    rollout: Id | None = None
    device: Id | None = None
    transaction: Label | None = None


class ListCommand(Message):
    """list: the newest rollouts, devices by their ids, the health of devices, the worst first, or who reads that.

    Attributes:
        where: A filter expression; for devices and their health.
        rollout: Only devices whose order is of this rollout; for devices and their health.
        after: The last device of the page before; for devices.
        count_only: Only how many there are; for devices.
    """

    what: Literal["rollouts", "devices", "health", "evaluators"] = "rollouts"
    where: Annotated[str, Field(max_length=2048)] | None = None
    rollout: Id | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Id | None = None
    count_only: bool = False
    transaction: Label | None = None


DEVICES_PER_PART_MAX: Final = 200
"""An import may be larger than a message; its parts may not."""


class ImportCommand(Message):
    """import: what people declare about devices; the parts of one import come in order.

    Attributes:
        import_id: The sender's name for it.
        part: From 1 to ``parts``.
        replace: Devices that are not in it lose what was declared of them.
        dry_run: Only say what would change.
    """

    import_id: Id
    part: Annotated[int, Field(ge=1)]
    parts: Annotated[int, Field(ge=1, le=10_000)]
    devices: Annotated[Mapping[Id, DeviceEntry], Field(max_length=DEVICES_PER_PART_MAX)]
    dry_run: bool = False
    replace: bool = False
    reason: Text = ""
    transaction: Label | None = None


Command = RolloutCommand | StartCommand | DeviceCommand | QueryCommand | ListCommand | ImportCommand

VERBS: Final[Mapping[str, type[Command]]] = {
    "plan": StartCommand,
    "start": StartCommand,
    "activate": RolloutCommand,
    "approve": RolloutCommand,
    "reject": RolloutCommand,
    "pause": RolloutCommand,
    "resume": RolloutCommand,
    "abort": RolloutCommand,
    "rollback": RolloutCommand,
    "finish": RolloutCommand,
    "retry": RolloutCommand,
    "skip": RolloutCommand,
    "quarantine": DeviceCommand,
    "release": DeviceCommand,
    "get": QueryCommand,
    "list": ListCommand,
    "import": ImportCommand,
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
    if verb == "list" and not text:
        return ListCommand()
    bare = _BARE.get(model)
    if bare is not None and not text.startswith(b"{"):
        name = text.decode("ascii", "replace")
        if not is_id(name):
            raise DecodeError(f"{bare}: {name[:80]!r} is no id; send an id or a JSON object", bare)
        return model.model_validate({bare: name})
    return decode(model, payload)

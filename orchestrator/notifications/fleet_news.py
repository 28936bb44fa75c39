"""Notifications that are about devices or the whole fleet, not about one rollout."""

from collections.abc import Collection, Mapping
from typing import Final

from orchestrator.notifications import wording
from orchestrator.notifications.notification import DEVICES_SHOWN_MAX, Notification, Trigger, identity
from schemas.codec import decode
from schemas.documents import RollbackOrder, StatusDocument
from schemas.errors import DecodeError
from schemas.messages import Hold
from schemas.times import format_timestamp

_LOOK: Final = "tidegate list"


def quarantined(devices: Mapping[str, str], now: float) -> Notification:
    """Tell of devices, each with why, that are kept out from now on."""
    shown = list(devices)[:DEVICES_SHOWN_MAX]
    count = len(devices)
    who = f"device {shown[0]} is" if count == 1 else f"{count} devices are"
    whys = [f"{name}: {wording.one_line(devices[name])}" for name in shown]
    rest = [f"and {count - len(shown)} more"] if count > len(shown) else []
    lookups = [f"tidegate device {shown[0]}", f"tidegate release-device {shown[0]}"]
    return Notification(
        id=identity(Trigger.DEVICE_QUARANTINED, *sorted(devices), format_timestamp(now)),
        trigger=Trigger.DEVICE_QUARANTINED,
        at=format_timestamp(now),
        title=f"{who} quarantined",
        text="\n".join(["Kept out of all waves until a person releases them.", *whys, *rest])[: wording.TEXT_MAX],
        next=(*lookups, "tidegate devices --where quarantined"),
        devices=tuple(shown),
        device_count=count,
    )


def brake(payload: bytes, now: float) -> Notification:
    """Tell that the emergency brake is pulled; whatever stands in the document, it holds."""
    try:
        hold = decode(Hold, payload)
    except DecodeError:
        hold = Hold(reason="it cannot be read")
    who = f" by {wording.one_line(hold.by)}" if hold.by else ""
    why = f" Why: {wording.one_line(hold.reason)}." if hold.reason else ""
    return Notification(
        id=identity(Trigger.BRAKE, payload.decode("utf-8", "replace"), format_timestamp(now)),
        trigger=Trigger.BRAKE,
        at=format_timestamp(now),
        title=wording.one_line(f"the emergency brake was pulled{who}", wording.TITLE_MAX),
        text=f"No device activates an install while it is pulled.{why}",
        next=("mosquitto_pub -V 5 -q 1 -r -n -t fleet/v1/all/hold", _LOOK),
    )


def frozen(status: StatusDocument, rollouts: Collection[str], why: str) -> Notification:
    """Tell that the orchestrator decides nothing; a rollout's status says so."""
    said = f"Why: {wording.one_line(why)}\n" if why else ""
    waiting = ", ".join(sorted(rollouts))
    return Notification(
        id=identity(Trigger.FLEET_FROZEN, status.ts),
        trigger=Trigger.FLEET_FROZEN,
        at=status.ts,
        title="the fleet is frozen: the orchestrator decides nothing",
        text=f"{said}It suspects itself or the broker. Nothing goes on in {waiting} until that is over.",
        next=(f"tidegate explain {status.rollout}", f"tidegate resume {status.rollout}", "tidegate doctor"),
    )


def order_line(order: RollbackOrder) -> str:
    """Say which devices go back, and what ordered it."""
    what = "1 device goes" if order.device_count == 1 else f"{order.device_count} devices go"
    numbers = "; ".join(each.why for each in order.evidence[:3])
    why = f" ({numbers})" if numbers else ""
    return f"{order.trigger}{why}: {what} back: {wording.names(order.devices, order.device_count)}"

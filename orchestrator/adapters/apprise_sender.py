"""Slack, Teams, mail and a hundred others as destinations, through the library apprise (the extra ``notify``)."""

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import Final

from orchestrator.adapters.outbox import Delivery
from orchestrator.notifications.retrying import Delivered, Later, Outcome
from schemas.errors import FleetError

_KINDS: Final = {
    "on-completed": "success", "on-wave-completed": "success", "on-awaiting-approval": "warning",
    "on-caution": "warning", "on-device-quarantined": "warning", "on-halted": "failure", "on-rolled-back": "failure",
    "on-aborted": "warning", "on-blocked": "warning", "on-brake": "failure", "on-fleet-frozen": "failure",
}  # fmt: skip


class AppriseError(FleetError):
    """The operator's fault: apprise is not installed, or an address is none of its. Never names the address."""


@dataclass(frozen=True, slots=True)
class Apprise:
    """One address of apprise; it holds secrets and is never shown.

    Raises:
        AppriseError: Apprise is not installed, or does not know such an address.
    """

    url: str = field(repr=False)
    timeout_seconds: float

    def __post_init__(self) -> None:
        try:
            import apprise  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise AppriseError("apprise is not installed; pip install 'tidegate[orchestrator,notify]'") from error
        logging.getLogger("apprise").disabled = True  # It may log addresses.
        if not apprise.Apprise().add(self.url):
            raise AppriseError("apprise does not know such an address; its documentation lists the forms")

    async def deliver(self, delivery: Delivery, now: float) -> Outcome:
        """Send it once; apprise does not say why something did not arrive."""
        del now  # a signature's
        try:
            async with asyncio.timeout(self.timeout_seconds):
                arrived = await asyncio.to_thread(self._notify, json.loads(delivery.body))
        except TimeoutError:
            return Later("apprise takes too long")
        except Exception as error:  # noqa: BLE001 - of a plugin for whatever service
            return Later(f"apprise fails: {type(error).__name__}")
        return Delivered() if arrived else Later("apprise could not deliver it")

    def _notify(self, told: dict[str, object]) -> bool:
        import apprise  # noqa: PLC0415 - an extra

        sender = apprise.Apprise()
        sender.add(self.url)
        steps = told["next"]
        assert isinstance(steps, list), "ours"
        text = "\n".join([str(told["text"]), "", *(f"Next: {step}" for step in steps)])
        kind = _KINDS.get(str(told["trigger"]), "info")
        return bool(
            sender.notify(title=str(told["title"]), body=text, notify_type=kind, body_format=apprise.NotifyFormat.TEXT)
        )

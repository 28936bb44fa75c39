"""From what is configured to what can be delivered to."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.adapters.apprise_sender import Apprise, AppriseError
from orchestrator.adapters.notify_config import DestinationBlock, NotifyBlock, NotifyConfigError, address_of, secret_of
from orchestrator.adapters.outbox import Delivery
from orchestrator.adapters.webhook import Webhook
from orchestrator.notifications.notification import Trigger
from orchestrator.notifications.retrying import Outcome
from orchestrator.notifications.routing import Interest


class Transport(Protocol):
    """Delivers."""

    async def deliver(self, delivery: Delivery, now: float) -> Outcome:
        """Send it once, in bounded time; ``now`` is in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Somebody who is told things.

    Attributes:
        patience_seconds: After so long a notification is given up; an answer too.
        approves: It is asked whether rollouts may go on, and its answer counts.
        ask_again_seconds: How long after ``wait`` it is asked again.
    """

    name: str
    interest: Interest
    transport: Transport
    patience_seconds: float
    approves: bool = False
    ask_again_seconds: float = 30.0


def make_destinations(config: NotifyBlock, environment: Mapping[str, str]) -> list[Destination]:
    """Return all destinations of a configuration.

    Raises:
        NotifyConfigError: One of them cannot be used; the text names it.
    """
    return [_destination(name, block, environment) for name, block in config.destinations.items()]


def _check_authority(ca_file: Path | None, name: str) -> None:
    try:
        ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise NotifyConfigError(f"{name}: {ca_file}: no certificates in PEM that can be read") from error


def _destination(name: str, block: DestinationBlock, environment: Mapping[str, str]) -> Destination:
    address = address_of(block, name, environment)
    transport: Transport
    if block.apprise or block.apprise_file:
        try:
            transport = Apprise(address, block.timeout)
        except AppriseError as error:
            raise NotifyConfigError(f"{name}: {error}") from error
    else:
        _check_authority(block.ca_file, name)
        transport = Webhook(address, secret_of(block, name, environment), block.timeout, block.ca_file)
    triggers = frozenset({Trigger.AWAITING_APPROVAL}) if block.approves else frozenset(block.triggers)
    return Destination(
        name=name,
        interest=Interest(triggers, block.rollouts, block.releases),
        transport=transport,
        patience_seconds=block.answer_within if block.approves else block.give_up_after,
        approves=block.approves,
        ask_again_seconds=block.ask_again,
    )

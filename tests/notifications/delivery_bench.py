"""One destination on its way out of a queue, with the orchestrator's side of a command."""

from typing import Any

from orchestrator.adapters.courier import Courier, Desk
from orchestrator.adapters.destinations import Destination
from orchestrator.adapters.outbox import Delivery, Outbox
from orchestrator.adapters.webhook import Webhook
from orchestrator.cli.exits import NoAnswerError
from orchestrator.notifications.confirming import Decision
from orchestrator.notifications.notification import Notification, to_wire
from orchestrator.notifications.routing import Interest
from orchestrator.notifications.watcher import Watcher
from schemas.codec import encode
from schemas.documents import Reply
from schemas.topics import Address, Kind
from tests.notifications.receiver import make_status

SECRET = b"whsec-0123456789abcdef"
NOW = 1_764_417_600.0


class World:
    """A destination, what it is asked about, and the orchestrator's side of a command."""

    def __init__(self, url: str, outbox: Outbox, **changes: object) -> None:
        self.outbox = outbox
        self.is_open = True
        self.replies: list[Reply | NoAnswerError] = []
        self.commands: list[Decision] = []
        self.unanswered: list[str] = []
        fields: dict[str, Any] = {
            "name": "ops", "interest": Interest(), "transport": Webhook(url, SECRET, 2.0), "patience_seconds": 3600.0,
        }  # fmt: skip
        desk = Desk(
            lambda _facts: self.is_open, self.command, lambda _question, _name, why: self.unanswered.append(why)
        )
        self.courier = Courier(Destination(**{**fields, **changes}), outbox, desk, lambda: 1.0)

    async def command(self, decision: Decision) -> Reply:
        self.commands.append(decision)
        reply = self.replies.pop(0) if self.replies else Reply(status="ok")
        if isinstance(reply, NoAnswerError):
            raise reply
        return reply

    def queue(self, notification: Notification, at: float = NOW) -> None:
        wire = to_wire(notification)
        self.outbox.record({}, [Delivery("ops", notification.id, notification.title, wire, at, at)])


def question(phase: str = "awaiting_approval", ts: str = "2026-11-29T12:00:00.000Z") -> Notification:
    watcher = Watcher()
    address = Address(Kind.STATUS, {"rollout": "r-1"})
    watcher.hear(address, encode(make_status()), 0.0)
    return watcher.hear(address, encode(make_status(phase, ts=ts)), 0.0).notifications[0]

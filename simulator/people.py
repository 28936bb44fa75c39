"""Simulated people: they see only what the bus shows, and command only over it.

Alice is on duty: she starts the rollout, asks again until she is answered, and approves when it waits for her. Clumsy
people approve late, twice or for the wrong wave, pause, resume and pull the brake.
"""

import json
import random
from dataclasses import dataclass
from typing import Any, Final

from embedded_broker.packets import Publish, Subscription
from schemas.codec import decode
from schemas.documents import Reply, StatusDocument
from schemas.errors import DecodeError
from schemas.topics import Kind, TopicTree
from simulator.client import Client, Login
from simulator.clock import Clock
from simulator.network import Network
from simulator.trace import Trace
from simulator.witness import Witness

ALICE: Final = "alice"
BOB: Final = "bob"
AGAIN_SECONDS: Final = 60.0
SENT_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Habits:
    """What the person on duty does.

    Attributes:
        approve_after_seconds: From seeing that a rollout waits; None is never.
        activate_after_seconds: From seeing that a rollout is staged; None is never.
        resumes: How often a halted rollout is resumed.
        is_clumsy: Whether odd commands are sent as well.
    """

    approve_after_seconds: float | None = 60.0
    resumes: int = 0
    is_clumsy: bool = False
    activate_after_seconds: float | None = None


class Person:
    """One operator at a keyboard.

    Attributes:
        is_braking: Whether the brake was pulled last, and not released.
        replies: Every answer so far, with its verb.
        statuses: The last status of each rollout that was seen.
    """

    def __init__(
        self,
        clock: Clock,
        network: Network,
        tree: TopicTree,
        habits: Habits,
        *,
        rng: random.Random,
        witness: Witness,
        trace: Trace,
        name: str = ALICE,
    ) -> None:
        self.name = name
        self.is_braking = False
        self.replies: list[tuple[str, Reply]] = []
        self.statuses: dict[str, StatusDocument] = {}
        self._clock = clock
        self._tree = tree
        self._habits = habits
        self._rng = rng
        self._witness = witness
        self._trace = trace
        self._status_filter = tree.filter(Kind.STATUS)
        self._count = 0
        self._resumes_left = habits.resumes
        self._waiting: dict[str, tuple[str, dict[str, Any]]] = {}
        self._approving: set[tuple[str, str | None]] = set()
        self._activating: set[str] = set()
        self._later_again = 0
        subscriptions = (
            Subscription(self._status_filter, 1),
            Subscription(tree.filter(Kind.REPLY, actor=name), 1),
        )
        self.client = Client(clock, network, Login(name, subscriptions), self, rng)

    @property
    def is_waiting(self) -> bool:
        """Whether something was commanded and not answered, or is about to be."""
        return bool(self._waiting or self._approving or self._activating or self._later_again)

    def command(self, verb: str, **fields: Any) -> None:  # noqa: ANN401 - the fields of the verb's command
        """Send a command, and again until it is answered."""
        self._count += 1
        transaction = f"t{self._count}"
        payload = {**fields, "transaction": transaction}
        self._witness.resumes[fields.get("rollout", "")] += verb == "resume"
        self._waiting[transaction] = (verb, payload)
        self._send(transaction)

    def approve(self, rollout: str, wave: str | None = None) -> None:
        """Approve going on after a wave; None is the current one."""
        self._witness.approvals.add((rollout, wave))
        self.command("approve", rollout=rollout, **({} if wave is None else {"wave": wave}))

    def activate(self, rollout: str) -> None:
        """Let a staged rollout begin."""
        self._activating.discard(rollout)
        self._witness.activations.add(rollout)
        self.command("activate", rollout=rollout)

    def brake(self, *, on: bool) -> None:
        """Pull or release the fleet's emergency brake."""
        self.is_braking = on
        self._trace.add(self.name, f"brake {'on' if on else 'off'}")
        payload = json.dumps({"reason": "drill", "by": self.name}).encode() if on else b""
        self.client.publish(self._tree.build(Kind.HOLD), payload, qos=1, retain=True)

    def on_connected(self) -> None:
        """Nothing is said again: commands repeat themselves."""

    def on_disconnected(self) -> None:
        """Wait."""

    def on_message(self, packet: Publish) -> None:
        """Read a status or an answer."""
        address = self._tree.parse(packet.topic)
        if address is None or not packet.payload:
            return
        try:
            if address.kind is Kind.STATUS:
                self._see(decode(StatusDocument, packet.payload))
            else:
                self._hear(address.ids["verb"], decode(Reply, packet.payload))
        except DecodeError:
            return

    def _see(self, status: StatusDocument) -> None:
        self.statuses[status.rollout] = status
        due = (status.rollout, status.wave)
        if status.phase == "halted" and "resume" in status.allowed and self._resumes_left > 0:
            self._resumes_left -= 1
            self.command("resume", rollout=status.rollout)
        self._think_of_activating(status)
        if status.phase != "awaiting_approval" or "approve" not in status.allowed or due in self._approving:
            return
        seconds = self._habits.approve_after_seconds
        if seconds is not None:
            self._approving.add(due)
            self._clock.after(seconds, lambda: self._approve(*due))

    def _think_of_activating(self, status: StatusDocument) -> None:
        seconds, name = self._habits.activate_after_seconds, status.rollout
        is_due = status.phase == "staging" and "activate" in status.allowed and name not in self._activating
        if is_due and seconds is not None:
            self._activating.add(name)
            self._clock.after(seconds, lambda: self.activate(name))

    def _approve(self, rollout: str, wave: str | None) -> None:
        self._approving.discard((rollout, wave))
        if self._habits.is_clumsy and self._rng.random() < 0.5:  # noqa: PLR2004 - even odds
            self.approve(rollout, self._rng.choice(("wave-1", "wave-2", "canary")))
        self.approve(rollout, wave if self._rng.random() < 0.5 else None)  # noqa: PLR2004 - even odds
        if self._habits.is_clumsy:
            self.approve(rollout, wave)

    def _hear(self, verb: str, reply: Reply) -> None:
        self.replies.append((verb, reply))
        waiting = self._waiting.pop(reply.transaction or "", None)
        if waiting is None:
            return
        code = reply.error.code if reply.error else "ok"
        self._trace.add(self.name, f"{verb} is answered: {code}")
        fields = {name: value for name, value in waiting[1].items() if name != "transaction"}
        if code == "conflict" and self._is_too_early(verb, fields) and self._count < SENT_MAX:
            self._later_again += 1
            self._clock.after(AGAIN_SECONDS, lambda: self._again(verb, fields))

    def _is_too_early(self, verb: str, fields: dict[str, Any]) -> bool:
        """Say whether the same command may be taken in a minute: the evidence is not there yet."""
        status = self.statuses.get(fields.get("rollout", ""))
        is_meant = status is None or fields.get("wave") in (None, status.wave)
        return verb == "start" or (verb == "approve" and is_meant)

    def _again(self, verb: str, fields: dict[str, Any]) -> None:
        self._later_again -= 1
        self.command(verb, **fields)

    def _send(self, transaction: str) -> None:
        waiting = self._waiting.get(transaction)
        if waiting is None:
            return
        verb, payload = waiting
        topic = self._tree.build(Kind.COMMAND, actor=self.name, verb=verb)
        self.client.publish(topic, json.dumps(payload).encode(), qos=1, retain=False)
        self._clock.after(AGAIN_SECONDS, lambda: self._send(transaction))

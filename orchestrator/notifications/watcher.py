"""What a listener has seen so far, folded from messages; it yields notifications and what must be remembered.

Mutable and bounded, without clock or I/O: who runs it keeps ``Heard.changes`` and the notifications in one transaction,
so that nothing is told twice and nothing is forgotten, whenever the process dies.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.notifications import fleet_news, wording
from orchestrator.notifications.notification import (
    DEVICES_SHOWN_MAX,
    WAITING,
    Notification,
    Trigger,
    facts_of,
    identity,
)
from orchestrator.notifications.triggers import ENDED, Known, KnownGate, News, gate_news, status_news
from schemas.codec import decode
from schemas.documents import AuditRecord, GateResult, RollbackOrder, RolloutEvent, StatusDocument
from schemas.times import format_timestamp, parse_timestamp
from schemas.topics import Address, Kind

QUARANTINE_GATHER_SECONDS: Final = 2.0
"""Devices that are quarantined one after the other are told in one message."""
BLOCKED_SECONDS: Final = 900.0
"""So long healthy devices wait for others to be healthy before somebody is told; for a while they often do."""
_QUARANTINES_KNOWN: Final = "quarantines-known"
_FAILURES_KEPT: Final = 5
_GATES_SENT_MAX: Final = 32


@dataclass
class Heard:
    """What follows from what was heard.

    Attributes:
        changes: What to remember, by key; None to forget it.
    """

    notifications: list[Notification] = field(default_factory=list)
    changes: dict[str, str | None] = field(default_factory=dict)


@dataclass
class Watcher:
    """Everything that decides what is news.

    Attributes:
        memory: What is remembered across restarts, by key; see ``Heard.changes``.
        settled: Whether what the bus holds was ever known. While it was not, what is found there is old: only what
            still waits for somebody is told.
    """

    memory: dict[str, str] = field(default_factory=dict)
    settled: bool = False
    statuses: dict[str, StatusDocument] = field(default_factory=dict)
    gates: dict[str, dict[str, GateResult]] = field(default_factory=dict)
    failures: dict[str, deque[str]] = field(default_factory=dict)
    orders: dict[str, RollbackOrder] = field(default_factory=dict)
    gathering: dict[str, tuple[str, float]] = field(default_factory=dict)
    blocked: dict[str, float] = field(default_factory=dict)
    """Rollouts whose healthy devices wait, each since when, of which nobody was told."""
    frozen: set[str] = field(default_factory=set)
    why_frozen: str = ""

    def __post_init__(self) -> None:
        """Know from memory what the bus is compared with."""
        self.settled = self.settled or "settled" in self.memory
        for key, text in self.memory.items():
            if key.startswith("status/"):
                rollout, known = key.removeprefix("status/"), Known.model_validate_json(text)
                self._note_blocked(rollout, known)
                if known.frozen:
                    self.frozen.add(rollout)

    def hear(self, address: Address, payload: bytes, now: float, *, is_retained: bool = False) -> Heard:
        """Fold one message.

        Args:
            address: Where it came.
            payload: As received; empty where a retained document was taken away.
            now: Seconds since the epoch.
            is_retained: It was there before we were.

        Raises:
            DecodeError: It is not what the topic promises; nothing has changed.
        """
        is_old = is_retained and not self.settled
        match address.kind:
            case Kind.STATUS:
                return self._status(address.ids["rollout"], payload, is_old=is_old)
            case Kind.GATE:
                return self._gate(address.ids["rollout"], address.ids["wave"], payload, is_old=is_old)
            case Kind.HOLD:
                return self._hold(payload, now)
            case Kind.AUDIT:
                return self._audit(decode(AuditRecord, payload), now)
            case Kind.ROLLBACK:
                self.orders[address.ids["rollout"]] = decode(RollbackOrder, payload)
            case Kind.ROLLOUT_EVENT if address.ids["kind"] == "fleet_frozen":
                self.why_frozen = decode(RolloutEvent, payload).message
            case Kind.ROLLOUT_EVENT if address.ids["kind"] == "device_failed":
                event = decode(RolloutEvent, payload)
                kept = self.failures.setdefault(event.rollout, deque(maxlen=_FAILURES_KEPT))
                kept.append(f"{event.device}: {event.message}")
            case _:
                pass
        return Heard()

    def found_quarantined(self, devices: Mapping[str, str], now: float) -> Heard:
        """Take the whole list of quarantined devices, each with the reason, as the orchestrator tells it."""
        heard = Heard()
        is_first = _QUARANTINES_KNOWN not in self.memory
        self._remember(heard, _QUARANTINES_KNOWN, "yes")
        for key in [key for key in self.memory if key.startswith("quarantine/")]:
            if key.removeprefix("quarantine/") not in devices:
                self._remember(heard, key, None)
        for device, reason in devices.items():
            if is_first:
                self._remember(heard, f"quarantine/{device}", reason)
            elif f"quarantine/{device}" not in self.memory:
                self.gathering.setdefault(device, (reason, now))
        return heard

    def gathered(self, now: float) -> Heard:
        """Return the news of quarantined devices once no more of them are waited for."""
        heard = Heard()
        if not self.gathering or now - next(iter(self.gathering.values()))[1] < QUARANTINE_GATHER_SECONDS:
            return heard
        devices = {name: reason for name, (reason, _) in self.gathering.items()}
        heard.notifications.append(fleet_news.quarantined(devices, now))
        for name, reason in devices.items():
            self._remember(heard, f"quarantine/{name}", reason)
        self.gathering.clear()
        return heard

    def waited(self, now: float) -> Heard:
        """Return the news of rollouts whose healthy devices have waited long for others to be healthy."""
        heard = Heard()
        for rollout, since in list(self.blocked.items()):
            status, key = self.statuses.get(rollout), f"status/{rollout}"
            if status is None or now - since < BLOCKED_SECONDS:
                continue
            known = Known.model_validate_json(self.memory[key]).model_copy(update={"blocked_told": True})
            self._remember(heard, key, known.model_dump_json())
            self._note_blocked(rollout, known)
            heard.notifications.append(self._about(status, News(Trigger.BLOCKED, status.wave), format_timestamp(since)))
        return heard

    def settle(self) -> Heard:
        """Note that all that the bus held is known: from now on what is found there is news."""
        self.settled = True
        heard = Heard()
        self._remember(heard, "settled", "yes")
        return heard

    def awaits(self, rollout: str, wave: str | None, plan_digest: str | None) -> bool:
        """Say whether a rollout waits for an approval of this wave and plan, as far as is known."""
        text = self.memory.get(f"status/{rollout}")
        known = None if text is None else Known.model_validate_json(text)
        return known is not None and (known.phase, known.wave, known.plan_digest) == (
            "awaiting_approval", wave, plan_digest,
        )  # fmt: skip

    def _status(self, rollout: str, payload: bytes, *, is_old: bool) -> Heard:
        heard, key = Heard(), f"status/{rollout}"
        if not payload:
            self._forget(rollout, heard)
            return heard
        status = decode(StatusDocument, payload)
        is_first = rollout not in self.statuses
        self.statuses[rollout] = status
        text = self.memory.get(key)
        before = None if text is None else Known.model_validate_json(text)
        known = Known.of(status, before)
        if known != before:
            self._remember(heard, key, known.model_dump_json())
            news = [each for each in status_news(before, known) if not is_old or each.trigger in WAITING]
            heard.notifications += [self._about(status, each, status.ts) for each in news]
            self._note_frozen(heard, status, known)
            self._note_blocked(rollout, known)
        if is_first:  # Verdicts that came before it.
            for wave, gate in self.gates.get(rollout, {}).items():
                self._judged(heard, status, wave, gate, is_old=is_old)
        if status.phase in ENDED:
            for told in (self.failures, self.orders, self.gates):
                told.pop(rollout, None)
        return heard

    def _gate(self, rollout: str, wave: str, payload: bytes, *, is_old: bool) -> Heard:
        heard = Heard()
        if not payload:
            self.gates.get(rollout, {}).pop(wave, None)
            self._remember(heard, f"gate/{rollout}/{wave}", None)
            return heard
        gate, status = decode(GateResult, payload), self.statuses.get(rollout)
        if status is not None and status.phase in ENDED:
            return heard
        self.gates.setdefault(rollout, {})[wave] = gate
        if status is not None:
            self._judged(heard, status, wave, gate, is_old=is_old)
        return heard

    def _judged(self, heard: Heard, status: StatusDocument, wave: str, gate: GateResult, *, is_old: bool) -> None:
        key, known = f"gate/{status.rollout}/{wave}", KnownGate.of(gate)
        text = self.memory.get(key)
        before = None if text is None else KnownGate.model_validate_json(text)
        if known == before:
            return
        self._remember(heard, key, known.model_dump_json())
        if not is_old:
            news = gate_news(before, known, wave)
            heard.notifications += [self._about(status, each, gate.evaluated_at) for each in news]

    def _note_blocked(self, rollout: str, known: Known) -> None:
        if known.blocked_since is None or known.blocked_told:
            self.blocked.pop(rollout, None)
        else:
            self.blocked[rollout] = parse_timestamp(known.blocked_since)

    def _note_frozen(self, heard: Heard, status: StatusDocument, known: Known) -> None:
        was_frozen = bool(self.frozen)
        if known.frozen:
            self.frozen.add(status.rollout)
        else:
            self.frozen.discard(status.rollout)
        if self.frozen and not was_frozen:
            heard.notifications.append(fleet_news.frozen(status, self.frozen, self.why_frozen))

    def _hold(self, payload: bytes, now: float) -> Heard:
        heard, text = Heard(), payload.decode("utf-8", "replace")
        if text == self.memory.get("hold", ""):
            return heard
        was_pulled = "hold" in self.memory
        self._remember(heard, "hold", text or None)
        if text and not was_pulled:
            heard.notifications.append(fleet_news.brake(payload, now))
        return heard

    def _audit(self, record: AuditRecord, now: float) -> Heard:
        heard, device = Heard(), record.body.get("device")
        if record.kind == "device_quarantined" and isinstance(device, str):
            if f"quarantine/{device}" not in self.memory:
                self.gathering.setdefault(device, (str(record.body.get("reason", "")), now))
        elif record.kind == "device_released" and isinstance(device, str):
            self.gathering.pop(device, None)
            if f"quarantine/{device}" in self.memory:
                self._remember(heard, f"quarantine/{device}", None)
        return heard

    def _about(self, status: StatusDocument, news: News, moment: str) -> Notification:
        gates = self.gates.get(status.rollout, {})
        wave = news.wave
        if wave not in gates and gates and news.trigger is not Trigger.STARTED:
            wave = max(gates, key=lambda name: gates[name].evaluated_at)
        judged = (wave, gates[wave]) if wave is not None and wave in gates else None
        order = self.orders.get(status.rollout) if status.phase in {"rolling_back", "rolled_back", "halted"} else None
        going_back = None if order is None else fleet_news.order_line(order)
        return Notification(
            id=identity(news.trigger, status.rollout, news.wave or "", status.phase, moment),
            trigger=news.trigger,
            at=moment,
            title=wording.title_of(news.trigger, status, news.wave),
            text=wording.text_of(status, judged, self.failures.get(status.rollout, ()), going_back),
            next=wording.commands_of(status, status.wave),
            rollout=facts_of(status),
            gates=dict(list(gates.items())[-_GATES_SENT_MAX:]),
            devices=() if order is None else order.devices[:DEVICES_SHOWN_MAX],
            device_count=0 if order is None else order.device_count,
        )

    def _forget(self, rollout: str, heard: Heard) -> None:
        for known in (self.statuses, self.gates, self.failures, self.orders):
            known.pop(rollout, None)
        self.frozen.discard(rollout)
        self.blocked.pop(rollout, None)
        if f"status/{rollout}" in self.memory:
            self._remember(heard, f"status/{rollout}", None)

    def _remember(self, heard: Heard, key: str, text: str | None) -> None:
        heard.changes[key] = text
        if text is None:
            self.memory.pop(key, None)
        else:
            self.memory[key] = text

"""What a watcher has seen of one rollout: documents by topic, folded from messages, and what changed with each."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.cli.phases import phase_words
from orchestrator.cli.quantities import value_text
from schemas.codec import decode, decode_object
from schemas.documents import GateResult, RolloutEvent, StatusDocument
from schemas.errors import DecodeError
from schemas.times import Timestamp, format_timestamp
from schemas.topics import Address, Kind

EVENTS_KEPT: Final = 50
WATCHED: Final = (Kind.PLAN, Kind.STATUS, Kind.GATE, Kind.ROLLOUT_EVENT)
"""What is subscribed to, each of the one rollout."""


class Change(BaseModel):
    """One thing that changed: a line of ``watch --json``.

    Attributes:
        at: When it was seen, or when it happened where the message says so.
        kind: What changed.
        text: The same for people, on one line.
        detail: The document or event behind it.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    at: Timestamp
    kind: Literal["plan", "phase", "progress", "gate", "event", "orchestrator", "connection", "unreadable"]
    rollout: str
    text: str
    detail: Mapping[str, Any] = {}


@dataclass
class Documents:
    """All that was seen so far of one rollout.

    Attributes:
        gates: The last verdict after each wave, the newest last.
        events: Kinds and events, the newest last.
        orchestrator: What its availability says; empty while that is unknown.
        trouble: What is wrong with the connection; empty while it holds.
    """

    rollout: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    status: StatusDocument | None = None
    gates: dict[str, GateResult] = field(default_factory=dict)
    events: deque[tuple[str, RolloutEvent]] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    orchestrator: str = ""
    trouble: str = ""

    def hear(self, address: Address, payload: bytes, now: float) -> list[Change]:
        """Fold one message; what does not decode is a change of its own and changes nothing else."""
        if not payload:
            return []  # A retained document was taken away; what it said last stays on the screen.
        try:
            match address.kind:
                case Kind.ORCHESTRATOR_AVAILABILITY:
                    return self._hear_orchestrator(payload.decode("ascii", "replace"), now)
                case Kind.PLAN:
                    return self._hear_plan(decode_object(payload), now)
                case Kind.STATUS:
                    return self._hear_status(decode(StatusDocument, payload), now)
                case Kind.GATE:
                    return self._hear_gate(address.ids["wave"], decode(GateResult, payload), now)
                case Kind.ROLLOUT_EVENT:
                    return self._hear_event(address.ids["kind"], decode(RolloutEvent, payload))
                case _:
                    return []
        except DecodeError as error:
            return [self._change(now, "unreadable", f"{address.kind} cannot be read: {error}")]

    def lose(self, trouble: str, now: float) -> list[Change]:
        """Note that the connection broke, or with an empty ``trouble`` that it is back."""
        if trouble == self.trouble:
            return []
        self.trouble = trouble
        return [self._change(now, "connection", trouble or "connected again")]

    def _hear_orchestrator(self, text: str, now: float) -> list[Change]:
        before, self.orchestrator = self.orchestrator, text
        is_news = text != before and (before or text != "online")
        said = "the orchestrator is online" if text == "online" else "the orchestrator is offline: nothing is decided"
        return [self._change(now, "orchestrator", said)] if is_news else []

    def _hear_plan(self, plan: Mapping[str, Any], now: float) -> list[Change]:
        if plan == self.plan:
            return []
        self.plan = plan
        waves = plan.get("waves", ())
        said = " ".join(f"{wave.get('wave')}={wave.get('devices')}" for wave in waves if isinstance(wave, dict))
        return [self._change(now, "plan", f"plan {str(plan.get('plan_digest'))[:12]}: {said}", plan)]

    def _hear_status(self, status: StatusDocument, now: float) -> list[Change]:
        before, self.status = self.status, status
        detail = json.loads(status.model_dump_json())
        changes = []
        if before is None or _place(before) != _place(status):
            changes.append(self._change(now, "phase", _place_text(status), detail))
        if before is not None and _tally(before) != _tally(status):
            changes.append(self._change(now, "progress", _tally_text(status), detail))
        return changes

    def _hear_gate(self, wave: str, gate: GateResult, now: float) -> list[Change]:
        if self.gates.get(wave) == gate:
            return []
        self.gates.pop(wave, None)
        self.gates[wave] = gate
        return [self._change(now, "gate", _gate_text(wave, gate), json.loads(gate.model_dump_json()))]

    def _hear_event(self, kind: str, event: RolloutEvent) -> list[Change]:
        self.events.append((kind, event))
        told = [phase_words(kind), event.device or event.wave or "", event.message]
        text = " ".join(part for part in told if part)
        detail = {"event": kind, **json.loads(event.model_dump_json())}
        return [Change(at=event.ts, kind="event", rollout=self.rollout, text=text, detail=detail)]

    def _change(self, now: float, kind: Any, text: str, detail: Mapping[str, Any] | None = None) -> Change:  # noqa: ANN401 - one of the model's literals
        return Change(at=format_timestamp(now), kind=kind, rollout=self.rollout, text=text, detail=detail or {})


def _place(status: StatusDocument) -> tuple[object, ...]:
    return status.phase, status.wave, status.paused, status.frozen


def _place_text(status: StatusDocument) -> str:
    wave = f" at {status.wave}" if status.wave else ""
    marks = "".join(f", {word}" for word, holds in (("paused", status.paused), ("frozen", status.frozen)) if holds)
    why = f": {'; '.join(status.reasons)}" if status.reasons else ""
    return f"{phase_words(status.phase)}{wave}{marks}{why}"


def _tally(status: StatusDocument) -> tuple[object, ...]:
    return tuple((wave.wave, wave.done, wave.failed, wave.offline) for wave in status.waves)


def _tally_text(status: StatusDocument) -> str:
    waves = [wave for wave in status.waves if wave.done or wave.failed or wave.wave == status.wave]
    said = [
        f"{wave.wave} {wave.done}/{wave.devices} done" + (f", {wave.failed} failed" if wave.failed else "")
        for wave in waves
    ]
    return "; ".join(said)


def _gate_text(wave: str, gate: GateResult) -> str:
    bad = [
        f"{check.check} {value_text(check, check.observed)} ({check.why})"
        for check in gate.checks
        if check.verdict != "pass" and not check.dry_run
    ]
    why = f": {'; '.join(bad)}" if bad else ""
    return f"{gate.gate} after {wave} {gate.verdict}, {phase_words(gate.decision)}{why}"

"""The rule of each trigger: from what was known before and what is known now to what is news.

Everything is a level on the bus: retained documents that say how it is, not what happened. So news is a difference, and
what happened while nobody listened is news all the same; the same document once more is none.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from orchestrator.notifications.notification import Trigger
from schemas.documents import GateResult, StatusDocument

_OF_PHASE: Final[Mapping[str, Trigger]] = {
    "awaiting_approval": Trigger.AWAITING_APPROVAL,
    "halted": Trigger.HALTED,
    "rolling_back": Trigger.ROLLED_BACK,
    "rolled_back": Trigger.ROLLED_BACK,
    "completed": Trigger.COMPLETED,
    "aborted": Trigger.ABORTED,
    "superseded": Trigger.ABORTED,
}
ENDED: Final = frozenset({"completed", "aborted", "rolled_back", "superseded"})
_STOPS: Final = frozenset({"halt", "rollback"})
_DONE: Final = frozenset({"done", "completed"})


class News(NamedTuple):
    """Something that somebody may want to be told.

    Attributes:
        wave: The wave that it is about; None if it is about none.
    """

    trigger: Trigger
    wave: str | None = None


class Known(BaseModel):
    """What is remembered of a rollout's status: as much as decides what is news."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    phase: str
    wave: str | None
    done: tuple[str, ...]
    frozen: bool
    plan_digest: str | None
    blocked_since: str | None = None
    blocked_told: bool = False

    @classmethod
    def of(cls, status: StatusDocument, before: "Known | None") -> "Known":
        """Return what to remember of ``status``, where ``before`` was remembered of the one before it."""
        ended = status.phase in ENDED
        since = before.blocked_since if before is not None else None
        return cls(
            phase=status.phase,
            wave=status.wave,
            done=tuple(wave.wave for wave in status.waves if wave.state in _DONE),
            frozen=status.frozen and not ended,
            plan_digest=status.plan_digest,
            blocked_since=(since or status.ts) if status.blocking_devices else None,
            blocked_told=status.blocking_devices > 0 and before is not None and before.blocked_told,
        )


class KnownGate(BaseModel):
    """What is remembered of a gate's verdict."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    gate: str
    phase: str | None
    caution: bool
    not_passed: tuple[str, ...]

    @classmethod
    def of(cls, gate: GateResult) -> "KnownGate":
        """Return what to remember of ``gate``."""
        bad = sorted(each.check for each in gate.checks if each.verdict != "pass" and not each.dry_run)
        return cls(gate=gate.gate, phase=gate.phase, caution=is_caution(gate), not_passed=tuple(bad))


def status_news(before: Known | None, now: Known) -> Iterator[News]:
    """Yield what is news about a rollout, in the order in which it happened."""
    if before is None:
        yield News(Trigger.STARTED)
    known = () if before is None else before.done
    for wave in now.done:
        if wave not in known:
            yield News(Trigger.WAVE_COMPLETED, wave)
    trigger = _OF_PHASE.get(now.phase)
    if trigger is None:
        return
    is_new = before is None or before.phase != now.phase
    if is_new or (trigger is Trigger.AWAITING_APPROVAL and before is not None and before.wave != now.wave):
        yield News(trigger, now.wave)


def gate_news(before: KnownGate | None, now: KnownGate, wave: str) -> Iterator[News]:
    """Yield a caution that was not there, or is about other checks than it was."""
    if now.caution and now != before:
        yield News(Trigger.CAUTION, wave)


def is_caution(gate: GateResult) -> bool:
    """Say whether a gate keeps the rollout from going on, and nothing is taken back yet."""
    return gate.decision == "extend" or (gate.verdict == "caution" and gate.decision not in _STOPS)

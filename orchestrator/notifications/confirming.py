"""Asking an outside system whether a rollout may go on, and what its answer leads to.

The answer becomes the command ``approve`` or ``reject`` of an operator, bound to wave and plan. Whatever is no clear
answer leads to nothing: silence, an error, a word that is not known. A person can decide at any time; then the question
is dropped.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.notifications.notification import RolloutFacts
from orchestrator.notifications.wording import one_line
from schemas.codec import decode
from schemas.documents import Reply
from schemas.messages import Text

ANSWER_BYTES_MAX: Final = 16 * 1024
_REASON_MAX: Final = 512
_FINAL: Final = frozenset(
    {"four_eyes", "not_allowed", "not_found", "wrong_phase", "unknown_command", "invalid_payload"}
)
"""Refusals of the orchestrator that a second question would meet again."""


class Answer(BaseModel):
    """What the outside system says; fields that are not known are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", defer_build=True)

    decision: Literal["go", "stop", "wait"]
    reason: Text = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A command that follows from an answer."""

    verb: Literal["approve", "reject"]
    body: dict[str, Any]


def read_answer(body: bytes) -> Answer:
    """Read an answer.

    Raises:
        DecodeError: It is none; the receiver's fault. It must not count as any decision.
    """
    return decode(Answer, body)


def decision_of(answer: Answer, facts: RolloutFacts, destination: str) -> Decision | None:
    """Return the command that an answer asks for; None to wait.

    The command names the wave and the plan that was asked about, so that it is refused if the rollout has moved on.
    """
    if answer.decision == "wait":
        return None
    said = one_line(answer.reason, _REASON_MAX)
    reason = f"{destination}: {said}" if said else f"{destination} says {answer.decision}"
    body = {"rollout": facts.rollout, "wave": facts.wave, "plan": facts.plan_digest, "reason": reason}
    return Decision("approve" if answer.decision == "go" else "reject", body)


def is_settled(reply: Reply) -> bool:
    """Say whether a reply ends the matter; else the outside system is asked again: the gate may not pass just now."""
    return reply.error is None or reply.error.code in _FINAL

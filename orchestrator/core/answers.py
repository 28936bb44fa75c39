"""What a command leads to: facts and an answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final

from orchestrator.core import events as e
from orchestrator.core.rollout import Rollout
from orchestrator.core.soaking import watched_until
from orchestrator.core.state import State
from orchestrator.core.status import rollout_summary
from schemas.documents import Reply, ReplyError

_COMPARED_MAX: Final = 5000
"""Names that a misspelt one is compared with: a large fleet must not keep a decision waiting."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command leads to: facts, and the answer.

    Attributes:
        about: The rollout whose state after the facts belongs into the answer; see ``complete``.
    """

    events: list[e.AnyEvent]
    reply: Reply
    about: str | None = None


def complete(state: State, outcome: Outcome, now: float) -> Reply:
    """Return the answer with the state that the command led to; its facts have been applied."""
    if outcome.about is None:
        return outcome.reply
    summary = rollout_summary(state.rollouts[outcome.about], watched_until(state, now))
    return outcome.reply.model_copy(update={"data": {**summary, **(outcome.reply.data or {})}})


def accept(data: Mapping[str, Any], events: list[e.AnyEvent] | None = None) -> Outcome:
    """Build the answer to a command that is done."""
    return Outcome(events or [], Reply(status="ok", data=data))


def refuse(code: str, message: str, **hints: Any) -> Outcome:  # noqa: ANN401 - each hint is a field of ReplyError
    """Build the answer to a command that cannot be done."""
    error = ReplyError.model_validate({"code": code, "message": message[:1024], **hints})
    return Outcome([], Reply(status="error", error=error))


def unknown(what: str, name: str, known: Iterable[str]) -> Outcome:
    """Refuse a name that is not there, with the nearest ones that are."""
    near = tuple(get_close_matches(name, islice(known, _COMPARED_MAX), n=3, cutoff=0.4))
    return refuse("not_found", f"no {what} {name!r}", did_you_mean=near)


def summary(rollout: Rollout, now: float, **data: Any) -> Outcome:  # noqa: ANN401 - any JSON value
    """Answer with where a rollout is."""
    return accept({**rollout_summary(rollout, now), **data})

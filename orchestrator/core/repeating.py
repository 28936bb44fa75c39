"""A resume or a start is done once, however often the bus delivers it: a repeated command is known by its transaction.

A broker delivers a message again that was not acknowledged, also minutes later. Carried out anew it would excuse what
has failed since, without anybody having looked. What stops or brings back is carried out each time: that is safe.

Source:
    MQTT 5.0, 4.3.2 (QoS 1: at least once). Wire contract, "Ops commands". DECISIONS.md, 91.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Final, NamedTuple

from orchestrator.core.events import CommandAnswered
from orchestrator.core.inputs import CommandReceived
from schemas.commands import RolloutCommand, StartCommand

REPEATED_SECONDS: Final = 600.0
"""A transaction that comes again later is meant anew: people type the same line again."""
DONE_MAX: Final = 1_024
_ONCE: Final = frozenset({"start", "resume"})
"""What would do something anew; the others name what they are about, and find it done."""


class Done(NamedTuple):
    """When a command was done, and about which rollout."""

    at: float
    rollout: str


def note_done(done: dict[str, Done], event: CommandAnswered, at: float) -> None:
    """Keep that a command was done, if doing it again would let something go; the oldest are forgotten."""
    if event.status != "ok" or event.verb not in _ONCE or event.transaction is None or not event.subject:
        return  # Older journals do not say which rollout a start began.
    key = _key(event.actor, event.verb, event.transaction)
    if key in done and at - done[key].at <= REPEATED_SECONDS:
        return  # That was the repetition.
    done.pop(key, None)
    done[key] = Done(at, event.subject)
    for oldest in list(islice(done, max(0, len(done) - DONE_MAX))):
        del done[oldest]


def done_before(done: Mapping[str, Done], received: CommandReceived, now: float) -> str | None:
    """Return the rollout for which the same transaction was done already; None for what is new."""
    command = received.command
    if not isinstance(command, RolloutCommand | StartCommand) or command.transaction is None:
        return None
    if isinstance(command, StartCommand) and command.rollout is not None:
        return None  # It says itself which rollout it means: there is one of that name, or not.
    before = done.get(_key(received.actor, received.verb, command.transaction))
    if before is None or now - before.at > REPEATED_SECONDS or command.rollout not in {None, before.rollout}:
        return None
    return before.rollout


def _key(actor: str, verb: str, transaction: str) -> str:
    return f"{actor}/{verb}/{transaction}"

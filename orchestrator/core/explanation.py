"""What an explanation is: the answer to "why are we here", as it travels to whoever asked.

The same models are written by the orchestrator and read by the command line.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import Field

from schemas.documents import CheckResult
from schemas.messages import Label, Message, Text
from schemas.times import Timestamp

VERB_EFFECTS: Final[Mapping[str, str]] = {
    "activate": "let the canary begin; who has not fetched yet does so with its wave",
    "approve": "go on with the next wave; the gate is judged again first",
    "resume": "go on; failures so far are excused by name",
    "finish": "end it as completed with the devices that were reached",
    "reject": "bring every deployed device back",
    "pause": "nothing more is let go until resume",
    "retry": "order failed devices again",
    "skip": "leave a device out of this rollout",
    "rollback": "bring every deployed device back",
    "abort": "end it; deployed devices stay as they are",
}
"""What each command on a rollout does, in the order in which a person should consider them."""


_MORE: Final = {"skip": " DEVICE"}
"""What a command needs beside the rollout."""


class Step(Message):
    """One thing that led here.

    Attributes:
        at: When; None where that is not kept.
        evidence: The numbers behind it.
        devices: Devices it is about, the first of them, each with what is known of it.
    """

    at: Timestamp | None = None
    text: Text
    evidence: Annotated[tuple[CheckResult, ...], Field(strict=False)] = ()
    devices: Mapping[str, Label] = {}


class Awaited(Message):
    """What must happen before anything goes on.

    Attributes:
        by: When it will, or is given up.
        since: Since when it is awaited, as far as the orchestrator has heard; None where that is not kept.
        help: What somebody could do about it; empty where that is said by ``next``.
    """

    text: Text
    by: Timestamp | None = None
    since: Timestamp | None = None
    help: Text = ""


class Choice(Message):
    """A command that would change something now."""

    command: Text
    effect: Text


class Explanation(Message):
    """Why a rollout, or one device in it, is where it is.

    Attributes:
        summary: Where it is, in one sentence.
        why: What led here, oldest first.
        awaited: None where nothing is.
        next: What may be commanded now.
        facts: Of a device: what it runs, was ordered and where it belongs.
    """

    summary: Text
    why: Annotated[tuple[Step, ...], Field(strict=False)]
    awaited: Awaited | None = None
    next: Annotated[tuple[Choice, ...], Field(strict=False)] = ()
    facts: Mapping[str, Text] = {}


def ordered_verbs(allowed: Sequence[str]) -> list[str]:
    """Put what lets a rollout go on first and what takes it back last."""
    known = [verb for verb in VERB_EFFECTS if verb in allowed]
    return [*known, *(verb for verb in allowed if verb not in VERB_EFFECTS)]


def choices(rollout: str, allowed: Sequence[str]) -> tuple[Choice, ...]:
    """Return each allowed command as it is typed, with what it does."""
    return tuple(
        Choice(command=f"tidegate {verb} {rollout}{_MORE.get(verb, '')}", effect=VERB_EFFECTS.get(verb, ""))
        for verb in ordered_verbs(allowed)
    )

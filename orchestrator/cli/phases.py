"""What a phase means to the person who looks: a symbol, words and an exit code."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.cli.exits import Exit
from schemas.documents import StatusDocument


@dataclass(frozen=True, slots=True)
class Look:
    """How a phase is shown.

    Attributes:
        ending: The exit code it means when the rollout has ended in it; None while it has not.
        waits: A person is waited for.
    """

    symbol: str
    style: str
    ending: Exit | None = None
    waits: bool = False


_LOOKS: Final[Mapping[str, Look]] = {
    "staging": Look("↓", "cyan"),
    "deploying": Look("▶", "cyan"),
    "soaking": Look("◔", "cyan"),
    "awaiting_approval": Look("⏸", "yellow", waits=True),
    "awaiting_devices": Look("⏸", "yellow", waits=True),
    "rolling_back": Look("↩", "magenta"),
    "halted": Look("■", "red", waits=True),
    "completed": Look("✔", "green", Exit.OK),
    "aborted": Look("✖", "red", Exit.FAILED),
    "rolled_back": Look("↩", "red", Exit.FAILED),
    "superseded": Look("⇥", "red", Exit.FAILED),
}
_UNKNOWN: Final = Look("?", "yellow")
_PAUSED: Final = Look("⏸", "yellow", waits=True)

VERDICT_MARKS: Final = {
    "pass": ("✔", "green"), "caution": ("!", "yellow"), "inconclusive": ("?", "yellow"), "fail": ("✖", "red"),
}  # fmt: skip


def look_of(status: StatusDocument) -> Look:
    """Return how a rollout's phase is shown; one this program does not know is shown as unknown."""
    look = _LOOKS.get(status.phase, _UNKNOWN)
    return _PAUSED if status.paused and look.ending is None else look


def phase_look(phase: str) -> Look:
    """Return how a phase is shown."""
    return _LOOKS.get(phase, _UNKNOWN)


def phase_words(phase: str) -> str:
    """Write a phase for people."""
    return phase.replace("_", " ")


def as_message(rollout: str, verb: str) -> str:
    """Return the same command for whoever has only an MQTT client."""
    return f"mosquitto_pub -V 5 -q 1 -t fleet/v1/ops/$USER/cmd/{verb} -m {rollout}"

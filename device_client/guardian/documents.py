"""The documents that agent and guardian leave for each other, read by their fields and without a model.

The record belongs to the agent; what is not in it as documented here is left to the agent. ``guardian.json`` belongs to
the guardian; what is damaged in it is forgotten, which costs a count of boots and never a slot.
"""

import json
import math
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from device_client.adapters.durable import write_durably
from device_client.adapters.layout import DAMAGED, RECORD
from device_client.guardian.seen import Boots, Outcome, Trial

MEMORY: Final = "guardian.json"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a guardian remembers through a power cut.

    Attributes:
        boots: Of the trial.
        outcome: What it did last; None before the first time.
    """

    boots: Boots = field(default_factory=Boots)
    outcome: Outcome | None = None


def read_trial(state: Path) -> Trial | None:
    """Return what is on trial or being left; None if nothing is, or if the record is missing or damaged."""
    try:
        record = json.loads((state / RECORD).read_bytes())
        if record["trial"] is not None:
            return _trial(record, record["trial"])
        return None if record["going_back"] is None else _return(record, record["going_back"])
    except (OSError, *DAMAGED):
        return None


def read_memory(state: Path) -> Memory:
    """Return what a guardian remembers; nothing if there is nothing that can be read."""
    try:
        found = json.loads((state / MEMORY).read_bytes())
        boots, outcome = found["boots"], found["outcome"]
        return Memory(
            Boots(str(boots["recorded"]), tuple(str(boot) for boot in boots["seen"])),
            None if outcome is None else Outcome(
                generation=int(outcome["generation"]),
                manifest_sha256=str(outcome["manifest_sha256"]),
                slot=str(outcome["slot"]),
                code=str(outcome["code"]),
                message=str(outcome["message"]),
            ),
        )  # fmt: skip
    except (OSError, *DAMAGED):
        return Memory()


def write_memory(state: Path, memory: Memory) -> None:
    """Make ``memory`` durable.

    Raises:
        OSError: It is not.
    """
    write_durably(state / MEMORY, json.dumps(asdict(memory)).encode(), mode=0o600)


def _trial(record: dict[str, Any], trial: dict[str, Any]) -> Trial:
    return Trial(
        slot=str(trial["slot"]),
        previous=None if trial["previous"] is None else str(trial["previous"]),
        generation=int(trial["generation"]),
        manifest_sha256=str(trial["manifest_sha256"]),
        boot_id=str(record["boot_id"]),
        deadline_at=float(trial["deadline_at"]),
        progress_deadline_seconds=float(trial["progress_deadline_seconds"]),
        boots_left=int(trial["boots_left"]),
    )


def _return(record: dict[str, Any], going_back: dict[str, Any]) -> Trial:
    """Read a rollback as a trial that only the agent's silence ends; its number is the record's, which rises."""
    slot = str(going_back["slot"])
    return Trial(
        slot="green" if slot == "blue" else "blue",
        previous=slot,
        generation=int(record["reported_seq"]),
        manifest_sha256="",
        boot_id=str(record["boot_id"]),
        deadline_at=math.inf,
        progress_deadline_seconds=math.inf,
        boots_left=sys.maxsize,
    )

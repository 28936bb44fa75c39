"""What each entry of the journal is judged by: the journal before it, and the ground truth."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from simulator.ledger import Ledger
from simulator.rollout_facts import Entry
from simulator.truth import DeviceTruth


class Word(NamedTuple):
    """What a device says of its health again and again, and since when the orchestrator could know."""

    is_well: bool
    since: float
    at: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What an entry is judged by.

    Attributes:
        ledger: The journal before the entry.
        truths: What the devices have really done.
        groups: Of each device.
        online: The devices that the orchestrator believes to be there.
        sampled_at: When the last sample of each device reached the orchestrator.
        words: What each device says of its health, as it reached the process that runs; of none that lies.
        liars: Devices that have sent floods, or samples that are not so.
        serves: Says whether the application of a device really runs and answers.
        ill_seconds: For how long the application of a device has really been plainly ill.
        approvals: Each (rollout, wave) that a person has asked to approve; the wave may be left out.
        activations: Each rollout that a person has asked to activate.
        resumes: How often people have asked to resume each rollout.
        normal_count: Returns how many normal samples a group has sent since a moment, but for a version.
    """

    ledger: Ledger
    truths: Mapping[str, DeviceTruth]
    groups: Mapping[str, str]
    online: frozenset[str]
    sampled_at: Mapping[str, float]
    words: Mapping[str, Word]
    liars: AbstractSet[str]
    serves: Callable[[str], bool]
    ill_seconds: Callable[[str], float]
    approvals: set[tuple[str, str | None]]
    activations: set[str]
    resumes: Mapping[str, int]
    normal_count: Callable[[str, str, float], int]

    def is_copied(self, device: str) -> bool:
        """Say whether another device has, or had, this one's name."""
        return any(body.startswith(f"{device}+") for body in self.truths)


RolloutInvariant = Callable[[Entry, Scene], str | None]

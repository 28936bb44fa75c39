"""A plan: who is in which wave, why, and who is not."""

import hashlib
from collections.abc import Mapping
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from orchestrator.planning.names import Names, NamesField
from schemas.messages import Strategy


class PlannedWave(BaseModel):
    """An ordered part of the rollout; the first is the canary.

    Attributes:
        name: ``canary``, or as the policy calls it.
        members: Device ids, sorted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str
    members: NamesField


class Plan(BaseModel):
    """What was decided before anything was touched; the same inputs and seed give the same plan, byte for byte.

    Attributes:
        waves: The canary, then the waves that are not empty. Together they hold every target once.
        chosen: Each canary member with the reason for it, in the order of choice.
        excluded: Each reason to leave a device out, sorted, with the devices it holds for.
        not_canary: Each reason not to let a target be a canary, sorted, with the targets it holds for; who goes
            first in spite of one, because nobody else can, is among them.
        dropped_waves: Waves of the policy that would have been empty.
        uncovered: Device types and regions of targets that no canary member stands for.
        seed: Everything random was drawn from it.
        warnings: What a person should know before the start: what is not advised, and where the plan had to compromise.
        estimated_seconds: The shortest time in which the rollout can end.
        strategy: How each device will install.
        offline_count: Targets that were not there when the plan was made; they follow when they return.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    waves: tuple[PlannedWave, ...]
    chosen: Mapping[str, str]
    excluded: Mapping[str, NamesField]
    not_canary: Mapping[str, NamesField]
    dropped_waves: tuple[str, ...]
    uncovered: tuple[str, ...]
    seed: int
    warnings: tuple[str, ...] = ()
    estimated_seconds: float = 0.0
    strategy: Strategy = "blue_green"
    offline_count: int = 0

    @property
    def targets(self) -> Names:
        """All devices that will be updated, in wave order."""
        return Names(" ".join(wave.members.text for wave in self.waves))

    @property
    def target_count(self) -> int:
        """How many devices will be updated."""
        return sum(len(wave.members) for wave in self.waves)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the plan's JSON; an approval is bound to it.

        Fields stand in the order above. A field that has its default is left out, so that a plan keeps its digest when
        a later version adds one.
        """
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()

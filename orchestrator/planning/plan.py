"""A plan: who is in which wave, why, and who is not."""

import hashlib
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class PlannedWave(BaseModel):
    """An ordered part of the rollout; the first is the canary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    members: tuple[str, ...]


class Plan(BaseModel):
    """What was decided before anything was touched; the same inputs and seed give the same plan, byte for byte.

    Attributes:
        waves: The canary, then the waves that are not empty. Together they hold every target once.
        chosen: Each canary member with the reason for it.
        excluded: Each device that was looked at and left out, with the reason.
        not_canary: Each target that may not be a canary, with the reason.
        dropped_waves: Waves of the policy that would have been empty.
        uncovered: Device types and regions that no canary member stands for.
        seed: Everything random was drawn from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    waves: tuple[PlannedWave, ...]
    chosen: Mapping[str, str]
    excluded: Mapping[str, str]
    not_canary: Mapping[str, str]
    dropped_waves: tuple[str, ...]
    uncovered: tuple[str, ...]
    seed: int

    @property
    def targets(self) -> tuple[str, ...]:
        """All devices that will be updated, in wave order."""
        return tuple(device for wave in self.waves for device in wave.members)

    @property
    def digest(self) -> str:
        """SHA-256 over the plan; an approval is bound to it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

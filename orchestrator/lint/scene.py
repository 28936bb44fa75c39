"""What a rule looks at: the policy, perhaps a fleet, perhaps the file; and the paths of checks and triggers."""

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.lint.facts import CANARY, FleetFacts
from schemas.policy import Check, Policy, Trigger, WavePolicy

CANARY_GATE = "canary_gate"
WAVE_GATE = "wave_gate"
COMPLETION_GATE = "completion_gate"


@dataclass(frozen=True, slots=True)
class PlacedCheck:
    """A check with its gate and its path."""

    gate: str
    where: str
    check: Check


@dataclass(frozen=True, slots=True)
class PlacedTrigger:
    """A trigger with its path."""

    where: str
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class PlacedWave:
    """A wave with its path; ``devices`` is None without a fleet."""

    where: str
    wave: WavePolicy
    devices: int | None


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a rule may look at.

    Attributes:
        facts: None where there is no fleet.
        text: The policy file as it was written; empty where only its content is known.
    """

    policy: Policy
    facts: FleetFacts | None = None
    text: str = ""

    @property
    def checks(self) -> Iterator[PlacedCheck]:
        """All checks, in the order of the gates."""
        for name, gate in self.policy.health_gates:
            for number, check in enumerate(gate.checks if gate is not None else ()):
                yield PlacedCheck(name, f"health_gates.{name}.checks[{number}]", check)

    @property
    def triggers(self) -> Iterator[PlacedTrigger]:
        """All triggers, the immediate ones first."""
        for name, group in self.policy.rollback_triggers:
            for number, trigger in enumerate(group):
                yield PlacedTrigger(f"rollback_triggers.{name}[{number}]", trigger)

    @property
    def waves(self) -> Iterator[PlacedWave]:
        """The waves after the canary; with a fleet only those that have devices."""
        for number, wave in enumerate(self.policy.rollout.waves):
            where = f"rollout.waves[{number}]"
            if self.facts is None:
                yield PlacedWave(where, wave, None)
            elif wave.name in self.facts.waves:
                yield PlacedWave(where, wave, self.facts.waves[wave.name])

    def judged_devices(self, gate: str) -> list[tuple[str, int]]:
        """Return each wave after which ``gate`` judges, with the devices deployed by then; empty without a fleet."""
        if self.facts is None:
            return []
        deployed = list(self.facts.deployed_after.items())
        if gate == CANARY_GATE:
            return deployed[:1]
        after_waves = [(name, devices) for name, devices in deployed if name != CANARY]
        return (after_waves or deployed)[-1:] if gate == COMPLETION_GATE else after_waves

    def watched_seconds(self, gate: str) -> list[tuple[str, float]]:
        """Return each wave after which ``gate`` judges, with the seconds its devices have been watched by then."""
        rollout = self.policy.rollout
        if gate == CANARY_GATE:
            return [(CANARY, rollout.canary.watch_seconds)]
        shortest = rollout.global_.health_check_interval_seconds
        soaks = [(each.wave.name, max(each.wave.soak_minutes * 60, shortest)) for each in self.waves]
        return soaks[-1:] if gate == COMPLETION_GATE else soaks

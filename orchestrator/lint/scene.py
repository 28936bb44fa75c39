"""What a rule looks at: the policy, perhaps a fleet, perhaps the file; and the paths of checks and triggers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from orchestrator.lint.facts import CANARY, FleetFacts
from orchestrator.lint.written import Written
from schemas.policy import Check, Gate, Policy, Trigger, WavePolicy
from schemas.policy_phases import CANARY_PHASES, CanaryPhase

CANARY_GATE: Final = "canary_gate"
WAVE_GATE: Final = "wave_gate"
COMPLETION_GATE: Final = "completion_gate"


@dataclass(frozen=True, slots=True)
class PlacedCheck:
    """A check with its gate or its phase of the canary, and its path."""

    gate: str
    where: str
    check: Check

    @property
    def phase(self) -> CanaryPhase | None:
        """The phase of the canary; None for a gate's check."""
        return next((phase for phase in CANARY_PHASES if phase == self.gate), None)

    @property
    def is_of_canary(self) -> bool:
        """Whether it judges the canary alone."""
        return self.gate == CANARY_GATE or self.phase is not None


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
        file: The policy file as it was written, where it is at hand.
    """

    policy: Policy
    facts: FleetFacts | None = None
    file: Written = field(default_factory=Written)

    @property
    def checks(self) -> Iterator[PlacedCheck]:
        """All checks: of the gates in their order, then of the canary's phases."""
        yield from self.gate_checks
        yield from self.phase_checks

    @property
    def gate_checks(self) -> Iterator[PlacedCheck]:
        """The checks of the gates: a phase looks away where there is nothing to look at, a gate never does."""
        for name, gate in self.policy.health_gates:
            yield from _placed(name, f"health_gates.{name}", gate)

    @property
    def phase_checks(self) -> Iterator[PlacedCheck]:
        """The checks of the canary's phases that have a length."""
        canary = self.policy.rollout.canary
        for phase in canary.watched_phases:
            yield from _placed(phase, f"rollout.canary.phases.{phase}", canary.phases.gate(phase))

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

    def judged_devices(self, check: PlacedCheck) -> list[tuple[str, int]]:
        """Return each wave after which ``check`` judges, with the devices deployed by then; empty without a fleet."""
        if self.facts is None:
            return []
        deployed = list(self.facts.deployed_after.items())
        if check.is_of_canary:
            return deployed[:1]
        after_waves = [(name, devices) for name, devices in deployed if name != CANARY]
        return (after_waves or deployed)[-1:] if check.gate == COMPLETION_GATE else after_waves

    def watched_seconds(self, check: PlacedCheck) -> list[tuple[str, float]]:
        """Return each wave after which ``check`` judges, with the seconds its devices have been watched by then."""
        canary = self.policy.rollout.canary
        if check.phase is not None:
            until = CANARY_PHASES[: CANARY_PHASES.index(check.phase) + 1]
            return [(CANARY, sum(canary.phase_seconds(phase) for phase in until))]
        if check.is_of_canary:
            return [(CANARY, canary.watch_seconds)]
        return self.soaks[-1:] if check.gate == COMPLETION_GATE else self.soaks

    @property
    def soaks(self) -> list[tuple[str, float]]:
        """The waves after the canary, each with the seconds of its soak."""
        shortest = self.policy.rollout.global_.health_check_interval_seconds
        return [(each.wave.name, max(each.wave.soak_minutes * 60, shortest)) for each in self.waves]


def _placed(name: str, where: str, gate: Gate | None) -> Iterator[PlacedCheck]:
    for number, check in enumerate(gate.checks if gate is not None else ()):
        if not check.dry_run:
            yield PlacedCheck(name, f"{where}.checks[{number}]", check)

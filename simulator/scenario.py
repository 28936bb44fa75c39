"""What a simulation is about: a fleet, a release, a policy, people, and what goes wrong."""

from dataclasses import dataclass
from typing import Final

from schemas.policy import Policy
from schemas.times import format_timestamp
from simulator.application import GOOD, Behavior
from simulator.clock import START_SECONDS, stream
from simulator.faults import NO_FAULTS, Faults, draw_behavior, draw_faults, draw_setups
from simulator.materials import DEVICE_TYPES, DeviceSpec, brisk_policy, make_fleet
from simulator.people import Habits

ROLLOUT: Final = "r-001"
POLICY: Final = "policy"
WARM_UP_SECONDS: Final = 330.0
"""Time for a baseline before the rollout is asked for."""
SAMPLE_SECONDS: Final = 60.0
"""Devices report their health once a minute; their agents ask the applications more often."""
DEVICE_COUNTS: Final = (3, 10)
"""A seed draws a fleet between these: a canary, a wave or two, and seldom more work than that."""
_MIXED_MIN: Final = 6
"""Smaller fleets are of one type: a group of one or two takes half an hour to show what is normal."""
_STAGED: Final = 0.25
"""How many seeds let all waves fetch and install before the canary begins."""
_ACTIVATED_AFTER_SECONDS: Final = (0.0, 300.0, 1800.0)
_LATE: Final = 0.05
"""How many devices of a drawn fleet appear while the rollout runs."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a world is made from; the same scenario always gives the same trace.

    Attributes:
        release: How the new version behaves.
        spared: Devices on which it is a good one all the same.
        absent: Devices that are not there when the world begins; with faults they appear while it goes on.
        sample_seconds: Between two health samples of a device.
        ticks_each_sample: How often the orchestrator looks at the time meanwhile.
        ignore_lint: Start the rollout against lint's advice.
        at_rest_within_seconds: After the last fault and the last plan, the world must come to rest in this time.
    """

    seed: int
    fleet: tuple[DeviceSpec, ...]
    release: Behavior
    policy: Policy
    faults: Faults
    habits: Habits
    absent: frozenset[str] = frozenset()
    at_rest_within_seconds: float = 8 * 3600.0
    spared: frozenset[str] = frozenset()
    sample_seconds: float = SAMPLE_SECONDS
    ticks_each_sample: int = 2
    ignore_lint: bool = False

    def behavior_on(self, device: DeviceSpec) -> Behavior:
        """Return how the new version behaves on a device."""
        return GOOD if device.id in self.spared else self.release.on(device.device_type)


def make_scenario(
    *,
    seed: int = 1,
    devices: int | tuple[DeviceSpec, ...] = 20,
    release: Behavior = GOOD,
    policy: Policy | None = None,
    faults: Faults = NO_FAULTS,
    approve_after_seconds: float | None = 60.0,
    resumes: int = 0,
    absent: frozenset[str] = frozenset(),
    ticks_each_sample: int = 2,
    activate_after_seconds: float | None = 60.0,
) -> Scenario:
    """Return a scenario for a story; by default nothing goes wrong, and people approve and activate after a minute."""
    return Scenario(
        seed=seed,
        fleet=make_fleet(devices) if isinstance(devices, int) else devices,
        release=release,
        policy=policy or brisk_policy(),
        faults=faults,
        habits=Habits(approve_after_seconds, resumes, faults.clumsy_humans, activate_after_seconds),
        absent=absent,
        ticks_each_sample=ticks_each_sample,
    )


def draw_distribution(seed: int, policy: Policy) -> Policy:
    """Return the policy with which a seed brings its release: some let all waves fetch ahead."""
    rng = stream(seed, "staging")
    if rng.random() >= _STAGED:
        return policy
    begins = START_SECONDS + WARM_UP_SECONDS + rng.choice((1800.0, 7200.0))
    drawn = {
        "activate": rng.choice(("manual", "manual", format_timestamp(begins))),
        "max_parallel_downloads": rng.choice((None, 1, 3)),
    }
    return policy.model_copy(update={"distribution": policy.distribution.model_copy(update=drawn)})


def draw_device_count(seed: int) -> int:
    """Return how many devices a seed has, where nobody says."""
    return stream(seed, "fleet").randint(*DEVICE_COUNTS)


def draw_scenario(seed: int, *, device_count: int | None = None, faults: Faults | None = None) -> Scenario:
    """Return the scenario of a seed; ``device_count`` and ``faults`` replace what the seed draws."""
    drawn = draw_faults(seed) if faults is None else faults
    pace = stream(seed, "pace")
    ticks_each_sample, own_type = pace.choice((1, 2)), pace.choice(DEVICE_TYPES)
    count = draw_device_count(seed) if device_count is None else device_count
    types = DEVICE_TYPES if count >= _MIXED_MIN else (own_type,)
    fleet = make_fleet(count, types)
    rng = stream(seed, "habits")
    late = frozenset(spec.id for spec in fleet[1:] if drawn != NO_FAULTS and rng.random() < _LATE)
    return make_scenario(
        seed=seed,
        devices=draw_setups(seed, fleet),
        release=draw_behavior(seed, types),
        policy=draw_distribution(seed, brisk_policy()),
        faults=drawn,
        activate_after_seconds=stream(seed, "staging/habits").choice(_ACTIVATED_AFTER_SECONDS),
        approve_after_seconds=rng.choice((0.0, 60.0, 600.0, None)) if drawn.clumsy_humans else 60.0,
        resumes=rng.choice((0, 1, 3)),
        absent=late,
        ticks_each_sample=ticks_each_sample,
    )

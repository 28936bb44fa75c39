"""What lint needs to know of a fleet and a plan, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from orchestrator.planning.distribution import SiteShare
from schemas.conditions import Metric

CANARY = "canary"


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """One device group that has targets.

    Attributes:
        targets: Its devices that will be updated.
        canary: Those of them that go first.
        has_baseline: Whether its normal operation is known.
        error_rate: Its baseline, 0..1; None where it is not known.
        requests_per_minute: Of one device on average; None where it is not known.
        lacks: Metrics that have baselines and of which this group's holds none.
    """

    targets: int
    canary: int
    has_baseline: bool = True
    error_rate: float | None = None
    requests_per_minute: float | None = None
    lacks: frozenset[Metric] = frozenset()


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """A plan and the fleet it is for.

    Attributes:
        waves: Size (1 or more) of each planned wave by its name, in order; the canary is the first.
        offline: Targets that are not connected.
        types: Targets of each device type.
        regions: Targets of each region.
        uncovered: ``type NAME`` and ``region NAME`` for which no canary stands, as in the plan.
        groups: Groups with targets, by name.
        unwell: Targets that are connected and not seen to be healthy.
        no_space: Devices left out because the release does not fit twice.
        single_points: Targets that are single points of failure, by wave.
        signals: By device type, how many of its targets report each signal.
        is_signed: Whether the release's artifacts are signed.
        time_scale: Every duration of the policy is divided by it.
        sample_seconds: Usual time between two health samples of a device; None where it is not known.
        lines: What the devices of each site fetch, and what they may take of its line.
        artifact_bytes: The largest archive; 0 where it is not known.
        restarts_per_device_day: How often a device restarts by itself; None where it is not known.
    """

    waves: Mapping[str, int]
    offline: int = 0
    types: Mapping[str, int] = field(default_factory=dict)
    regions: Mapping[str, int] = field(default_factory=dict)
    uncovered: tuple[str, ...] = ()
    groups: Mapping[str, GroupFacts] = field(default_factory=dict)
    unwell: tuple[str, ...] = ()
    no_space: tuple[str, ...] = ()
    single_points: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    signals: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    is_signed: bool = True
    time_scale: float = 1.0
    sample_seconds: float | None = None
    lines: tuple[SiteShare, ...] = ()
    artifact_bytes: int = 0
    restarts_per_device_day: float | None = None

    @property
    def targets(self) -> int:
        """All devices that will be updated."""
        return sum(self.waves.values())

    @property
    def present(self) -> int:
        """Targets that are connected."""
        return self.targets - self.offline

    @property
    def canary(self) -> int:
        """Devices that go first."""
        return self.waves[CANARY]

    @property
    def deployed_after(self) -> dict[str, int]:
        """How many devices are judged after each wave if every one was deployed."""
        return dict(zip(self.waves, accumulate(self.waves.values()), strict=True))

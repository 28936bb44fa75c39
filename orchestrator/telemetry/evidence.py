"""What checks and triggers share: what a judgement may look at, how numbers are compared, and who is named."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.telemetry.baseline import Baseline
from orchestrator.telemetry.devices import Devices, Names
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.window import Window
from schemas.conditions import Operator, exceeds_percent

_NAMED_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a judgement may look at.

    Attributes:
        deployed: The devices that are judged, with their groups.
        version: What they should run; what they did on another version is no evidence. None: whatever they run.
        coverage: How many targets run the version for good, of how many; None where nobody counts.
    """

    deployed: Devices
    baselines: Mapping[str, Baseline]
    monitor: Monitor
    version: str | None
    now: float
    coverage: tuple[int, int] | None = None
    _windows: dict[tuple[str | None, float | None], Window] = field(default_factory=dict, init=False, compare=False)
    _groups: dict[str, Devices] = field(default_factory=dict, init=False, compare=False)

    def window(self, seconds: float | None) -> Window:
        """Return what all devices did on the version over the last ``seconds``."""
        return self._window(None, self.deployed, seconds)

    def groups(self) -> Mapping[str, Devices]:
        """Return the devices of each group, in the order of the groups' names."""
        if not self._groups:
            self._groups.update(self.deployed.by_group())
        return self._groups

    def group_window(self, group: str, seconds: float | None) -> Window:
        """Return what the devices of one group did on the version over the last ``seconds``."""
        return self._window(group, self.groups()[group], seconds)

    def _window(self, group: str | None, devices: Devices, seconds: float | None) -> Window:
        key = group, seconds
        if key not in self._windows:  # Several checks look at the same.
            self._windows[key] = self.monitor.window(devices, version=self.version, seconds=seconds, now=self.now)
        return self._windows[key]


def share_holds(operator: Operator, part: int, whole: int, limit: float) -> bool:
    """Say whether ``part / whole operator limit`` (0..1), in exact integers, to a thousandth of a percent.

    Raises:
        ValueError: ``whole`` is not positive; the caller's fault.
    """
    percent = limit * 100
    match operator:
        case ">":
            return exceeds_percent(part, whole, percent)
        case "<=":
            return not exceeds_percent(part, whole, percent)
        case "<":
            return exceeds_percent(whole - part, whole, 100 - percent)
        case ">=":
            return not exceeds_percent(whole - part, whole, 100 - percent)


def name_some(devices: Collection[str]) -> str:
    """Name devices for people: the first five and how many more."""
    first = ", ".join(devices.first(_NAMED_MAX) if isinstance(devices, Names) else sorted(devices)[:_NAMED_MAX])
    return f"{first} and {len(devices) - _NAMED_MAX} more" if len(devices) > _NAMED_MAX else first

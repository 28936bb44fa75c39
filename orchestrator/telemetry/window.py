"""What some devices did over a window, as whoever judges them sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.telemetry import columns as c
from orchestrator.telemetry.cells import Cell, merged
from orchestrator.telemetry.columns import Rows
from orchestrator.telemetry.devices import Counted, Devices, Names
from orchestrator.telemetry.sketch import Sketch

BAD_SAMPLES_MAX: Final = 2
"""With more bad samples than this in a window, nothing can be said of a device for certain."""

_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Heard:
    """What was read of the devices that run the version, a number for each: later samples change none of it.

    Attributes:
        places: Where they stand among those that were asked about.
        bad: Bad samples in the window.
        qualities: Which of the application's own measures each gives, as bits; None where no device gives any.
    """

    places: Rows
    is_fresh: _Mask
    is_down: _Mask
    flags: NDArray[np.uint16]
    bad: NDArray[np.uint16]
    restarts: NDArray[np.uint16]
    throttles: NDArray[np.uint16]
    log_errors: NDArray[np.int64]
    qualities: NDArray[np.uint16] | None


@dataclass(frozen=True)
class Window:
    """What some devices did over a window while they ran one version.

    No device is looked for before it is asked for: most questions are about a few of these things.

    Attributes:
        device_count: Devices that were asked about.
        sample_count: Good samples.
        request_count: Requests whose errors were counted as well.
        cells: What the devices of the same places did on the version, cell by cell; see ``cohorts``.
    """

    device_count: int
    sample_count: int
    request_count: int
    error_count: int
    cells: tuple[Cell, ...]
    _devices: Devices
    _heard: Heard
    _quality_names: Sequence[str]

    @property
    def error_rate(self) -> float | None:
        """Errors per request, 0..1; None without requests."""
        return min(self.error_count / self.request_count, 1.0) if self.request_count else None

    @cached_property
    def fresh(self) -> Names:
        """Devices with a fresh good sample of that version."""
        return self._named(self._heard.is_fresh)

    @cached_property
    def silent(self) -> Names:
        """The others. What is known of them within the window is still counted."""
        is_silent = np.ones(self.device_count, dtype=np.bool_)
        is_silent[self._heard.places[self._heard.is_fresh]] = False
        return self._devices.some(is_silent)

    @cached_property
    def suspect(self) -> Names:
        """Devices with more than two bad samples in the window."""
        return self._named(self._heard.bad > BAD_SAMPLES_MAX)

    @cached_property
    def restarts(self) -> Counted:
        """How often each device restarted, or its application, for those that did."""
        return self._counted(self._heard.restarts)

    @cached_property
    def log_errors(self) -> Counted:
        """Errors in the log of each device that had some."""
        return self._counted(self._heard.log_errors)

    @cached_property
    def throttles(self) -> Counted:
        """How often each device was throttled, for those that were."""
        return self._counted(self._heard.throttles)

    @property
    def healthy_count(self) -> int:
        """Fresh devices that are healthy."""
        return int(np.count_nonzero(self._heard.is_fresh & self._is_healthy))

    @cached_property
    def unhealthy(self) -> Names:
        """Fresh devices that are not."""
        return self._named(self._heard.is_fresh & self._is_decided & ~self._is_healthy)

    @cached_property
    def undecided(self) -> Names:
        """Fresh devices that do not say."""
        return self._named(self._heard.is_fresh & ~self._is_decided)

    @cached_property
    def without_traffic(self) -> Names:
        """Fresh devices that count no requests or no errors."""
        return self._without(c.TRAFFIC)

    @cached_property
    def without_restarts(self) -> Names:
        """Fresh devices that count no restarts."""
        return self._without(c.RESTARTS)

    @cached_property
    def without_log_errors(self) -> Names:
        """Fresh devices that do not count the errors in their log."""
        return self._without(c.LOG_ERRORS)

    @cached_property
    def without_throttles(self) -> Names:
        """Fresh devices that do not count how often they are throttled."""
        return self._without(c.THROTTLES)

    @cached_property
    def without_cpu(self) -> Names:
        """Fresh devices that do not measure their processors' use."""
        return self._without(c.CPU)

    @cached_property
    def without_quality(self) -> Mapping[str, Names]:
        """Fresh devices that do not measure one of the application's own measures, by its name."""
        heard = self._heard
        if heard.qualities is None:
            return {}
        return {
            name: self._named(heard.is_fresh & ((heard.qualities >> np.uint16(bit) & 1) == 0))
            for bit, name in enumerate(self._quality_names)
        }

    @property
    def crash_count(self) -> int:
        """Restarts of the applications and of the devices."""
        return self.restarts.total

    @cached_property
    def together(self) -> Cell:
        """What the devices measured together, merged when first asked for: most questions are not about it."""
        return merged(self.cells)

    @property
    def latency(self) -> Sketch:
        """All latencies of the devices that send sketches."""
        return self.together.latency

    @property
    def _is_healthy(self) -> _Mask:
        return is_healthy(self._heard.flags, self._heard.is_down)

    @property
    def _is_decided(self) -> _Mask:
        is_decided: _Mask = self._heard.is_down | ((self._heard.flags & c.SAYS_HEALTH) != 0)
        return is_decided

    def _without(self, flag: np.uint16) -> Names:
        return self._named(self._heard.is_fresh & ((self._heard.flags & flag) == 0))

    def _named(self, mask: _Mask) -> Names:
        return Names(self._devices, self._heard.places[mask])

    def _counted(self, counts: NDArray[Any]) -> Counted:
        return Counted(self._devices, self._heard.places, counts)


def is_healthy(flags: NDArray[np.uint16], is_down: _Mask) -> _Mask:
    """Say which devices are healthy by what they said last, given as ``flags``, and have no endpoint that is down."""
    healthy: _Mask = ((flags & c.HEALTHY) != 0) & ~is_down
    return healthy

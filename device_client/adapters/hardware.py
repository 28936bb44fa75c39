"""What the kernel says about the device itself: how hot it is, and how often that has slowed it down.

Source:
    The kernel's Documentation/ABI/testing: sysfs-class-thermal, sysfs-devices-system-cpu (thermal_throttle); the
    Raspberry Pi's firmware, get_throttled.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

SYS: Final = Path("/sys")
CELSIUS_MIN, CELSIUS_MAX = -100.0, 300.0
_PROCESSOR: Final = ("cpu", "soc", "pkg")
_SLOWED: Final = 0b1110
"""Of the firmware's word: frequency capped, throttled, soft temperature limit. Bit 0 is the voltage."""
_HAS_OCCURRED: Final = 16


class Hardware:
    """Reads sensors; what a platform does not offer is None.

    Args:
        sys: Where the kernel shows them.
        is_new_boot: No agent has run in this boot of the device, so what it has counted since is news.
    """

    def __init__(self, sys: Path = SYS, *, is_new_boot: bool = True) -> None:
        self._sys = sys
        self._is_new_boot = is_new_boot
        self._is_slowed: bool | None = None
        self._slowings = 0
        self._told_before: int | None = 0 if is_new_boot else None

    def temperature_celsius(self) -> float | None:
        """Return the hottest part of the processor; of the device, where no sensor says that it is the processor's."""
        found: dict[bool, list[float]] = {True: [], False: []}
        for zone in self._sys.glob("class/thermal/thermal_zone*"):
            millidegrees = _read_int(zone / "temp")
            if millidegrees is not None and CELSIUS_MIN <= millidegrees / 1000 <= CELSIUS_MAX:
                kind = _read(zone / "type").lower()
                found[any(word in kind for word in _PROCESSOR)].append(millidegrees / 1000)
        return max(found[True] or found[False], default=None)

    def throttle_events_total(self) -> int | None:
        """Return how often heat or voltage slowed the processor down, as a counter that never falls while we run.

        What an earlier agent has told of this boot is not in it: the orchestrator compares it with zero.
        """
        counted = self._counted_by_processors()
        word = _read_int(self._sys / "devices/platform/soc/soc:firmware/get_throttled", base=16)
        if word is not None:
            self._count(word)
        if counted is None and word is None:
            return None
        return (counted or 0) + self._slowings

    def _counted_by_processors(self) -> int | None:
        cores = _ints(self._sys.glob("devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"))
        packages = _ints(self._sys.glob("devices/system/cpu/cpu[0-9]*/thermal_throttle/package_throttle_count"))
        if not cores and not packages:
            return None
        total = sum(cores) + max(packages, default=0)  # every core repeats its package's
        if self._told_before is None:
            self._told_before = total
        return max(0, total - self._told_before)

    def _count(self, word: int) -> None:
        """Count a beginning; the firmware keeps states, and whether each has occurred since the boot."""
        is_slowed = bool(word & _SLOWED)
        if self._is_slowed is None:
            self._slowings += self._is_new_boot and bool(word >> _HAS_OCCURRED & _SLOWED or is_slowed)
        else:
            self._slowings += is_slowed and not self._is_slowed
        self._is_slowed = is_slowed


def _ints(paths: Iterable[Path]) -> list[int]:
    return [value for value in map(_read_int, paths) if value is not None and value >= 0]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _read_int(path: Path, base: int = 10) -> int | None:
    try:
        return int(_read(path), base)
    except ValueError:
        return None

"""What the stories of checks and triggers do to devices: a harm to one or to all, and what must do no harm."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from simulator import GOOD, Behavior, World
from simulator.device import SimulatedDevice
from simulator.materials import NEW_VERSION

DAY: Final = 24 * 3600.0
MISHAP_SECONDS: Final = 65.0
"""From one crash or restart to the next, so that there is a sample in between."""


@dataclass(frozen=True)
class Harm:
    """What the new version does to devices.

    Attributes:
        crashes: How often it ends by itself; after that, the device restarts ``reboots`` times.
        lasts_seconds: Until it is a good one again.
        victims: On how many of the devices; None is all of them.
    """

    behavior: Behavior = GOOD
    crashes: int = 0
    reboots: int = 0
    lasts_seconds: float | None = None
    victims: int | None = None

    @property
    def is_brief(self) -> bool:
        """Whether it would be over before anybody watched."""
        return self.crashes > 0 or self.lasts_seconds is not None

    def befall(self, world: World, names: Sequence[str]) -> None:
        """Let it come over these devices now."""
        for device in (world.devices[name] for name in names[: self.victims]):
            device.plant.spoil(NEW_VERSION, self.behavior)
            mishaps = [device.plant.crash] * self.crashes + [partial(device.cut_power, 3.0)] * self.reboots
            for number, mishap in enumerate(mishaps):
                world.at(world.seconds + number * MISHAP_SECONDS, mishap)
            if self.lasts_seconds is not None:
                world.at(world.seconds + self.lasts_seconds, partial(device.plant.spoil, NEW_VERSION, GOOD))


def spoiled(**knobs: float) -> Harm:
    """Return a version that misbehaves by so much."""
    return Harm(Behavior(**knobs))  # type: ignore[arg-type] # the knobs that are numbers


def noisy(**knobs: float) -> Harm:
    """Return one whose measures scatter as well."""
    return spoiled(**knobs, noise=0.02)


def one(harm: Harm) -> Harm:
    """Return the same on one device."""
    return replace(harm, victims=1)


def withholding(*fields: str) -> Harm:
    """Return a version that is good, and whose samples leave these fields out."""
    return Harm(Behavior(withholds=frozenset(fields)))


def bother(world: World, names: Sequence[str]) -> None:
    """Restart one of the devices, and let the clock of another jump a day ahead and a day back."""
    restarted, confused = (world.devices[name] for name in (names[-1], names[-2]))
    world.at(world.seconds + 100.0, partial(restarted.cut_power, 3.0))
    for seconds, off in ((30.0, DAY), (90.0, -DAY), (150.0, 0.0)):
        world.at(world.seconds + seconds, partial(_set_clock, confused, off))


def _set_clock(device: SimulatedDevice, off_seconds: float) -> None:
    device.clock_off_seconds = off_seconds

"""What happens to machines over time: clocks, disks, cables, cards that are copied, and a second orchestrator.

Each kind has random numbers of its own, so that one more does not change what happens of the others.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from simulator.clock import START_SECONDS
from simulator.device import SimulatedDevice
from simulator.lies import Liar
from simulator.materials import NEW_RELEASE
from simulator.scenario import ROLLOUT

if TYPE_CHECKING:
    from orchestrator.adapters.journal import Journal
    from simulator.world import World

_HOUR_SECONDS: Final = 3600.0
_YEAR_SECONDS: Final = 365.25 * 86_400.0
_JUMPS_PER_HOUR: Final = 4.0
_SLOW_RATE: Final = (0.9, 0.999)
_STALL_SECONDS: Final = (5.0, 300.0)
_CLONE_SECONDS: Final = (60.0, 1800.0)
_REFLECTION_SECONDS: Final = (300.0, 1800.0)
"""After which a person lets a rollout go on whose journal was put back."""
_CEREMONY_SECONDS: Final = (30.0, 900.0)
"""Between two steps of a change of keys."""
_EVEN: Final = 0.5


class Hardship:
    """Makes happen what ``faults`` says of machines, until it ends.

    Attributes:
        liar: Sends what is not so.
    """

    def __init__(self, world: "World") -> None:
        self.liar = Liar(world, world.stream("lies"))
        self._world = world
        self._copies: list[Journal] = []

    def upset_clocks(self) -> None:
        """Let clocks be wrong before anything begins."""
        rng = self._world.stream("clocks")
        for device in self._world.devices.values():
            if rng.random() < self._world.faults.wrong_clocks:
                self._upset(device, rng)

    def begin(self) -> None:
        """Plan the first of everything."""
        faults, rngs = self._world.faults, self._world.stream
        self._repeat(faults.rot_per_hour, rngs("rot"), self._rot)
        self._repeat(faults.clones_per_hour, rngs("clones"), self._clone)
        self._repeat(faults.one_way_cuts_per_hour * len(self._world.devices), rngs("one way"), self._cut_one_way)
        self._repeat(faults.floods_per_hour, rngs("floods"), lambda _rng: self.liar.flood())
        self._repeat(faults.lies_per_hour, rngs("when lies"), lambda _rng: self.liar.lie())
        self._repeat(faults.orchestrator_doubles_per_hour, rngs("doubles"), lambda _: self._world.orchestrator.double())
        self._repeat(faults.restores_per_hour, rngs("restores"), self._restore)
        self._repeat(2 * faults.restores_per_hour, rngs("backups"), self._back_up)
        self._repeat(faults.key_changes_per_hour, rngs("keys"), self._change_key)
        self._repeat(faults.revokes_per_hour, rngs("revokes"), lambda _rng: self._revoke())

    def _upset(self, device: SimulatedDevice, rng: random.Random) -> None:
        kind = rng.choice(("1970", "ahead", "jumps", "slow"))
        self._world.trace.add(device.spec.id, f"clock {kind}")
        match kind:
            case "1970":
                device.clock_off_seconds = -START_SECONDS
            case "ahead":
                device.clock_off_seconds = 10 * _YEAR_SECONDS
            case "jumps":
                self._repeat(_JUMPS_PER_HOUR, rng, partial(_jump, device))
            case _:
                device.clock_rate = rng.uniform(*_SLOW_RATE)

    def _rot(self, rng: random.Random) -> None:
        """Change bytes of a slot that was verified, unless the device's other slot is damaged already."""
        device = self._anybody(rng)
        disk = device.disk
        slots = [name for name in sorted(disk.slots) if disk.slots[name].is_whole]
        if not slots or any(slot.rotten_since is not None for slot in disk.slots.values()):
            return
        name = rng.choice(slots)
        disk.slots[name].rotten_since = self._world.clock.now
        where = "active" if name == disk.active else "standby"
        self._world.trace.add(device.spec.id, f"rots: {name}, which is {where}")

    def _clone(self, rng: random.Random) -> None:
        """Copy a device's disk into another one, until that is found."""
        device = self._anybody(rng)
        if device.core is None:
            return
        clone = self._world.make_clone(device)
        self._world.trace.add(device.spec.id, f"is copied: {clone.body}")
        clone.boot()
        self._world.clock.after(rng.uniform(*_CLONE_SECONDS), clone.vanish)

    def _cut_one_way(self, rng: random.Random) -> None:
        """Let nothing pass in one direction; half of these connections do not survive it."""
        client, name = self._anybody(rng).client, "device"
        if rng.random() < 1 / (1 + len(self._world.devices)):
            process = self._world.orchestrator.process
            client, name = (client, name) if process is None else (process.client, "orchestrator")
        upwards, seconds = rng.random() < _EVEN, rng.uniform(*_STALL_SECONDS)
        self._world.trace.add(
            name, f"hears for {seconds:.0f} s, unheard" if upwards else f"unhearing for {seconds:.0f} s"
        )
        client.stall(upwards=upwards, seconds=seconds)
        if rng.random() < _EVEN:
            self._world.clock.after(seconds, client.cut)

    def _back_up(self, _rng: random.Random) -> None:
        self._copies.append(self._world.orchestrator.back_up())

    def _restore(self, rng: random.Random) -> None:
        """Put an earlier copy back; later a person lets what is paused go on."""
        if not self._copies:
            return
        world = self._world
        world.orchestrator.restore(self._copies.pop(rng.randrange(len(self._copies))))
        self._copies.clear()  # A copy of what is no more would not be put back.
        world.at(world.seconds + rng.uniform(*_REFLECTION_SECONDS), self._resume)

    def _change_key(self, rng: random.Random) -> None:
        """Change the command key as the manual says; a change that has begun is brought to its end, come what may."""
        world, authority = self._world, self._world.authority
        if authority.is_changing:
            return
        world.trace.add("authority", "changes the command key: both are obeyed")
        authority.begin_change()

        def take_over() -> None:
            world.trace.add("authority", "changes the command key: the new one signs")
            authority.take_over()
            world.orchestrator.kill()
            world.clock.after(rng.uniform(*_CEREMONY_SECONDS), end)

        def end() -> None:
            world.trace.add("authority", "changes the command key: the old one is obeyed no more")
            authority.end_change()

        world.clock.after(rng.uniform(*_CEREMONY_SECONDS), take_over)

    def _revoke(self) -> None:
        if NEW_RELEASE not in self._world.authority.root.revoked:
            self._world.trace.add("authority", f"revokes {NEW_RELEASE}")
            self._world.authority.revoke(NEW_RELEASE)

    def _resume(self) -> None:
        if self._world.phase():
            self._world.person.command("resume", rollout=ROLLOUT)

    def _anybody(self, rng: random.Random) -> SimulatedDevice:
        return self._world.devices[rng.choice(sorted(self._world.devices))]

    def _repeat(self, per_hour: float, rng: random.Random, act: Callable[[random.Random], object]) -> None:
        if per_hour > 0:
            seconds = rng.expovariate(per_hour / _HOUR_SECONDS)
            self._world.clock.after(seconds, partial(self._happen, per_hour, rng, act))

    def _happen(self, per_hour: float, rng: random.Random, act: Callable[[random.Random], object]) -> None:
        if not self._world.is_healed:
            act(rng)
            self._repeat(per_hour, rng, act)


def _jump(device: SimulatedDevice, rng: random.Random) -> None:
    first, last = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (1970, 2106))
    device.clock_off_seconds = rng.uniform(first, last) - START_SECONDS

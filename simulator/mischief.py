"""Things that happen by chance over time: cuts, sleeps, kills, restarts, and people who press the wrong button."""

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from simulator.faults import NO_FAULTS
from simulator.materials import NEXT_RELEASE
from simulator.scenario import POLICY, ROLLOUT

if TYPE_CHECKING:
    from simulator.device import SimulatedDevice
    from simulator.world import World

_HOUR_SECONDS: Final = 3600.0
_SLEEP_SECONDS: Final = (10.0, 1800.0)
_AGENT_KILLS_PER_HOUR: Final = 0.2
_AGENT_DOWN_SECONDS: Final = 3.0


class Mischief:
    """Makes happen what ``faults`` says, until it ends.

    Attributes:
        stop_seconds: When it ends, after the rollout was asked for.
    """

    def __init__(self, world: "World", rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self.stop_seconds = world.faults.stop_seconds if world.faults != NO_FAULTS else 0.0

    def begin(self) -> None:
        """Plan the first of everything."""
        world, faults, rng = self._world, self._world.faults, self._rng
        for device in world.devices.values():
            self._repeat(faults.cuts_per_hour, device.client.cut)
            self._repeat(faults.sleeps_per_hour, partial(self._send_to_sleep, device))
            if faults.power_cut:
                self._repeat(_AGENT_KILLS_PER_HOUR, partial(device.kill_agent, _AGENT_DOWN_SECONDS))
        self._repeat(faults.cuts_per_hour, world.orchestrator.cut)
        self._repeat(faults.orchestrator_kills_per_hour, world.orchestrator.kill)
        self._repeat(faults.orchestrator_hangs_per_hour, world.orchestrator.hang)
        self._repeat(faults.broker_restarts_per_hour, lambda: world.network.restart_broker(rng.uniform(1, 120)))
        for name in sorted(world.scenario.absent):
            world.at(rng.uniform(0, self.stop_seconds), world.devices[name].boot)
        if faults.clumsy_humans:
            self._confuse_people()

    def _confuse_people(self) -> None:
        """Some of what people do at the wrong moment, and later something that seems to mend it."""
        world, rng = self._world, self._rng
        for _ in range(rng.randint(1, 3)):
            begin, end = sorted(rng.uniform(0, self.stop_seconds) for _ in range(2))
            first, second = rng.choice(
                (
                    (partial(self._command, "pause"), partial(self._command, "resume")),
                    (partial(world.person.brake, on=True), partial(world.person.brake, on=False)),
                    (partial(self._command, "resume"), partial(self._command, "reject")),
                    (partial(self._command, "resume"), partial(self._command, rng.choice(("rollback", "abort")))),
                    (partial(self._command, "resume"), self._start_a_newer_one),
                    (partial(self._command, "skip", devices=[self._anybody()]), partial(self._command, "retry")),
                    (partial(self._command, "pause"), partial(self._command, "finish")),
                )
            )
            world.at(begin, first)
            world.at(end, second)
        world.at(self.stop_seconds, partial(world.person.brake, on=False))
        world.at(self.stop_seconds, partial(self._command, "resume"))

    def _start_a_newer_one(self) -> None:
        self._world.person.command(
            "start", release=NEXT_RELEASE, policy=POLICY, rollout=f"{ROLLOUT}-newer", supersede=True
        )

    def _send_to_sleep(self, device: "SimulatedDevice") -> None:
        device.sleep(self._rng.uniform(*_SLEEP_SECONDS))

    def _anybody(self) -> str:
        return self._rng.choice(sorted(self._world.devices))

    def _command(self, verb: str, **fields: object) -> None:
        if self._world.phase():
            self._world.person.command(verb, rollout=ROLLOUT, **fields)

    def _repeat(self, per_hour: float, action: Callable[[], object]) -> None:
        if per_hour > 0:
            seconds = self._rng.expovariate(per_hour / _HOUR_SECONDS)
            self._world.clock.after(seconds, partial(self._happen, per_hour, action))

    def _happen(self, per_hour: float, action: Callable[[], object]) -> None:
        if not self._world.is_healed:
            action()
            self._repeat(per_hour, action)

"""A simulated device: the real core on a simulated disk, with an application that misbehaves and a plug to pull.

The shell does what the core says, in order, and answers. Power can go at any effect; then everything is gone but the
disk. While a device sleeps, nothing happens on it, but its boot clock goes on.
"""

import random
from collections import deque
from functools import partial
from typing import Final

from device_client.core.codes import ErrorCode
from device_client.core.device import Device, advance, next_wake
from device_client.core.effects import DrawNonce, Effect, Persist, PublishReady, PublishReported
from device_client.core.events import (
    Connected,
    ConsentGiven,
    Disconnected,
    Event,
    Facts,
    HoldCleared,
    HoldReceived,
    NonceDrawn,
    Probed,
    RootChanged,
    Started,
    Tick,
)
from device_client.core.machine import Phase
from device_client.core.record import Record
from embedded_broker.packets import Publish
from schemas.errors import DecodeError, SignatureError, TrustError
from simulator.application import Counters, health_sample
from simulator.client import Client
from simulator.clock import Action, Clock
from simulator.disk import Disk
from simulator.mail import Letter, Mail
from simulator.materials import DeviceSpec
from simulator.network import Network
from simulator.plant import Plant
from simulator.trace import Trace
from simulator.truth import DeviceStep
from simulator.witness import Witness

_BOOT_SECONDS: Final = 5.0
"""What the boot clock shows when the agent starts after a boot."""
_CONSENT_SECONDS: Final = (30.0, 1800.0)
"""After what time somebody at the device agrees."""
_HOLD_GRACE_SECONDS: Final = 5.0
"""After a connect: without a brake by then, there is none."""
_ROUNDING_SECONDS: Final = 0.001
"""The boot clock is a difference of large numbers; a wake must not come a hair too early, again and again."""
_RESTART_SECONDS: Final = 5.0
"""After which an agent is started again that has ended."""
_SPIN_SECONDS: Final = 1.0
"""A core that wants time to pass is not asked more often than this."""


class SimulatedDevice:
    """One device of the fleet.

    Attributes:
        core: The device core; None while there is no power.
        disk: What survives a power cut.
        plant: What the device does and runs.
        is_gone: It has vanished and does not come back.
        clock_off_seconds: By how much its clock is wrong; what must not depend on it is measured by its boot clock.
        clock_rate: How fast both its clocks go; set before it boots.
        body: Whose disk it is: its id, but for a device that has the disk of another, and with it the name.
    """

    def __init__(
        self,
        spec: DeviceSpec,
        disk: Disk,
        plant: Plant,
        *,
        clock: Clock,
        network: Network,
        mail: Mail,
        beat_seconds: float,
        sample_beats: int,
        rng: random.Random,
        witness: Witness,
        trace: Trace,
    ) -> None:
        self.spec = spec
        self.disk = disk
        self.plant = plant
        self.core: Device | None = None
        self.is_asleep = False
        self.is_gone = False
        self.power_cut = 0.0
        self.clock_off_seconds = 0.0
        self.clock_rate = 1.0
        self.body = plant.device
        self._clock = clock
        self._beat_seconds = beat_seconds
        self._sample_beats = sample_beats
        self._beat_count = 0
        self._rng = rng
        self._witness = witness
        self._trace = trace
        self._life = 0
        self._boot_count = 0
        self._booted_at = 0.0
        self._seq = 0
        self._wake_at: float | None = None
        self._put_off: list[Action] = []
        self._inbox: deque[Event] = deque()
        self._is_busy = False
        self._is_braked = False
        self._mail = mail
        plant.answer = self.handle
        plant.later = self.later
        plant.root = lambda: mail.root
        plant.give_up = partial(self.kill_agent, _RESTART_SECONDS)
        self.client = Client(clock, network, mail.login(), self, rng)

    @property
    def boot_now(self) -> float:
        """Seconds on the boot clock."""
        return (self._clock.now - self._booted_at) * self.clock_rate

    @property
    def wall_now(self) -> float:
        """What its clock shows, in seconds since the epoch."""
        return self._clock.now + self.clock_off_seconds - (1 - self.clock_rate) * self._clock.elapsed_seconds

    @property
    def boot_id(self) -> str:
        """Of this boot."""
        return f"{self.body}-boot-{self._boot_count}"

    def boot(self) -> None:
        """Power is on."""
        if self.is_gone:
            return
        self._boot_count += 1
        self._booted_at = self._clock.now - _BOOT_SECONDS
        self._seq = 0
        self.plant.counters = Counters(since=self._clock.now)
        self._start_agent()

    def cut_power(self, down_seconds: float) -> None:
        """Take the power away: everything is gone but the disk."""
        if self.core is None:
            return
        self._trace.add(self.body, "loses power")
        self._stop_agent()
        self.plant.power_off()
        self._clock.after(down_seconds, self.boot)

    def vanish(self) -> None:
        """Leave for good, in the middle of whatever it does."""
        self.is_gone = True
        self._trace.add(self.body, "vanishes")
        self._stop_agent()
        self.plant.power_off()

    def kill_agent(self, down_seconds: float) -> None:
        """Kill the agent; its application goes on."""
        if self.core is None:
            return
        self._trace.add(self.body, "its agent is killed")
        self._stop_agent()
        self.plant.cancel()
        self._clock.after(down_seconds, self._start_agent)

    def sleep(self, seconds: float) -> None:
        """Fall asleep without a word."""
        if self.core is None or self.is_asleep:
            return
        self._trace.add(self.body, f"sleeps for {seconds:.0f} s")
        self.client.stop(forget=False)
        self.handle(Disconnected())
        self.is_asleep = True
        self._clock.after(seconds, self._wake_up)

    def later(self, seconds: float, action: Action) -> None:
        """Do it later, when awake, unless the agent is another one by then."""
        self._clock.after(seconds / self.clock_rate, partial(self._if_alive, self._life, action))

    def handle(self, event: Event) -> None:
        """Give the core an event, and do what it says."""
        if self.core is None:
            return
        if self.is_asleep:
            self._put_off.append(partial(self.handle, event))
            return
        self._inbox.append(event)
        if self._is_busy:
            return
        self._is_busy = True
        while self._inbox and self.core is not None:
            self._advance(self._inbox.popleft())
        self._is_busy = False
        self._inbox.clear()
        self._plan_wake()

    def on_connected(self) -> None:
        """Tell the core; without a brake after a moment there is none."""
        self._is_braked = False
        self.handle(Connected())
        self.later(_HOLD_GRACE_SECONDS, self._release_brake)

    def on_disconnected(self) -> None:
        """Tell the core."""
        self.handle(Disconnected())

    def on_message(self, packet: Publish) -> None:
        """Read a message as the agent does; what is not in order changes nothing."""
        try:
            event = self._mail.read(packet)
        except (DecodeError, SignatureError, TrustError):
            return
        if event is None:
            return
        if isinstance(event, HoldReceived | HoldCleared):
            self._is_braked = isinstance(event, HoldReceived)
        if isinstance(event, RootChanged) and self.plant.trouble.strike() is None:
            self.disk.root = event.root  # One that cannot be kept is in force until the agent ends.
        self.handle(event)

    def _advance(self, event: Event) -> None:
        core = self.core
        assert core is not None, "an event is handled by a core"
        self.core, effects = advance(core, event, self.boot_now)
        for effect in effects:
            if self.power_cut and self._rng.random() < self.power_cut:
                self.cut_power(self._rng.uniform(10, 300))
                break
            self._perform(effect)
            if self.core is None:
                break
        step = DeviceStep(self.spec.id, event, core, self.core, self.disk, self.boot_now, self.body)
        self._witness.device_stepped(step)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Persist(record=record):
                self._remember(record)
            case DrawNonce(step=step):
                self._inbox.append(NonceDrawn(self._rng.randbytes(16).hex(), step))
            case PublishReported(reported=reported):
                self._witness.reported(self.body, reported)
                if reported.error is not None and reported.error.code == ErrorCode.CONSENT_MISSING:
                    agree = partial(self.handle, ConsentGiven(reported.observed_generation))
                    self.later(self._rng.uniform(*_CONSENT_SECONDS), agree)
            case PublishReady(ready=ready):
                self._witness.asked(self.body, ready, self.boot_now)
            case _:
                self.plant.perform(effect)
        letter = self._mail.write(effect, self.boot_id, self.wall_now)
        if letter is not None:
            self._send(letter)

    def _remember(self, record: Record) -> None:
        """Keep a record, or end with the disk that refuses it, as an agent does; it may be there all the same."""
        fails = self.plant.trouble.strike()
        if fails is None or self.plant.trouble.rng.random() < 0.5:  # noqa: PLR2004 - even odds
            if record.phase is not self.disk.record.phase:
                self._trace.add(self.body, f"{record.phase} (generation {record.generation})")
            self.disk.record = record
        if fails is not None:
            self._trace.add(self.body, f"cannot remember: {fails}")
            self.kill_agent(_RESTART_SECONDS)

    def _send(self, letter: Letter) -> None:
        self.client.publish(letter.topic, letter.payload, qos=letter.qos, retain=letter.retain)

    def _start_agent(self) -> None:
        if self.is_gone:
            return
        self.core = Device(self.spec.id, setup=self.spec.setup)
        disk, plant = self.disk, self.plant
        running = None if plant.application is None else plant.running_slot
        self._mail.root = disk.root
        self.handle(Started(disk.record, Facts(self.boot_id, disk.active, disk.verified(), running, root=disk.root)))
        if self.core is not None:
            self.client.start()
            self.later(self._rng.uniform(0, self._beat_seconds), self._beat)

    def _stop_agent(self) -> None:
        self._life += 1
        self.core = None
        self.is_asleep = False
        self._wake_at = None
        self._put_off.clear()
        self.client.stop()

    def _if_alive(self, life: int, action: Action) -> None:
        if life != self._life:
            return
        if self.is_asleep:
            self._put_off.append(partial(self._if_alive, life, action))  # It may die while it wakes.
        else:
            action()

    def _wake_up(self) -> None:
        if not self.is_asleep:
            return
        self.is_asleep = False
        self._trace.add(self.body, "wakes up")
        put_off, self._put_off = self._put_off, []
        for action in put_off:
            action()
        if self.core is not None:
            self.handle(Tick())
            self.client.start()

    def _release_brake(self) -> None:
        if self.core is not None and self.core.hold and not self._is_braked:
            self.handle(HoldCleared())

    def _plan_wake(self) -> None:
        wake = None if self.core is None else next_wake(self.core)
        if wake is None:
            return
        at = max(wake, self.boot_now + _SPIN_SECONDS) if wake <= self.boot_now else wake
        if self._wake_at is None or at < self._wake_at:
            self._wake_at = at
            self.later(at - self.boot_now + _ROUNDING_SECONDS, partial(self._tick, at))

    def _tick(self, at: float) -> None:
        if self._wake_at != at:
            return
        self._wake_at = None
        self.handle(Tick())

    def _beat(self) -> None:
        """One interval of health: ask the application, and send a sample.

        A committed version that is well is not asked, because the answer would change nothing.
        """
        plant, now = self.plant, self._clock.now
        application = plant.application
        if application is not None:
            application.work(plant.counters, now, self._rng)
        core = self.core
        assert core is not None, "an agent without a core has no life"
        record = core.record
        is_well = application is not None and application.is_well(now)
        if not is_well or core.health.failures or record.trial is not None or record.phase is Phase.ROLLING_BACK:
            self._witness.probed(self.body, application.version if is_well and application else None, now)
            self.handle(Probed(is_well, application.version if application is not None else None))
        if self.core is None:
            return
        self._beat_count += 1
        self.later(self._beat_seconds, self._beat)
        if self._beat_count % self._sample_beats:
            return
        self._seq += 1
        if self.client.is_connected and (application is None or not application.is_silent(now)):
            version = application.version if application is not None else plant.version_of(self.disk.active)
            sample = health_sample(
                application,
                plant.counters,
                seq=self._seq,
                boot_id=self.boot_id,
                version=version,
                now=now,
                rng=self._rng,
            )
            self._send(self._mail.write_sample(sample))

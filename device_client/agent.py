"""The agent: one loop that takes events from one bounded queue, asks the core, and does what it says.

Everything else posts into the queue: the bus, the worker, the observer. The loop itself watches the application's
process and the time. Nothing but this loop touches the device's state, so there are no locks.
"""

import logging
import queue
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from device_client.adapters.applications import Applications
from device_client.adapters.consent import Consent
from device_client.adapters.health import Observer, ProbeTaken, SampleTaken, Target
from device_client.adapters.media import MediaWatch
from device_client.adapters.mqtt import Bus
from device_client.adapters.performer import Performer
from device_client.adapters.service import Service
from device_client.core.device import Device, advance, next_wake
from device_client.core.events import (
    ApplicationExited,
    ConsentGiven,
    Event,
    Facts,
    MediaRejected,
    MediaSeen,
    Progressed,
    Started,
    StepFailed,
    StepSucceeded,
    Throttled,
    Tick,
)
from device_client.core.record import Record
from device_client.core.setup import BARE, Setup
from schemas.codec import encode, encode_msgpack
from schemas.messages import HealthSample
from schemas.topics import Kind

if TYPE_CHECKING:
    from device_client.adapters.peer_server import PeerServer

QUEUE_LENGTH_MAX: Final = 256
POLL_SECONDS: Final = 0.2

Posted = Event | ProbeTaken | SampleTaken
_log = logging.getLogger(__name__)


class Inbox:
    """The bounded queue before the loop.

    What repeats itself (probes, samples, progress, looks at media) is dropped when the loop does not keep up;
    everything else waits.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[Posted] = queue.Queue(QUEUE_LENGTH_MAX)

    def post(self, posted: Posted) -> None:
        """Hand something to the loop."""
        if not isinstance(posted, ProbeTaken | SampleTaken | Progressed | MediaSeen | MediaRejected):
            self._queue.put(posted)
            return
        try:
            self._queue.put_nowait(posted)
        except queue.Full:
            _log.warning("inbox.dropped kind=%s", type(posted).__name__)

    def take(self, timeout_seconds: float) -> Posted | None:
        """Return the next thing, None if there is none in time."""
        try:
            return self._queue.get(timeout=timeout_seconds)
        except queue.Empty:
            return None


class Agent:
    """Runs one device.

    Args:
        device_id: Its id.
        inbox: What the others post into.
        performer: Does what the core says.
        applications: Runs what the slots hold.
        observer: Asks the application how it is.
        bus: Carries samples.
        consent: What the person at the device has agreed to.
        service: Tells who runs the agent that it works.
        encoding: Of samples.
        clock: Seconds on the boot clock.
        peer_server: Gives the other devices of the site what this one has, if it does.
        media_watch: Looks at media, if there may be any.
        setup: How the device is equipped.
    """

    def __init__(
        self,
        device_id: str,
        *,
        inbox: Inbox,
        performer: Performer,
        applications: Applications,
        observer: Observer,
        bus: Bus,
        consent: Consent,
        service: Service,
        encoding: str,
        clock: Callable[[], float],
        peer_server: "PeerServer | None" = None,
        media_watch: MediaWatch | None = None,
        setup: Setup = BARE,
    ) -> None:
        self.device = Device(device_id, setup=setup)
        self._inbox = inbox
        self._performer = performer
        self._applications = applications
        self._observer = observer
        self._bus = bus
        self._consent = consent
        self._service = service
        self._encode = encode if encoding == "json" else encode_msgpack
        self._clock = clock
        self._peer_server = peer_server
        self._media_watch = media_watch
        self._target: Target | None = None
        self._throttled: int | None = None
        self._is_ending = False

    def end(self) -> None:
        """Let ``run`` return soon; safe in a signal handler."""
        self._is_ending = True

    def run(self, record: Record, facts: Facts) -> None:
        """Live until somebody calls ``end``; then stop the application and say goodbye.

        Raises:
            OSError: The record cannot be made durable. The application goes on serving.
            StepError: The link cannot be led back after a switch that failed; the next start judges by the link.
        """
        self.handle(Started(record, facts))
        self._watch()
        self._observer.start()
        self._bus.start()
        if self._peer_server is not None:
            self._peer_server.start()
        if self._media_watch is not None:
            self._media_watch.start()
        self._service.ready()
        while not self._is_ending:
            self.turn()
        _log.info("agent.ending")
        self._service.stopping()
        self._observer.end()
        if self._peer_server is not None:
            self._peer_server.end()
        if self._media_watch is not None:
            self._media_watch.end()
        self._applications.stop()
        self._bus.end()

    def turn(self) -> None:
        """Take one thing from the queue, or see what time it is."""
        wake_at = next_wake(self.device)
        patience_seconds = POLL_SECONDS if wake_at is None else min(POLL_SECONDS, max(0.0, wake_at - self._clock()))
        posted = self._inbox.take(max(patience_seconds, 0.001))
        match posted:
            case None:
                self.handle(Tick())
            case ProbeTaken(target, probed):
                if target is self._target:  # otherwise it is about what served before
                    self.handle(probed)
            case SampleTaken(sample):
                self._bus.publish(Kind.HEALTH, self._encode(sample))
                self._tell_of_heat(sample)
            case _:
                self.handle(posted)
        agreed = self._consent.news()
        if agreed is not None:
            self.handle(ConsentGiven(agreed))
        if self._applications.poll(self.device.record.active):
            self.handle(ApplicationExited())
        self._watch()
        self._service.progressed(self._describe())  # only here: a turn that does not end is no progress

    def handle(self, event: Event) -> None:
        """Let the core decide about ``event`` and about everything that its effects answer at once."""
        waiting: deque[Event] = deque([event])
        while waiting:
            event = waiting.popleft()
            before = self.device.phase
            _log_event(event)
            self.device, effects = advance(self.device, event, self._clock())
            if self.device.phase is not before:
                _log.info("phase.changed from=%s to=%s", before, self.device.phase)
            for effect in effects:
                _log.debug("effect %s", type(effect).__name__)
                answer = self._performer.perform(effect, self.device.record)
                if answer is not None:
                    waiting.append(answer)

    def _tell_of_heat(self, sample: HealthSample) -> None:
        """Let the core hear of a throttling that was not there in the sample before."""
        before, self._throttled = self._throttled, sample.throttle_events_total
        if before is not None and self._throttled is not None and self._throttled > before:
            self.handle(Throttled(self._throttled - before, sample.temperature_celsius))

    def _describe(self) -> str:
        serving = self.device.record.serving
        return f"{self.device.phase}, {serving.version if serving else 'nothing'} serves"

    def _watch(self) -> None:
        """Point the observer at what serves now."""
        serving, active, applications = self.device.record.serving, self.device.record.active, self._applications
        target = None
        if serving is not None and active is not None:
            target = Target(applications.ports[active], serving.health_check, applications.instance(active))
        if target != self._target:
            self._target = target
        self._observer.watch(self._target, applications.exits_total)


def _log_event(event: Event) -> None:
    match event:
        case StepFailed():
            _log.warning("step.failed step=%s code=%s message=%s", event.step, event.code, event.message)
        case StepSucceeded():
            _log.info("step.succeeded step=%s", event.step)
        case ApplicationExited():
            _log.warning("application.exited")
        case _:
            _log.debug("event %s", type(event).__name__)

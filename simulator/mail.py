"""What a simulated device says and hears on the bus: the wire contract between its core and its client."""

import hashlib
from typing import Final, NamedTuple

from device_client.core.effects import (
    Effect,
    PublishAvailability,
    PublishEvent,
    PublishInfo,
    PublishReady,
    PublishReported,
)
from device_client.core.events import (
    AvailabilityEchoed,
    DesiredReceived,
    Event,
    GrantReceived,
    HoldCleared,
    HoldReceived,
    RootChanged,
    SyncReceived,
)
from embedded_broker.packets import Publish, Subscription, Will
from schemas.codec import RETAINED, TRUST, decode, encode
from schemas.dsse import GRANT_TYPE, unseal
from schemas.messages import Desired, Grant, Info, Message, Sync, TrustDocument
from schemas.times import format_timestamp
from schemas.topics import RULES, Kind, TopicTree
from schemas.trust import Root, follow
from simulator.client import Login
from simulator.materials import DeviceSpec

_SESSION_SECONDS: Final = 3600
_HEARS_AGAIN_SECONDS: Final = 900.0
_SIGNALS: Final = (
    "error_rate", "latency", "memory", "cpu", "disk", "temperature", "quality", "log_errors", "throttle_events",
)  # fmt: skip
_OWN: Final = (
    Kind.AVAILABILITY, Kind.INFO, Kind.DESIRED, Kind.REPORTED, Kind.READY, Kind.GRANT, Kind.HEALTH,
)  # fmt: skip


class Letter(NamedTuple):
    """One message to publish."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Mail:
    """Reads and writes a device's messages.

    Args:
        spec: Whose they are.
        tree: Where they are.
        command_key: Who may sign a grant, where no root says so.
        root: The trust root that the device was given, if it was given one.

    Attributes:
        root: The one in force.
    """

    def __init__(self, spec: DeviceSpec, tree: TopicTree, command_key: bytes, root: Root | None) -> None:
        self.root = root
        self._spec = spec
        self._tree = tree
        self._command_key = command_key
        self._topics = {kind: tree.build(kind, device=spec.id) for kind in _OWN}
        self._hold, self._sync, self._trust = (tree.build(kind) for kind in (Kind.HOLD, Kind.SYNC, Kind.TRUST))

    def login(self) -> Login:
        """Return how the device connects, with its will and its exact subscriptions."""
        topics = self._topics
        filters = [topics[Kind.DESIRED], topics[Kind.GRANT], topics[Kind.AVAILABILITY], self._hold, self._sync]
        if self.root is not None:
            filters.append(self._trust)
        will = Will(topics[Kind.AVAILABILITY], b"offline", 1, retain=True)
        subscriptions = tuple(Subscription(each, 1) for each in filters)
        return Login(self._spec.id, subscriptions, will, _SESSION_SECONDS, _HEARS_AGAIN_SECONDS)

    def read(self, packet: Publish) -> Event | None:
        """Return what a message means to the core; None is nothing.

        Raises:
            DecodeError: It is not what its topic promises.
            SignatureError: A grant that no command key has signed.
            TrustError: A trust root that does not follow from ours.
        """
        payload, topics = packet.payload, self._topics
        if packet.topic == topics[Kind.DESIRED]:
            if not payload:
                return None  # an order that disappears changes nothing
            return DesiredReceived(decode(Desired, payload, RETAINED), hashlib.sha256(payload).hexdigest())
        if packet.topic == topics[Kind.GRANT]:
            keys = (self._command_key,) if self.root is None else self.root.command.raw_keys
            return GrantReceived(decode(Grant, unseal(GRANT_TYPE, payload, keys)))
        if packet.topic == topics[Kind.AVAILABILITY]:
            return AvailabilityEchoed(payload.decode())
        if packet.topic == self._hold:
            return HoldReceived() if payload else HoldCleared()
        if packet.topic == self._trust and self.root is not None:
            self.root, new = follow(self.root, decode(TrustDocument, payload, TRUST))
            return RootChanged(self.root) if new else None
        return SyncReceived(decode(Sync, payload).spread_seconds) if packet.topic == self._sync else None

    def write(self, effect: Effect, boot_id: str, device_time: float) -> Letter | None:
        """Return the message that an effect is about; None if it is about none."""
        match effect:
            case PublishReported(reported=reported):
                stamped = reported.model_copy(update={"ts": format_timestamp(device_time)})
                return self._letter(Kind.REPORTED, stamped)
            case PublishReady(ready=ready):
                return self._letter(Kind.READY, ready)
            case PublishInfo(session=session, version=version):
                return self._letter(Kind.INFO, info_of(self._spec, session, version, boot_id))
            case PublishEvent(kind=kind, event=event):
                topic = self._tree.build(Kind.DEVICE_EVENT, device=self._spec.id, kind=kind.value)
                return Letter(topic, encode(event), 1, retain=False)
            case PublishAvailability(text=text):
                return Letter(self._topics[Kind.AVAILABILITY], text.encode(), 1, retain=True)
            case _:
                return None

    def write_sample(self, sample: bytes) -> Letter:
        """Return the message with a health sample."""
        return Letter(self._topics[Kind.HEALTH], sample, 0, retain=False)

    def _letter(self, kind: Kind, message: Message) -> Letter:
        return Letter(self._topics[kind], encode(message), 1, RULES[kind].retained)


def info_of(spec: DeviceSpec, session: int, version: str | None, boot_id: str) -> Info:
    """Return how a device introduces itself."""
    return Info(
        session=session,
        boot_id=boot_id,
        agent="tidegate-simulator",
        device_type=spec.device_type,
        arch=spec.arch,
        region=spec.region,
        group=spec.group,
        site=spec.site,
        tags=spec.tags,
        single_point_of_failure=spec.single_point_of_failure,
        maintenance=spec.maintenance,
        known_issues=spec.known_issues,
        disk_free_bytes=5_000_000_000,
        signals=_SIGNALS,
        version=version,
        time_zone=spec.time_zone,
    )

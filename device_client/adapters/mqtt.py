"""The device's connection to the broker. Callbacks only decode and enqueue; nothing is decided here.

The session is clean and its subscriptions are exact topics, at most eight, made again on every connect. Those to what
is retained are made again in turn, one from time to time: the broker says it again then, also what it once dropped
because too much was waiting. Nothing is published while there is no session: the client would keep it and send it
later, when it is not true any more.

paho acknowledges a message when the callback returns; what is lost by that is asked for again, because orders are
retained and questions are repeated.
"""

import contextlib
import hashlib
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from math import inf
from typing import TYPE_CHECKING, Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from device_client.adapters.peers import Neighbours
from device_client.adapters.tls import Renewed, Tls, TlsFilesError
from device_client.adapters.trust import Trusted
from device_client.core.effects import EventKind
from device_client.core.events import (
    AvailabilityEchoed,
    Connected,
    DesiredReceived,
    Disconnected,
    Event,
    GrantReceived,
    HoldCleared,
    HoldReceived,
    RootChanged,
    SyncReceived,
)
from schemas.codec import RETAINED, decode
from schemas.errors import DecodeError, SignatureError, TrustError
from schemas.messages import Desired, Grant, Hold, PeersDocument, Sync
from schemas.topics import RULES, Kind, TopicTree

if TYPE_CHECKING:
    from device_client.adapters.pieces import Pieces

KEEPALIVE_SECONDS: Final = 30
CONNECT_TIMEOUT_SECONDS: Final = 10.0
RECONNECT_SECONDS: Final = 1.0
RECONNECT_SECONDS_MAX: Final = 300.0
STABLE_SECONDS: Final = 60.0
IN_FLIGHT_MAX: Final = 20
QUEUED_MAX: Final = 100
COMPLAINT_SECONDS: Final = 60.0
HEARD_AGAIN_SECONDS: Final = (600.0, 1200.0)
"""After which time, drawn anew each time, one thing that is retained for us is asked for again."""
SUBSCRIPTIONS: Final = (Kind.DESIRED, Kind.GRANT, Kind.AVAILABILITY, Kind.HOLD, Kind.SYNC, Kind.TRUST)
RETAINED_SUBSCRIPTIONS: Final = tuple(kind for kind in SUBSCRIPTIONS if RULES[kind].retained)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and who we are to it.

    Attributes:
        host: Name or address.
        port: TCP port.
        user: The name that the broker knows us by.
        password: Never logged.
        tls: How to know the broker, and how it knows us; None for a plain connection.
    """

    host: str
    port: int
    user: str | None
    password: str | None = field(repr=False)
    tls: Tls | None = None


class Bus:
    """One device's session.

    Args:
        broker: Where to connect to; unreachable is no error, nor are files for TLS that cannot be used: it is tried for
            ever, each time with the files as they are then.
        topics: The tree.
        device: Our id.
        trust: Whose grants are heard, and what newer trust roots are told to.
        clock: Seconds that never fall.
        post: Takes events; may block while the agent is busy.
        neighbours: Told who of this site has what, once they want to know.
        pieces: Told what the piece server says, and whether there is a session to ask it on; None: it is not asked.
    """

    def __init__(
        self,
        broker: Broker,
        topics: TopicTree,
        device: str,
        *,
        trust: Trusted,
        clock: Callable[[], float],
        post: Callable[[Event], None],
        neighbours: Neighbours | None = None,
        pieces: "Pieces | None" = None,
    ) -> None:
        self._neighbours = neighbours
        self._pieces = pieces
        self._subscriptions = SUBSCRIPTIONS if pieces is None else (*SUBSCRIPTIONS, Kind.PIECE)
        self._subscribed = 0
        self._hears_again_at = inf
        self._retained = cycle(RETAINED_SUBSCRIPTIONS)
        self._broker = broker
        self._topics = topics
        self._device = device
        self._trust = trust
        self._clock = clock
        self._post = post
        self._ended = threading.Event()
        self._complained: dict[str, float] = {}
        self._random = random.Random()  # noqa: S311 - spreads reconnects, keeps no secret
        self._tls = None if broker.tls is None else Renewed(broker.tls)
        self._client = self._make_client()
        self._thread = threading.Thread(target=self._run, name="bus", daemon=True)

    def start(self) -> None:
        """Connect, and connect again whenever it is lost."""
        self._thread.start()

    def end(self) -> None:
        """Say goodbye: an ordered end is no lost connection."""
        self._ended.set()
        if self._client.is_connected():
            done = self.publish(Kind.AVAILABILITY, b"offline")
            if done is not None:
                with contextlib.suppress(ValueError, RuntimeError):  # the session went before us
                    done.wait_for_publish(2.0)
        self._client.disconnect()

    def listen_to_peers(self) -> None:
        """Ask for what is told of the neighbours, now and with every connect from now on; safe in any thread."""
        if self._client.is_connected():
            self._subscribe_to_peers()

    def publish(self, kind: Kind, payload: bytes) -> "paho.MQTTMessageInfo | None":
        """Send if there is a session; what matters is reported again on the next connect."""
        if self._clock() > self._hears_again_at:  # Samples come by, so nothing else need wake up for it.
            self._subscribe(next(self._retained))
        return self._send(kind, self._topic(kind), payload)

    def publish_event(self, kind: EventKind, payload: bytes) -> None:
        """Tell what happened, if there is a session."""
        topic = self._topics.build(Kind.DEVICE_EVENT, device=self._device, kind=kind.value)
        self._send(Kind.DEVICE_EVENT, topic, payload)

    def _send(self, kind: Kind, topic: str, payload: bytes) -> "paho.MQTTMessageInfo | None":
        if not self._client.is_connected():
            return None
        rule = RULES[kind]
        return self._client.publish(topic, payload, qos=rule.qos, retain=rule.retained)

    def _make_client(self) -> "paho.Client":
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._device,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        if self._broker.user is not None:
            client.username_pw_set(self._broker.user, self._broker.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        availability = self._topics.build(Kind.AVAILABILITY, device=self._device)
        client.will_set(availability, b"offline", qos=1, retain=True)
        client.max_inflight_messages_set(IN_FLIGHT_MAX)
        client.max_queued_messages_set(QUEUED_MAX)
        client.connect_timeout = CONNECT_TIMEOUT_SECONDS
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _run(self) -> None:
        """Hold a session, with growing and jittered pauses between attempts; a stable one sets the pause back."""
        pause_seconds = RECONNECT_SECONDS
        while not self._ended.is_set():
            started_at = self._clock()
            try:
                if self._tls is not None:
                    self._tls.renew()
                self._client.connect(self._broker.host, self._broker.port, KEEPALIVE_SECONDS)
                self._client.loop_forever()
            except TlsFilesError as error:  # said each time: a person has to act, and the pauses grow
                _log.error("broker %s:%d: %s; still trying", self._broker.host, self._broker.port, error)
            except (OSError, ValueError) as error:
                self._complain("connect", "broker %s:%d: %s; still trying", self._broker.host, self._broker.port, error)
            if self._clock() - started_at > STABLE_SECONDS:
                pause_seconds = RECONNECT_SECONDS
            self._ended.wait(self._random.uniform(0.5, 1.0) * pause_seconds)
            pause_seconds = min(2 * pause_seconds, RECONNECT_SECONDS_MAX)

    def _on_connect(
        self, _client: "paho.Client", _data: object, _flags: object, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._complain("refused", "broker %s:%d: %s", self._broker.host, self._broker.port, reason)
            return
        self._subscribed = self._subscribe(*self._subscriptions)
        self._subscribe_to_peers()

    def _subscribe(self, *kinds: Kind) -> int:
        """Subscribe, for the first time or again, and return the packet's number."""
        self._hears_again_at = self._clock() + self._random.uniform(*HEARD_AGAIN_SECONDS)
        _, mid = self._client.subscribe([(self._topic(kind), RULES[kind].qos) for kind in kinds])
        return mid or 0

    def _subscribe_to_peers(self) -> None:
        key = None if self._neighbours is None else self._neighbours.key
        if key is not None:
            self._client.subscribe(self._topics.build(Kind.PEERS, key=key), RULES[Kind.PEERS].qos)

    def _on_subscribe(
        self,
        _client: "paho.Client",
        _data: object,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if mid != self._subscribed:
            return  # of peers; without them everything goes on
        for kind, reason in zip(self._subscriptions, reasons, strict=True):
            if reason.is_failure:
                self._complain("subscribe", "broker: no subscription to %s: %s", kind, reason)
        _log.info("bus.connected broker=%s:%d", self._broker.host, self._broker.port)
        if self._pieces is not None:
            self._pieces.set_session(is_there=True)
        self._post(Connected())

    def _on_disconnect(
        self, _client: "paho.Client", _data: object, _flags: object, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        _log.info("bus.disconnected reason=%s", reason)
        if self._pieces is not None:
            self._pieces.set_session(is_there=False)
        self._post(Disconnected())

    def _on_message(self, _client: "paho.Client", _data: object, message: Any) -> None:  # noqa: ANN401 - paho's type
        address = self._topics.parse(message.topic)
        if address is None or address.ids.get("device", self._device) != self._device:
            return
        try:
            if address.kind is Kind.PEERS:
                self._learn(address.ids["key"], bytes(message.payload))
                return
            if address.kind is Kind.PIECE and self._pieces is not None:
                self._pieces.hear(bytes(message.payload))
                return
            event = self._decode(address.kind, bytes(message.payload), retained=message.retain)
        except (DecodeError, SignatureError, TrustError) as error:
            self._complain(message.topic, "message.rejected topic=%s reason=%s", message.topic, error)
            return
        if event is not None:
            self._post(event)

    def _decode(self, kind: Kind, payload: bytes, *, retained: bool) -> Event | None:
        """Return what a message means; None for what changes nothing.

        Raises:
            DecodeError: It is not what its topic promises.
            SignatureError: It is a grant that no command key has signed.
            TrustError: It holds a trust root that does not follow from ours.
        """
        match kind:
            case Kind.DESIRED if payload:
                return DesiredReceived(decode(Desired, payload, RETAINED), hashlib.sha256(payload).hexdigest())
            case Kind.GRANT if retained:
                raise DecodeError("a retained grant is never heard")
            case Kind.GRANT:
                return GrantReceived(decode(Grant, self._trust.open_grant(payload)))
            case Kind.HOLD if payload:
                self._read_hold(payload)
                return HoldReceived()
            case Kind.HOLD:
                return HoldCleared()
            case Kind.SYNC if payload and not retained:
                return SyncReceived(decode(Sync, payload).spread_seconds)
            case Kind.TRUST if payload:
                root = self._trust.learn(payload)
                return None if root is None else RootChanged(root)
            case Kind.AVAILABILITY:
                return AvailabilityEchoed(payload[:16].decode(errors="replace"))
            case _:
                return None

    def _learn(self, key: str, payload: bytes) -> None:
        """Hand on who of this site has what.

        Raises:
            DecodeError: It is not what its topic promises.
        """
        if self._neighbours is not None:
            self._neighbours.learn(key, decode(PeersDocument, payload, RETAINED) if payload else None)

    def _read_hold(self, payload: bytes) -> None:
        """Log who holds; a brake that does not decode is a brake."""
        try:
            hold = decode(Hold, payload, RETAINED)
        except DecodeError as error:
            _log.warning("hold.unreadable reason=%s", error)
        else:
            _log.info("hold.received by=%r reason=%r", hold.by, hold.reason)

    def _topic(self, kind: Kind) -> str:
        return (
            self._topics.build(kind, device=self._device)
            if "{device}" in RULES[kind].pattern
            else self._topics.build(kind)
        )

    def _complain(self, about: str, text: str, *values: object) -> None:
        """Log once per subject and minute; the subjects are few."""
        now = self._clock()
        if now - self._complained.get(about, float("-inf")) >= COMPLAINT_SECONDS:
            self._complained[about] = now
            _log.warning(text, *values)

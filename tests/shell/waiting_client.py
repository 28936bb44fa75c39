"""An MQTT client that waits for each answer, so that a test sees what a broker says to it."""

import contextlib
import queue
from collections.abc import Iterator
from typing import Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.brokers import Broker

WAIT_SECONDS = 20.0
NOT_AUTHORIZED = 135


class Client:
    """A client that waits for each answer."""

    def __init__(self, url: BrokerUrl, *, client_id: str = "") -> None:
        self.received: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._answers: queue.Queue[int] = queue.Queue()
        self.is_disconnected = False
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id or f"test-{url.username}",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self._paho.username_pw_set(url.username, url.password)
        self._paho.on_connect = lambda *arguments: self._answers.put(arguments[3].value)
        self._paho.on_publish = lambda *arguments: self._answers.put(arguments[3].value)
        self._paho.on_subscribe = lambda *_: self._answers.put(0)
        self._paho.on_disconnect = lambda *_: self._note_disconnect()
        self._paho.on_message = lambda _c, _u, message: self.received.put((message.topic, bytes(message.payload)))
        context = url.tls_context()
        if context is not None:
            self._paho.tls_set_context(context)
        self._paho.connect(url.host, url.port)
        self._paho.loop_start()
        self.connected = self._answers.get(timeout=WAIT_SECONDS)

    def _note_disconnect(self) -> None:
        self.is_disconnected = True
        self._answers.put(-1)

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> int:
        """Return the broker's reason code; -1 if it cut the connection instead."""
        self._paho.publish(topic, payload, qos=1, retain=retain)
        return self._answers.get(timeout=WAIT_SECONDS)

    def subscribe(self, topics: list[str]) -> None:
        self._paho.subscribe([(topic, 1) for topic in topics])
        self._answers.get(timeout=WAIT_SECONDS)

    def hear(self, until: str) -> set[str]:
        """Return the topics of all messages up to the one on ``until``."""
        heard: set[str] = set()
        while until not in heard:
            heard.add(self.received.get(timeout=WAIT_SECONDS)[0])
        return heard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()


@contextlib.contextmanager
def connected(broker: Broker, user: str, *, client_id: str = "") -> Iterator[Client]:
    client = Client(broker.url_for(user, is_device=user.startswith("pi-")), client_id=client_id)
    try:
        yield client
    finally:
        client.close()

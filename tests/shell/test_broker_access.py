"""What broker-config/acl lets whom say and hear, asked of the brokers themselves."""

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.brokers import Broker, start_embedded, start_mosquitto
from schemas.ids import shard_of
from schemas.topics import RULES, TOPIC_ROOT
from tests.shell.waiting_client import NOT_AUTHORIZED, WAIT_SECONDS, Client, connected

MOSQUITTO = pytest.param("mosquitto", marks=pytest.mark.mosquitto)
START: dict[str, Callable[..., Any]] = {"embedded": start_embedded, "mosquitto": start_mosquitto}
USERS = ("orchestrator", "evaluator", "viewer", "pieces", "alice", "pi-1")

# The topics of the contract, each once for every sender that could be meant. `alice` among the devices and `pi-1` among
# the actors are what somebody would try.
IDS = {
    "device": ("pi-1", "pi-2", "alice", "viewer"), "actor": ("alice", "bob", "pi-1"), "kind": ("crash",),
    "shard": ("00",), "group": ("vision",), "rollout": ("r-1",), "wave": ("canary",), "scope": ("fleet",),
    "verb": ("approve",), "worker": ("evaluator", "alice"), "key": ("0f0f",),
}  # fmt: skip


def all_topics() -> list[str]:
    found = ["evaluator/evaluator/summary", "evaluator/orchestrator/summary", "evaluator/alice/summary", "other"]
    for rule in RULES.values():
        partial = [rule.pattern]
        for name, values in IDS.items():
            partial = [topic.replace(f"{{{name}}}", value) for topic in partial for value in values]
        found += dict.fromkeys(partial)
    return found


MAY_WRITE = {
    "orchestrator": r"device/(pi-1|pi-2|alice|viewer)/(desired|grant)|all/(sync|trust|peers/0f0f)|rollout/.*"
    r"|group/vision/summary|evaluator/.*/lease|ops/.*|orchestrator/.*|audit",
    "evaluator": r"evaluator/evaluator/(availability|samples)",
    "viewer": r"",
    "pieces": r"device/(pi-1|pi-2|alice|viewer)/piece|pieces/availability",
    "alice": r"ops/alice/cmd/approve|all/hold",
    "pi-1": r"device/pi-1/(availability|info|reported|ready|fetch|event/crash)|health/00/pi-1",
}
MAY_READ = {
    "orchestrator": r".*(?<!other)",
    "evaluator": r"health/.*|evaluator/evaluator/lease|all/.*",
    "viewer": r"all/.*|rollout/.*|group/.*|health/00/(?!viewer).*|orchestrator/.*"
    r"|device/(pi-1|pi-2|alice)/(availability|info|reported|event/crash)",
    "pieces": r"device/(pi-1|pi-2|alice|viewer)/fetch|all/.*",
    "alice": r"all/.*|ops/alice/reply/approve|rollout/.*|group/.*|health/00/(?!alice).*|audit|orchestrator/.*"
    r"|evaluator/.*|pieces/.*|device/(pi-1|pi-2|viewer)/(availability|info|desired|reported|ready|event/crash)",
    "pi-1": r"device/pi-1/(availability|desired|grant|piece)|all/.*",
}


@pytest.fixture(scope="module", params=["embedded", MOSQUITTO])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("broker")
    with START[request.param](folder, operators=["alice", "bob"], devices=["pi-1", "pi-2"]) as broker:
        yield broker


@pytest.mark.parametrize("user", USERS)
def test_user_may_say_exactly_what_the_role_says(broker: Broker, user: str) -> None:
    with connected(broker, user) as client:
        accepted = {topic for topic in all_topics() if client.publish(f"{TOPIC_ROOT}/{topic}") != NOT_AUTHORIZED}

    assert accepted == {topic for topic in all_topics() if re.fullmatch(MAY_WRITE[user], topic)}


def test_every_kind_of_message_has_somebody_who_may_send_and_hear_it() -> None:
    for kind, rule in RULES.items():
        pattern = re.sub(r"\{device\}", "pi-1", re.sub(r"\{actor\}", "alice", rule.pattern))
        topic = re.sub(r"\{(\w+)\}", lambda match: IDS[match[1]][0], pattern)
        assert any(re.fullmatch(allowed, topic) for allowed in MAY_WRITE.values()), kind
        assert any(re.fullmatch(allowed, topic) for allowed in MAY_READ.values()), kind


@pytest.mark.parametrize("user", USERS)
def test_user_hears_exactly_what_the_role_hears(broker: Broker, user: str) -> None:
    topics = {f"{TOPIC_ROOT}/{topic}" for topic in all_topics()}
    last = f"{TOPIC_ROOT}/all/sync" if user in {"pi-1", "evaluator", "pieces"} else f"{TOPIC_ROOT}/orchestrator/info"
    with connected(broker, user, client_id="listener") as listener, contextlib.ExitStack() as stack:
        listener.subscribe(["fleet/v1/#", "#", *sorted(topics)])
        said: set[str] = set()
        for sender in ("orchestrator", "evaluator", "pieces", "alice", "pi-1", "pi-2"):
            is_itself = sender == user  # a second connection of a device would push off the first
            client = listener if is_itself else stack.enter_context(connected(broker, sender, client_id=f"by-{sender}"))
            said |= {topic for topic in topics - {last} if client.publish(topic) != NOT_AUTHORIZED}
        orchestrator = stack.enter_context(connected(broker, "orchestrator"))
        orchestrator.publish(last)
        heard = listener.hear(until=last)

    allowed = {topic for topic in said | {last} if re.fullmatch(MAY_READ[user], topic.removeprefix(f"{TOPIC_ROOT}/"))}
    assert heard == allowed


def test_device_may_use_its_own_shard_and_a_plain_name_only(broker: Broker) -> None:
    with connected(broker, "pi-1") as device:
        assert device.publish(f"{TOPIC_ROOT}/health/{shard_of('pi-1')}/pi-1") != NOT_AUTHORIZED
        for topic in (
            "health/00/00/pi-1",
            "device/pi-1",
            "device/pi-1/x",
            "device/pi-1/event",
            "device/pi-1/event/a/b",
        ):
            assert device.publish(f"{TOPIC_ROOT}/{topic}") == NOT_AUTHORIZED, topic
        assert device.publish("other/v1/device/pi-1/info") == NOT_AUTHORIZED


def test_nobody_gets_in_without_the_right_password(broker: Broker) -> None:
    url = broker.url
    for username, password in ((None, None), ("orchestrator", "wrong"), ("nobody", "x"), ("orchestrator", None)):
        refused = BrokerUrl(url.host, url.port, username=username, password=password)
        client = Client(refused, client_id="stranger")
        assert client.connected in (NOT_AUTHORIZED, 134), username
        client.close()


def test_last_will_of_a_device_speaks_for_itself_only(broker: Broker) -> None:
    last = f"{TOPIC_ROOT}/device/pi-1/availability"
    with connected(broker, "orchestrator") as listener:
        listener.subscribe([f"{TOPIC_ROOT}/device/+/availability"])
        for device in ("pi-2", "pi-1"):
            die_with_a_will(broker.url_for("pi-1", is_device=True), f"{TOPIC_ROOT}/device/{device}/availability")

        assert listener.hear(until=last) == {last}


def die_with_a_will(url: BrokerUrl, topic: str) -> None:
    """Connect as a device whose will is ``topic``, and lose the connection."""
    is_over = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, "pi-1", reconnect_on_failure=False)
    client.username_pw_set(url.username, url.password)
    client.will_set(topic, b"offline", qos=1)
    client.on_disconnect = lambda *_: is_over.set()
    client.on_connect = lambda *_: _cut(client)
    client.connect(url.host, url.port)
    client.loop_start()
    assert is_over.wait(WAIT_SECONDS)
    client.loop_stop()


def _cut(client: paho.Client) -> None:
    connection = client.socket()
    assert isinstance(connection, socket.socket)
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("kind", ["embedded", MOSQUITTO])
def test_retained_state_and_passwords_survive_a_restart(tmp_path: Path, kind: str) -> None:
    topic = f"{TOPIC_ROOT}/device/pi-1/desired"
    with START[kind](tmp_path, devices=["pi-1"]) as broker, connected(broker, "orchestrator") as orchestrator:
        orchestrator.publish(topic, b"{}", retain=True)
        password = broker.url_for("pi-1").password

    with START[kind](tmp_path, devices=["pi-1"]) as broker, connected(broker, "pi-1") as device:
        assert broker.url_for("pi-1").password == password
        device.subscribe([topic])
        assert device.received.get(timeout=WAIT_SECONDS) == (topic, b"{}")


@pytest.mark.mosquitto
def test_device_cannot_push_the_orchestrator_off_by_its_client_id(tmp_path: Path) -> None:
    with (
        start_mosquitto(tmp_path, devices=["pi-1"]) as broker,
        connected(broker, "orchestrator", client_id="the-one") as orchestrator,
        connected(broker, "pi-1", client_id="the-one") as device,
    ):
        assert device.publish(f"{TOPIC_ROOT}/device/pi-1/info") != NOT_AUTHORIZED
        assert orchestrator.publish(f"{TOPIC_ROOT}/all/sync") in (0, 16)
        assert not orchestrator.is_disconnected


@pytest.mark.mosquitto
def test_mosquitto_refuses_packets_that_are_too_large(tmp_path: Path) -> None:
    with start_mosquitto(tmp_path, devices=["pi-1"]) as broker, connected(broker, "pi-1") as device:
        assert device.publish(f"{TOPIC_ROOT}/device/pi-1/info", bytes(200_000)) != NOT_AUTHORIZED
        device.publish(f"{TOPIC_ROOT}/device/pi-1/info", bytes(270_000))
        assert device.is_disconnected


@pytest.mark.mosquitto
def test_operator_commands_with_a_plain_mosquitto_pub(tmp_path: Path) -> None:
    topic = f"{TOPIC_ROOT}/ops/operator/cmd/approve"
    with start_mosquitto(tmp_path) as broker, connected(broker, "orchestrator") as orchestrator:
        orchestrator.subscribe([topic])
        url = broker.url_for("operator")
        connection = ["-h", url.host, "-p", str(url.port), "-u", str(url.username), "-P", str(url.password)]

        subprocess.run(["mosquitto_pub", *connection, "-q", "1", "-t", topic, "-m", "r-042"], check=True, timeout=20)

        assert orchestrator.received.get(timeout=WAIT_SECONDS) == (topic, b"r-042")

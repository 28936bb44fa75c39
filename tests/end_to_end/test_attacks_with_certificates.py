"""Attacks on a mosquitto as ``tidegate broker-config --tls`` sets it up: nothing moves, and what can be seen is."""

import asyncio
import json
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.adapters import broker_folder
from orchestrator.adapters.broker_folder import Users
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.certificates import DEVICES, TOOLS, Authority
from orchestrator.adapters.tls import TlsFiles
from orchestrator.cli.bus import request
from schemas.access import RIGHTS, Role
from schemas.codec import encode
from schemas.ids import shard_of
from schemas.messages import Reported
from schemas.topics import RULES, TOPIC_ROOT, Kind, TopicTree
from tests.device.device_world import until
from tests.end_to_end.certified import CertifiedBroker, certified_mosquitto, configure, is_let_in
from tests.end_to_end.stage import Stage, environment_of, furnish
from tests.shell.waiting_client import NOT_AUTHORIZED, Client, connected

pytestmark = pytest.mark.mosquitto

NOW = datetime.now(UTC)  # noqa: TID251 - certificates are checked against the machine's clock
NAMES = {
    "kind": ["crash"], "shard": ["00"], "group": ["lab"], "rollout": ["r-1"], "wave": ["canary"], "scope": ["fleet"],
    "verb": ["abort"], "worker": ["evaluator", "pi-1"], "device": ["pi-1", "pi-2"], "actor": ["alice", "bob", "pi-1"],
}  # fmt: skip
"""What an attacker would write into topics."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("attacked")
    with ExitStack() as stack:
        broker = stack.enter_context(
            certified_mosquitto(folder / "access", operators=["alice", "bob"], devices=["pi-1", "pi-2", "pi-3"])
        )
        made = furnish(stack, folder / "fleet", broker)
        made.start()
        yield made


@pytest.fixture
def broker(stage: Stage) -> Iterator[CertifiedBroker]:
    """The broker; after each attack the orchestrator lives, still connected, and has learned nothing but answers."""
    assert isinstance(stage.broker, CertifiedBroker)
    yield stage.broker
    answer = asyncio.run(request(stage.operator(), "list", {}, timeout_seconds=10))
    assert answer.data is not None
    assert (answer.data["devices"], answer.data["rollouts"]) == (0, [])
    assert {fact.kind for fact in stage.facts()} <= {"epoch_opened", "command_answered"}
    log = (stage.folder / "orchestrator.log").read_text()
    assert "connection lost" not in log
    assert "is not read" not in log


def orchestrator_log(stage: Stage) -> str:
    return (stage.folder / "orchestrator.log").read_text()


def topics() -> list[str]:
    found: list[str] = []
    for rule in RULES.values():
        partial = [rule.pattern]
        for name, values in NAMES.items():
            partial = [topic.replace(f"{{{name}}}", value) for topic in partial for value in values]
        found += dict.fromkeys(partial)
    return [f"{TOPIC_ROOT}/{topic}" for topic in found]


def own_topics(device: str) -> set[str]:
    kinds = [what for right in RIGHTS[Role.DEVICE] if "write" in right.may for what in right.what]
    filled = {kind: {**{name: values[0] for name, values in NAMES.items()}, "device": device} for kind in Kind}
    return {f"{TOPIC_ROOT}/{RULES[kind].pattern.format(**filled[kind])}" for kind in kinds if isinstance(kind, Kind)}


# ---- With a certificate of its own ----------------------------------------------------------------------------------


def test_a_device_publishes_nothing_that_is_not_its_own(broker: CertifiedBroker) -> None:
    with connected(broker, "orchestrator", client_id="listener") as listener, connected(broker, "pi-1") as device:
        listener.subscribe(["#"])
        own = own_topics("pi-1")
        assert own < set(topics())
        refused = {topic for topic in topics() if topic not in own and device.publish(topic) == NOT_AUTHORIZED}
        assert refused == set(topics()) - own
        assert listener.publish(f"{TOPIC_ROOT}/audit", b"last") != NOT_AUTHORIZED
        heard = listener.hear(until=f"{TOPIC_ROOT}/audit")

    assert {topic for topic in heard & refused if "/orchestrator/" not in topic} == {f"{TOPIC_ROOT}/audit"}


def test_a_device_hears_nothing_of_others_whatever_it_subscribes_to(broker: CertifiedBroker) -> None:
    last = f"{TOPIC_ROOT}/all/sync"
    others = [f"{TOPIC_ROOT}/device/pi-2/{name}" for name in ("desired", "grant")]
    shared = [f"$share/theft/{topic}" for topic in others]
    with (
        connected(broker, "orchestrator", client_id="sender") as sender,
        connected(broker, "pi-1") as thief,
        connected(broker, "pi-2") as owner,
    ):
        owner.subscribe(others)
        thief.subscribe(["#", f"{TOPIC_ROOT}/#", *others, *shared, last])
        for topic in (*others, *(t for t in topics() if "/audit" in t or "/ops/" in t), last):
            sender.publish(topic)
        assert thief.hear(until=last) == {last}
        assert owner.hear(until=others[1]) == set(others), "and the thief took nothing away"


def test_a_device_takes_nobodys_session_over(stage: Stage, broker: CertifiedBroker) -> None:
    for name in ("tidegate-orchestrator", "pi-2"):
        with (
            connected(broker, "pi-2") as owner,
            Client(broker.url_for("pi-1", is_device=True), client_id=name) as thief,
        ):
            assert thief.publish(f"{TOPIC_ROOT}/device/pi-2/info") == NOT_AUTHORIZED
            assert not owner.is_disconnected
    assert "stale" not in orchestrator_log(stage)


async def test_a_device_is_not_let_in_where_people_and_the_orchestrator_connect(broker: CertifiedBroker) -> None:
    refused = broker.log().count("verify failed")

    assert not await is_let_in(broker.address(broker.files("pi-1"), is_device=False))
    assert not await is_let_in(broker.address(broker.files("alice"), is_device=True))

    until(lambda: broker.log().count("verify failed") >= refused + 2)


def test_what_a_device_may_say_and_what_is_nonsense_is_refused_and_logged(
    stage: Stage, broker: CertifiedBroker
) -> None:
    wrong_shard = "01" if shard_of("pi-1") == "00" else "00"
    with connected(broker, "pi-1") as device:
        device.publish(f"{TOPIC_ROOT}/device/pi-1/reported", b"\xff" * 100)
        device.publish(f"{TOPIC_ROOT}/health/{wrong_shard}/pi-1", b"{}")
        report = Reported.model_validate({"observed_generation": 1, "seq": 1, "state": "idle", "boot_id": "b"})
        device.publish(f"{TOPIC_ROOT}/device/pi-1/ready", encode(report))

    def are_logged() -> bool:
        refused = [line for line in orchestrator_log(stage).splitlines() if "message refused" in line]
        whats = ("device/pi-1/reported", "foreign_shard", "device/pi-1/ready")
        return all(any(what in line for line in refused) for what in whats)

    until(are_logged)


def test_a_command_that_was_retained_is_refused_audited_and_cleared(stage: Stage, broker: CertifiedBroker) -> None:
    topic = f"{TOPIC_ROOT}/ops/alice/cmd/abort"
    with connected(broker, "alice") as alice, connected(broker, "orchestrator", client_id="late") as late:
        alice.subscribe([f"{TOPIC_ROOT}/ops/alice/reply/abort"])
        alice.publish(topic, b"r-1", retain=True)
        assert json.loads(alice.received.get(timeout=20)[1])["error"]["code"] == "retained_command"
        late.subscribe([topic, f"{TOPIC_ROOT}/orchestrator/availability"])
        assert topic not in late.hear(until=f"{TOPIC_ROOT}/orchestrator/availability")
    codes = [getattr(fact, "code", None) for fact in stage.facts() if fact.kind == "command_answered"]
    assert "retained_command" in codes


def test_nobody_acts_in_anothers_name_and_lookers_on_change_nothing(broker: CertifiedBroker) -> None:
    own = {
        "alice": {"ops/alice/cmd/abort", "all/hold"},
        "evaluator": {"evaluator/evaluator/availability", "evaluator/evaluator/samples"},
        "viewer": set[str](),
        "pieces": {"device/pi-1/piece", "device/pi-2/piece", "pieces/availability"},
    }
    for user, allowed in own.items():
        with connected(broker, user) as client:
            for topic in topics():
                if topic.removeprefix(f"{TOPIC_ROOT}/") not in allowed:
                    assert client.publish(topic) == NOT_AUTHORIZED, (user, topic)


def test_an_evaluator_that_lies_is_refused_and_logged(stage: Stage, broker: CertifiedBroker) -> None:
    with connected(broker, "evaluator") as evaluator:
        evaluator.publish(f"{TOPIC_ROOT}/evaluator/evaluator/samples", b"no bundle")

    until(lambda: "evaluator/evaluator/samples" in orchestrator_log(stage))


def test_a_packet_that_is_too_large_costs_its_sender_the_connection(broker: CertifiedBroker) -> None:
    with connected(broker, "pi-1") as device:
        device.publish(f"{TOPIC_ROOT}/device/pi-1/info", bytes(270_000))
        assert device.is_disconnected


@pytest.mark.parametrize("topic", ["device/pi-1\x00/info", "device/pi-1/event/\x07", "device/+/info", "device/#"])
def test_a_topic_that_is_none_is_not_passed_on(broker: CertifiedBroker, topic: str) -> None:
    url = broker.url_for("pi-1", is_device=True)
    context = url.tls_context()
    assert context is not None
    name = f"{TOPIC_ROOT}/{topic}".encode()
    hello = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04pi-1"
    message = bytes([0x32, len(name) + 5]) + len(name).to_bytes(2, "big") + name + b"\x00\x01x"
    with (
        connected(broker, "orchestrator", client_id="listener") as listener,
        socket.create_connection((url.host, url.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=url.host) as secured,
    ):
        listener.subscribe(["#"])
        secured.sendall(hello)
        assert secured.recv(4) == b"\x20\x02\x00\x00"
        secured.sendall(message)
        assert secured.recv(4) in (b"", b"\x40\x02\x00\x01")
        listener.publish(f"{TOPIC_ROOT}/audit", b"last")
        assert not any(heard.startswith(f"{TOPIC_ROOT}/device/") for heard in listener.hear(f"{TOPIC_ROOT}/audit"))


# ---- With a certificate that is no good -----------------------------------------------------------------------------


def vouched(broker: CertifiedBroker, folder: Path, name: str, *, issuer: str = DEVICES, at: datetime = NOW) -> TlsFiles:
    """A certificate that the fleet's own authority has signed, which ``broker-config`` never would have."""
    authority = Authority(broker.folder / "broker", issuer, broker.folder / "authority", at)
    authority.vouch_for(name, folder / "client")
    return TlsFiles(broker.folder / "broker" / "ca.crt", folder / "client.crt", folder / "client.key")


@pytest.mark.parametrize("name", ["pi-2/event", "07/pi-2", "+", "#", "a\nb", "pi-2 "])
async def test_a_certificate_with_a_name_that_is_no_id_speaks_for_nobody(
    broker: CertifiedBroker, tmp_path: Path, name: str
) -> None:
    files = vouched(broker, tmp_path, name)
    url = broker.address(files, is_device=True)
    tree = TopicTree()
    heard: list[str] = []
    with connected(broker, "orchestrator", client_id="listener") as listener:
        listener.subscribe(["fleet/v1/device/pi-2/+", "fleet/v1/health/+/pi-2", "fleet/v1/audit"])
        if await is_let_in(url):
            with Client(url) as forger:
                for kind in (Kind.INFO, Kind.REPORTED, Kind.READY, Kind.HEALTH, Kind.AVAILABILITY):
                    forger.publish(tree.build(kind, device="pi-2"))
                if not set(name) & set("+#\n"):
                    forger.publish(f"{TOPIC_ROOT}/device/{name}/info")
        listener.publish(f"{TOPIC_ROOT}/audit", b"last")
        heard += listener.hear(f"{TOPIC_ROOT}/audit")

    assert heard == [f"{TOPIC_ROOT}/audit"]


async def test_an_expired_certificate_lets_nobody_in(broker: CertifiedBroker, tmp_path: Path) -> None:
    files = vouched(broker, tmp_path, "alice", issuer=TOOLS, at=NOW - timedelta(days=1000))

    assert not await is_let_in(broker.address(files))
    assert "has it run out, was it revoked" in complaint(broker.address(files), "--timeout", "3")

    until(lambda: "expired" in broker.log() or "verify failed" in broker.log())


async def test_a_certificate_of_another_authority_lets_nobody_in(broker: CertifiedBroker, tmp_path: Path) -> None:
    users = Users(operators=("alice",), devices=("pi-1",), hosts=("localhost",), is_tls=True, place="/x")
    broker_folder.create(tmp_path / "foreign", users, NOW)
    for user, is_device in (("alice", False), ("pi-1", True)):
        client = tmp_path / "foreign" / "clients" / user
        files = TlsFiles(broker.folder / "broker" / "ca.crt", client / "client.crt", client / "client.key")
        assert not await is_let_in(broker.address(files, is_device=is_device))
    files = vouched(broker, tmp_path, "pi-1", issuer=TOOLS)
    assert not await is_let_in(broker.address(files, is_device=True)), "people's authority does not vouch for devices"


async def test_without_a_certificate_nobody_is_let_in(broker: CertifiedBroker) -> None:
    only_trust = TlsFiles(broker.folder / "broker" / "ca.crt")
    assert not await is_let_in(broker.address(only_trust))
    assert not await is_let_in(BrokerUrl("localhost", broker.device_port, username="pi-1", password="x"))


async def test_a_broker_with_another_name_is_not_connected_to(broker: CertifiedBroker) -> None:
    url = broker.address(broker.files("alice"), host="127.0.0.1")

    assert not await is_let_in(url)
    assert "is it the right host" in complaint(url)


def complaint(url: BrokerUrl, *options: str) -> str:
    """What a person is told who cannot connect."""
    command = [sys.executable, "-m", "orchestrator", "list", *options]
    environment = {**os.environ, **environment_of(url)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5, done
    return done.stderr


async def test_a_revoked_certificate_lets_nobody_in_but_a_connection_that_is_open_stays(
    broker: CertifiedBroker, tmp_path: Path
) -> None:
    kept = tmp_path / "pi-3"
    copied = [(kept / path.name, path.read_bytes()) for path in (broker.folder / "clients" / "pi-3").iterdir()]
    kept.mkdir()
    for path, content in copied:
        path.write_bytes(content)
    files = TlsFiles(kept / "ca.crt", kept / "client.crt", kept / "client.key")
    url = broker.address(files, is_device=True)
    own = f"{TOPIC_ROOT}/device/pi-3/event/crash"
    with Client(url) as device:
        assert device.publish(own) != NOT_AUTHORIZED
        said = configure(broker.folder, "--revoke", "pi-3")
        broker.read_again()
        assert device.publish(own) != NOT_AUTHORIZED, "which is why the command says to cut it"
        assert "stays open until it is cut" in said

    assert not await is_let_in(url)
    assert re.search("revoked|verify failed", broker.log())


def test_older_versions_of_tls_are_refused(broker: CertifiedBroker) -> None:
    context = broker.url_for("alice").tls_context()
    assert context is not None
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("localhost", broker.url.port), timeout=20) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")

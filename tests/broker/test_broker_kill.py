"""What was acknowledged survives ``kill -9`` of the server."""

import signal
import threading
from pathlib import Path

import pytest

from embedded_broker.codec import encode
from embedded_broker.packets import Properties, Puback, Pubcomp, Publish, Pubrec, Pubrel, Version
from tests.broker.broker_process import ServerProcess, serving_process
from tests.contract.contract_client import Client, ClosedError, SocketChannel

STAY = Properties(session_expiry_seconds=1000)
BOTH = pytest.mark.parametrize("version", list(Version), ids=["v311", "v5"])


def _kept(server: ServerProcess, client_id: str, version: Version = Version.V5) -> Client:
    return server.connect(client_id, version, clean_start=False, properties=STAY)


@BOTH
def test_acknowledged_messages_subscriptions_and_retained_survive_a_kill(tmp_path: Path, version: Version) -> None:
    database = tmp_path / "broker.db"
    with serving_process("--database", database) as server:
        reader = _kept(server, "reader", version)
        reader.subscribe("t/#", 1)
        writer = _kept(server, "writer", version)
        writer.publish("t/state", b"retained", 1, retain=True)
        writer.publish("t/state", b"", 1, retain=True)
        writer.publish("t/other", b"kept", 1, retain=True)
        for number in range(50):
            writer.publish("t/x", b"%d" % number, 1)
        server.stop(signal.SIGKILL)
        reader.drop()
        writer.drop()
    with serving_process("--database", database) as server:
        reader = _kept(server, "reader", version)
        assert reader.connack.session_present
        found = reader.messages()
        assert [one.payload for one in found] == [b"retained", b"", b"kept", *(b"%d" % n for n in range(50))]
        assert [one.dup for one in found] == [True] * 20 + [False] * 33  # those sent before the kill are repeats
        late = server.connect("late", version)
        late.subscribe("t/#", 1)
        assert [(one.topic, one.payload) for one in late.messages()] == [("t/other", b"kept")]
        reader.drop()
        late.drop()


def test_nothing_acknowledged_is_lost_when_the_server_is_killed_under_load(tmp_path: Path) -> None:
    database = tmp_path / "broker.db"
    acknowledged = 0
    with serving_process("--database", database, "--queued-max", 100_000) as server:
        reader = _kept(server, "reader")
        reader.subscribe("t", 1)
        reader.disconnect()
        reader.drop()
        writer = _kept(server, "writer")
        killer = threading.Timer(0.7, server.process.kill)
        killer.start()
        try:
            while True:
                burst = range(acknowledged, acknowledged + 100)
                for number in burst:
                    writer.send(Publish("t", b"%d" % number, 1, packet_id=number % 65_535 + 1))
                for number in burst:
                    assert writer.expect(Puback).packet_id == number % 65_535 + 1
                    acknowledged = number + 1
        except (ClosedError, ConnectionError):
            pass
        killer.join()
        writer.drop()
    assert acknowledged > 0
    with serving_process("--database", database, "--queued-max", 100_000) as server:
        reader = _kept(server, "reader")
        found = [int(payload) for payload in reader.payloads()]
        assert found == list(range(len(found)))
        assert len(found) >= acknowledged
        reader.drop()


@BOTH
def test_qos_2_is_exactly_once_over_kills_at_every_step(tmp_path: Path, version: Version) -> None:
    """The sender and the reader do what the standard says; the server is killed after each packet it sent."""
    database = tmp_path / "broker.db"
    received: list[bytes] = []

    with serving_process("--database", database) as server:
        reader = _kept(server, "reader", version)
        reader.subscribe("t", 2)
        writer = _kept(server, "writer", version)
        writer.send(Publish("t", b"once", 2, packet_id=3))
        writer.expect(Pubrec)
        message = reader.expect(Publish)
        received.append(message.payload)
        server.stop(signal.SIGKILL)
        reader.drop()
        writer.drop()

    with serving_process("--database", database) as server:
        writer = _kept(server, "writer", version)
        writer.send(Publish("t", b"once", 2, dup=True, packet_id=3))  # as if PUBREC had been lost
        writer.expect(Pubrec)
        writer.send(Pubrel(3))
        writer.expect(Pubcomp)
        reader = _kept(server, "reader", version)
        again = reader.expect(Publish)
        assert (again.packet_id, again.dup) == (message.packet_id, True)  # so the reader knows it for a repeat
        reader.send(Pubrec(message.packet_id))
        reader.expect(Pubrel)
        server.stop(signal.SIGKILL)
        reader.drop()
        writer.drop()

    with serving_process("--database", database) as server:
        reader = _kept(server, "reader", version)
        assert reader.drain() == [Pubrel(message.packet_id)]
        reader.send(Pubcomp(message.packet_id))
        reader.drain()
        server.stop(signal.SIGKILL)
        reader.drop()

    with serving_process("--database", database) as server:
        reader, writer = _kept(server, "reader", version), _kept(server, "writer", version)
        assert reader.drain() == []
        writer.publish("t", b"next", 2)  # the packet id is free again
        assert reader.payloads() == [b"next"]
        reader.drop()
        writer.drop()
    assert received == [b"once"]


def test_message_cut_off_in_the_middle_is_not_there(tmp_path: Path) -> None:
    database = tmp_path / "broker.db"
    with serving_process("--database", database) as server:
        writer = _kept(server, "writer")
        assert isinstance(writer.channel, SocketChannel)
        data = encode(Publish("t", b"x" * 1000, 1, retain=True, packet_id=1), Version.V5)
        writer.channel.send_bytes(data[:500])
        server.stop(signal.SIGKILL)
        writer.drop()
    with serving_process("--database", database) as server:
        reader = server.connect("reader")
        reader.subscribe("#")
        assert reader.messages() == []
        reader.drop()

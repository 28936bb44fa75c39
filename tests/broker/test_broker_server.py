"""The server as a program: sockets, WebSocket, passwords, hostile bytes, limits, start and stop."""

import asyncio
import json
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
import websockets
from websockets.asyncio.client import connect as connect_websocket
from websockets.typing import Origin, Subprotocol

from embedded_broker.codec import Parser, encode
from embedded_broker.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Version,
    Will,
)
from embedded_broker.passwords import hash_password
from embedded_broker.reasons import Reason
from tests.broker.broker_process import ServerProcess, serving_process
from tests.contract.contract_client import Client, ClosedError, SocketChannel


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_process("--websocket-port", 0) as started:
        yield started


def _run(*options: object, text: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "embedded_broker", *map(str, options)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=20, check=False)


def _raw(server: ServerProcess, data: bytes) -> bytes:
    """Send bytes and return all the server answers until it closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(data)
        answer = b""
        while received := connection.recv(4096):
            answer += received
    return answer


CONNECT = encode(Connect("raw"), Version.V5)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: " + b"x" * 100, []),
        (encode(Pingreq(), Version.V5), []),
        (bytes.fromhex("100c00044d5154540302000000 00".replace(" ", "")), [Connack(reason=0x84)]),
        (CONNECT + b"\x00\x00", [Disconnect(Reason.MALFORMED_PACKET)]),
        (CONNECT + b"\x30\xff\xff\xff\x7f", [Disconnect(Reason.PACKET_TOO_LARGE)]),
        (CONNECT + CONNECT, [Disconnect(Reason.PROTOCOL_ERROR)]),
        (CONNECT + encode(Pingreq(), Version.V5) + b"\x36\x00", [Pingresp(), Disconnect(Reason.MALFORMED_PACKET)]),
    ],
)
def test_hostile_bytes_close_their_connection_only(server: ServerProcess, data: bytes, expected: list[Packet]) -> None:
    answer = _raw(server, data)
    version = Version.V311 if expected == [Connack(reason=0x84)] else Version.V5
    packets = list(Parser(version).feed(answer))
    assert [one for one in packets if one == Connack(reason=0x84) or not isinstance(one, Connack)] == expected
    client = server.connect("after")
    assert client.drain() == []
    client.drop()


def test_connection_without_connect_is_not_a_client(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        client = server.connect("other")
        assert client.drain() == []
        client.drop()
        idle.sendall(b"\x10")


def test_packets_sent_behind_connect_are_handled_in_order(server: ServerProcess) -> None:
    channel = SocketChannel(server.port, Version.V5)
    subscribe = Subscribe(1, (Subscription("behind", 0),))
    channel.send_bytes(b"".join(encode(one, Version.V5) for one in (Connect("b"), subscribe, Publish("behind", b"x"))))
    found = [channel.take(5) for _ in range(3)]
    assert [type(one) for one in found] == [Connack, Suback, Publish]
    channel.drop()


def test_websocket_clients_meet_tcp_clients(server: ServerProcess) -> None:
    reader = server.connect("tcp", version=Version.V311)
    reader.subscribe("ws/#", 1)

    async def publish() -> list[Packet]:
        uri = f"ws://127.0.0.1:{server.websocket_port}"
        async with connect_websocket(uri, subprotocols=[Subprotocol("mqtt")]) as websocket:
            assert websocket.subprotocol == "mqtt"
            data = encode(Connect("ws", will=Will("ws/will", b"gone")), Version.V5)
            data += encode(Publish("ws/a", b"hello", 1, packet_id=1), Version.V5)
            await websocket.send(data[:7])  # packets may be cut anywhere
            await websocket.send(data[7:])
            parser, packets = Parser(), list[Packet]()
            while len(packets) < 2:
                message = await websocket.recv()
                assert isinstance(message, bytes)
                packets += parser.feed(message)
            return packets

    packets = asyncio.run(publish())
    assert isinstance(packets[0], Connack)
    assert reader.expect(Publish).payload == b"hello"
    assert reader.expect(Publish).payload == b"gone"
    reader.drop()


def test_websocket_text_and_bad_packets_close_the_connection(server: ServerProcess) -> None:
    async def closes(message: str | bytes) -> None:
        async with connect_websocket(
            f"ws://127.0.0.1:{server.websocket_port}", subprotocols=[Subprotocol("mqtt")]
        ) as websocket:
            await websocket.send(message)
            async with asyncio.timeout(5):
                async for _ in websocket:  # ends when the server closes
                    pass

    for message in ("text", b"\x00\x00", CONNECT + b"\x00\x00"):
        asyncio.run(closes(message))


@pytest.mark.parametrize(
    ("origin", "is_let_in"),
    [("http://localhost:8080", True), ("http://127.0.0.1", True), ("https://evil.example", False), ("null", False)],
)
def test_foreign_page_is_kept_off_a_broker_without_passwords(
    server: ServerProcess, origin: str, *, is_let_in: bool
) -> None:
    async def tries() -> bool:
        uri = f"ws://127.0.0.1:{server.websocket_port}"
        try:
            async with connect_websocket(uri, origin=Origin(origin), subprotocols=[Subprotocol("mqtt")]):
                return True
        except websockets.InvalidStatus as error:
            return error.response.status_code != HTTPStatus.FORBIDDEN

    assert asyncio.run(tries()) is is_let_in


def test_passwords_are_checked_for_every_connection(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text(hash_password("ann", b"right") + "\n", encoding="utf-8")
    with serving_process("--passwords", file, "--host", "0.0.0.0") as server:
        answers = [
            server.connect("c", user=user, password=password)
            for user, password in (
                ("ann", b"right"),
                ("ann", b"right"),
                ("ann", b"wrong"),
                ("bob", b"right"),
                (None, None),
            )
        ]
        bad = Reason.BAD_USER_NAME_OR_PASSWORD
        assert [one.connack.reason for one in answers] == [0, 0, bad, bad, Reason.NOT_AUTHORIZED]
        assert answers[1].drain() == []
        for one in answers:
            one.drop()
        # What comes behind CONNECT waits for the check, and is not lost.
        for password, count in ((b"right", 2), (b"wrong", 1)):
            channel = SocketChannel(server.port, Version.V5)
            connect = encode(Connect("d", user="ann", password=password), Version.V5)
            channel.send_bytes(connect + encode(Pingreq(), Version.V5))
            assert [type(channel.take(5)) for _ in range(count)] == [Connack, Pingresp][:count]
            channel.drop()


def test_sessions_of_one_user_are_limited_where_users_are_known(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text("".join(hash_password(user, b"right") + "\n" for user in ("ann", "bob")), encoding="utf-8")
    limited = ("--sessions-per-user-max", 1)
    with serving_process(*limited, "--passwords", file) as server:
        clients = [server.connect("c", user=user, password=b"right") for user in ("ann", "bob")]
        refused = [server.connect("d", version, user="ann", password=b"right") for version in Version]
        assert [one.connack.reason for one in clients + refused] == [
            0,
            0,
            Reason.SERVER_UNAVAILABLE,
            Reason.QUOTA_EXCEEDED,
        ]
        assert clients[0].drain() == []  # nobody took its connection over
        for one in clients + refused:
            one.drop()
    with serving_process(*limited) as server:  # where names prove nothing, one more would be made up
        clients = [server.connect(name, user="ann") for name in "cd"]
        assert [one.connack.reason for one in clients] == [0, 0]
        for one in clients:
            one.drop()


def test_hash_password_makes_a_line_that_lets_its_user_in(tmp_path: Path) -> None:
    done = _run("--hash-password", "ann", text="right\n")
    assert done.returncode == 0
    file = tmp_path / "passwords"
    file.write_text(done.stdout, encoding="utf-8")
    with serving_process("--passwords", file) as server:
        client = server.connect("c", user="ann", password=b"right")
        assert client.connack.reason == 0
        client.drop()


def test_connections_beyond_the_limit_are_closed() -> None:
    with serving_process("--connections-max", 2) as server:
        clients = [server.connect(f"c{number}") for number in range(2)]
        with pytest.raises((ClosedError, ConnectionError)):
            server.connect("c2")
        clients[0].drop()
        deadline = time.monotonic() + 5
        while True:  # the server sees the loss a moment later
            try:
                clients.append(server.connect("c3"))
                break
            except (ClosedError, ConnectionError):
                assert time.monotonic() < deadline
        for one in clients:
            one.drop()


def test_reader_that_does_not_read_loses_qos_0_messages_and_nobody_waits_for_it(server: ServerProcess) -> None:
    sleeper, writer = server.connect("sleeper"), server.connect("writer")
    sleeper.subscribe("flood")
    payload = b"x" * 100_000
    for _ in range(200):
        writer.publish("flood", payload, 0)
    assert writer.drain() == []
    found = len(sleeper.messages())
    assert 10 <= found < 200
    sleeper.drop()
    writer.drop()


def test_stop_signal_ends_cleanly_with_wills_retained(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with serving_process("--database", tmp_path / "broker.db", "--websocket-port", 0) as server:
            client = server.connect("c", will=Will("w", str(number).encode(), retain=True))
            server.process.send_signal(number)
            assert client.expect_closed() == [Disconnect(Reason.SERVER_SHUTTING_DOWN)]
            assert server.process.wait(10) == 0
            client.drop()
        with serving_process("--database", tmp_path / "broker.db") as server:
            client = server.connect("c")
            client.subscribe("w")
            assert client.payloads() == [str(number).encode()]
            client.drop()


def test_server_ends_when_its_parent_closes_standard_input() -> None:
    with serving_process() as server:
        server.process.communicate(timeout=10)
        assert server.process.returncode == 0


def test_full_disk_acknowledges_nothing_more_and_ends_the_server(tmp_path: Path) -> None:
    database = tmp_path / "broker.db"
    acknowledged = 0
    with serving_process("--database", database) as server:
        client = server.connect("c")
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            while client.publish(f"t/{acknowledged}", b"x" * 1000, 1, retain=True) == Reason.NO_MATCHING_SUBSCRIBERS:
                acknowledged += 1
        except (ClosedError, ConnectionError):
            pass
        _, complaint = server.process.communicate(timeout=10)
        assert server.process.returncode == 1
        assert b"error: " in complaint
        assert b"check the disk" in complaint
        client.drop()
    assert acknowledged > 0
    with serving_process("--database", database) as server:
        client = server.connect("c")
        client.subscribe("t/#")
        assert len(client.messages()) == acknowledged
        client.drop()


def test_bad_start_says_what_to_do_and_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic never a\n", encoding="utf-8")
    (tmp_path / "bad.db").write_bytes(b"this is no database" * 500)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = [
            (["--port", port], f"port {port} on 127.0.0.1 is taken"),
            (["--port", 0, "--websocket-port", port], f"port {port} on 127.0.0.1 is taken"),
            (["--port", 0, "--host", "0.0.0.0"], "give --passwords FILE"),
            (["--port", 0, "--acl", tmp_path / "acl"], "acl:1: "),
            (["--port", 0, "--passwords", tmp_path / "none"], "cannot be read"),
            (["--port", 0, "--database", tmp_path / "bad.db"], "bad.db: the database is corrupt"),
        ]
        for options, complaint in cases:
            done = _run(*options)
            assert done.returncode == 1, options
            assert complaint in done.stderr
            assert len(done.stderr.splitlines()) == 1, done.stderr
            assert done.stdout == ""


def test_ready_line_is_one_line_of_json() -> None:
    command = [sys.executable, "-m", "embedded_broker", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["listening"]["websocket"] is None
        process.terminate()
        assert process.stdout.read() == b""


def test_ten_thousand_messages_a_second_are_not_out_of_reach(server: ServerProcess) -> None:
    """A bound a loaded machine still meets; the benchmark has the figure."""
    client = Client(SocketChannel(server.port, Version.V311), Connect("fast", Version.V311))
    data = b"".join(encode(Publish("fast", b"x" * 100, 1, packet_id=n + 1), Version.V311) for n in range(10_000))
    assert isinstance(client.channel, SocketChannel)
    began = time.monotonic()
    client.channel.send_bytes(data)
    missing = 4 * 10_000
    while missing:
        missing -= len(client.channel.socket.recv(missing))
    assert time.monotonic() - began < 5
    client.drop()

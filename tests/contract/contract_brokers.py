"""Three brokers behind one Protocol: the core in virtual time, our server, and Debian's mosquitto."""

import base64
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Protocol

from embedded_broker.acl import parse_acl
from embedded_broker.codec import Parser, encode
from embedded_broker.core import Broker
from embedded_broker.outputs import Close, Output, Send
from embedded_broker.packets import NO_PROPERTIES, Connect, Packet, Properties, Version, Will
from embedded_broker.state import BrokerConfig
from tests.contract.contract_client import Channel, Client, ClosedError, SocketChannel

QUEUED_MAX = 10
INFLIGHT_MAX = 20
PACKET_SIZE_MAX_BYTES = 4096
STAY = Properties(session_expiry_seconds=300)
"""What an MQTT 5 client says beside ``clean_start=False`` so that its session outlives the connection."""
ADMIN = "admin"
PASSWORD = b"secret"
ACL = """
# everything, for the tests themselves
user admin
topic readwrite #
topic readwrite $own/#

user guest
topic read acl/public/#
topic write acl/inbox
topic readwrite acl/both/#
topic deny acl/both/secret

pattern write acl/of/%u/#
pattern read acl/for/%u
"""


class ContractBroker(Protocol):
    """A broker with the settings above, empty when the test session begins."""

    name: str

    def open(self, version: Version) -> Channel:
        """Open a connection."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""

    def drop_all(self) -> None:
        """Lose every connection that is open."""

    def stop(self) -> None:
        """Stop it."""


def connect(
    broker: ContractBroker,
    client_id: str,
    version: Version = Version.V5,
    *,
    clean_start: bool = True,
    user: str = ADMIN,
    will: Will | None = None,
    properties: Properties = NO_PROPERTIES,
) -> Client:
    """Connect a client."""
    packet = Connect(
        client_id,
        version,
        clean_start=clean_start,
        user=user,
        password=PASSWORD,
        will=will,
        properties=properties,
    )
    return Client(broker.open(version), packet)


class SimulatedBroker:
    """The core, driven directly; time passes when a test waits for something."""

    name = "simulated"

    def __init__(self) -> None:
        acl = parse_acl(ACL, source="ACL")
        config = BrokerConfig(
            queued_max=QUEUED_MAX, inflight_max=INFLIGHT_MAX, packet_size_max_bytes=PACKET_SIZE_MAX_BYTES
        )
        self.core = Broker(config, acl.authorizer())
        self.now = 0.0
        self._channels: list[_SimulatedChannel] = []

    def open(self, version: Version) -> "_SimulatedChannel":
        channel = _SimulatedChannel(self, len(self._channels), version)
        self._channels.append(channel)
        return channel

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.core.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.carry(self.core.tick(self.now))
        self.now = end

    def drop_all(self) -> None:
        for channel in self._channels:
            channel.drop()

    def stop(self) -> None:
        """Nothing runs."""

    def carry(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self._channels[output.connection].arrive(output.packet)
            elif isinstance(output, Close):
                self._channels[output.connection].is_closed = True


class _SimulatedChannel:
    def __init__(self, broker: SimulatedBroker, connection: int, version: Version) -> None:
        self._broker = broker
        self._version = version
        self._connection = connection
        self.arrived: deque[Packet] = deque()
        self.is_closed = False

    def arrive(self, packet: Packet) -> None:
        """Show the packet as it looks to a client of this version."""
        self.arrived.extend(Parser(self._version).feed(encode(packet, self._version)))

    def send(self, packet: Packet) -> None:
        core, now = self._broker.core, self._broker.now
        if isinstance(packet, Connect):
            self._broker.carry(core.connect(self._connection, packet, now))
        else:
            self._broker.carry(core.receive(self._connection, packet, now))

    def take(self, timeout_seconds: float) -> Packet:
        end = self._broker.now + timeout_seconds
        while not self.arrived:
            if self.is_closed:
                raise ClosedError
            due = self._broker.core.next_deadline()
            if due is None or due > end:
                raise TimeoutError
            self._broker.wait(max(0.0, due - self._broker.now))
        return self.arrived.popleft()

    def drop(self) -> None:
        self._broker.carry(self._broker.core.disconnected(self._connection, self._broker.now))


class _ProcessBroker:
    """A broker in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self._channels: list[SocketChannel] = []
        self.port = port

    def open(self, version: Version) -> SocketChannel:
        channel = SocketChannel(self.port, version)
        self._channels.append(channel)
        return channel

    def drop_all(self) -> None:
        for channel in self._channels:
            channel.drop()
        self._channels.clear()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)


class EmbeddedBroker(_ProcessBroker):
    """``python -m embedded_broker``, with a database."""

    name = "embedded"

    def __init__(self, folder: Path) -> None:
        options = {
            "--port": 0,
            "--acl": _written(folder / "acl", ACL),
            "--passwords": _written(folder / "passwords", _passwords()),
            "--database": folder / "broker.db",
            "--queued-max": QUEUED_MAX,
            "--inflight-max": INFLIGHT_MAX,
            "--packet-size-max-bytes": PACKET_SIZE_MAX_BYTES,
        }
        flags = [str(one) for pair in options.items() for one in pair]
        process = subprocess.Popen(
            [sys.executable, "-m", "embedded_broker", "--exit-with-parent", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        super().__init__(process, json.loads(process.stdout.readline())["listening"]["mqtt"])


class MosquittoBroker(_ProcessBroker):
    """Debian's mosquitto; not to have it is a failure of the test."""

    name = "mosquitto"

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        assert program is not None, "mosquitto is not installed: apt-get install mosquitto mosquitto-clients"
        port = _free_port()
        lines = [
            f"listener {port} 127.0.0.1",
            "user root",
            "allow_anonymous false",
            f"password_file {_written(folder / 'passwords', _passwords())}",
            f"acl_file {_written(folder / 'acl', ACL)}",
            f"max_queued_messages {QUEUED_MAX}",
            f"max_inflight_messages {INFLIGHT_MAX}",
            f"max_packet_size {PACKET_SIZE_MAX_BYTES}",
            "set_tcp_nodelay true",
            "log_type error",
        ]
        configuration = _written(folder / "mosquitto.conf", "\n".join(lines))
        super().__init__(subprocess.Popen([program, "-c", str(configuration)]), port)
        self._await_start()

    def _await_start(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "mosquitto has ended"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except ConnectionRefusedError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("mosquitto does not listen")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _written(path: Path, text: str) -> Path:
    path.write_text(text + "\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def _passwords() -> str:
    """One password file for both brokers, with few iterations so that mosquitto is not slowed down."""
    salt = b"0123456789ab"
    digest = hashlib.pbkdf2_hmac("sha512", PASSWORD, salt, 101)
    kept = f"$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
    return "\n".join(f"{user}:{kept}" for user in (ADMIN, "guest", "a/b"))

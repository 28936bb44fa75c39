"""A broker that can be killed and comes back on the same ports with what it had written down."""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from orchestrator.adapters.access import Access, create_access, find_broker_config
from orchestrator.adapters.brokers import _DEVICES, _TOOLS, Broker, _free_ports, _own_broker, localise

BrokerKind = Literal["mosquitto", "embedded"]
_START_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.005
_HOST: Final = "127.0.0.1"


@dataclass
class MortalBroker:
    """The process of a broker.

    Attributes:
        broker: How it is reached, whichever process it is.
    """

    broker: Broker
    _command: Sequence[str]
    _log: Path
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return when it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((_HOST, self.broker.device_port), timeout=1.0):
                return
            time.sleep(_POLL_SECONDS)
        raise AssertionError(f"the broker does not listen: {self._log.read_text(errors='replace')[-1000:]}")

    def kill(self) -> None:
        """A power cut for the broker."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


@contextmanager
def mortal_broker(
    folder: Path, kind: BrokerKind, devices: Sequence[str], operators: Sequence[str]
) -> Iterator[MortalBroker]:
    """Start a broker as ``broker-config`` has it, with these users; it ends with the block."""
    access = create_access(folder, operators=operators, devices=devices)
    made = _mosquitto(folder, access) if kind == "mosquitto" else _embedded(folder, access)
    made.start()
    try:
        yield made
    finally:
        made.kill()


def _mosquitto(folder: Path, access: Access) -> MortalBroker:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise SystemExit("mosquitto is not installed: apt install mosquitto")
    ports = _free_ports()
    configuration = folder / "mosquitto.conf"
    configuration.write_text(localise((find_broker_config() / "mosquitto.conf").read_text(), folder, access, ports))
    return MortalBroker(
        _own_broker(access, ports[_DEVICES], ports[_TOOLS]), [program, "-c", str(configuration)], folder / "broker.log"
    )


def _embedded(folder: Path, access: Access) -> MortalBroker:
    port = _free_ports()[_DEVICES]
    command = [
        *(sys.executable, "-m", "embedded_broker", "--host", _HOST, "--port", str(port), "--websocket-port", "0"),
        *("--database", str(folder / "broker.db"), "--acl", str(access.acl_file)),
        *("--passwords", str(access.password_file), "--exit-with-parent", "--queued-max", "100000"),
    ]
    return MortalBroker(_own_broker(access, port, port), command, folder / "broker.log")

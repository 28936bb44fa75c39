"""A mosquitto as ``tidegate broker-config --tls`` sets it up, on free ports of this machine."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.brokers import Broker
from orchestrator.adapters.connection import Connection, DisconnectedError
from orchestrator.adapters.tls import TlsFiles
from tests.device.device_world import free_port, until


@dataclass(frozen=True, slots=True)
class CertifiedBroker(Broker):
    """A broker whose users have certificates."""

    folder: Path = Path()
    process: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def url_for(self, user: str, *, is_device: bool = False) -> BrokerUrl:
        return self.address(self.files(user), is_device=is_device)

    def address(self, files: TlsFiles, *, is_device: bool = False, host: str = "localhost") -> BrokerUrl:
        return BrokerUrl.parse(f"mqtts://{host}:{self.device_port if is_device else self.url.port}", files)

    def files(self, user: str) -> TlsFiles:
        return files_of(self.folder, user)

    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text()

    def read_again(self) -> None:
        """Send SIGHUP and wait until it has taken effect."""
        before = self.log().count("Reloading config")
        self.process[0].send_signal(signal.SIGHUP)
        until(lambda: self.log().count("Reloading config") > before)


def files_of(folder: Path, user: str) -> TlsFiles:
    client = folder / "clients" / user
    return TlsFiles(client / "ca.crt", client / "client.crt", client / "client.key")


def configure(folder: Path, *arguments: str) -> str:
    """Run ``tidegate broker-config`` and return what it says."""
    command = [sys.executable, "-m", "orchestrator", "broker-config", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@contextmanager
def certified_mosquitto(folder: Path, *, operators: list[str], devices: list[str]) -> Iterator[CertifiedBroker]:
    device_port, tools_port = free_port(), free_port()
    named = [f"--operator={name}" for name in operators] + [f"--device={name}" for name in devices]
    ports = ["--device-port", str(device_port), "--tools-port", str(tools_port)]
    configure(folder, "--tls", "--host", "localhost", *named, *ports)
    with serving(folder, folder / "broker" / "mosquitto.conf", (device_port, tools_port)) as broker:
        yield broker


@contextmanager
def serving(folder: Path, conf: Path, ports: tuple[int, int]) -> Iterator[CertifiedBroker]:
    """Run a mosquitto on a configuration as it was written, for this machine alone and as us."""
    device_port, tools_port = ports
    # As root it would change its user, for whom the folder would have to be; and it need not be reached from elsewhere.
    conf.write_text(
        f"user {pwd.getpwuid(os.geteuid()).pw_name}\nlog_type information\n"
        + re.sub(r"^(listener \d+)$", r"\1 127.0.0.1", conf.read_text(), flags=re.MULTILINE)
    )
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program is not None, "apt install mosquitto"
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(conf)], stdout=log, stderr=log)
    try:
        until(lambda: "running" in (folder / "mosquitto.log").read_text() or process.poll() is not None)
        assert process.poll() is None, (folder / "mosquitto.log").read_text()
        url = BrokerUrl.parse(f"mqtts://localhost:{tools_port}", files_of(folder, "orchestrator"))
        yield CertifiedBroker(url, device_port, folder=folder, process=[process])
    finally:
        process.terminate()
        process.wait(10)


async def is_let_in(url: BrokerUrl) -> bool:
    """Say whether the broker takes a connection of whoever this is."""
    try:
        connection = await Connection.open(url, "stranger", ("t", b""), lambda *_: None, lambda: None)
    except DisconnectedError:
        return False
    connection.abort()
    return True

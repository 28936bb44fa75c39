"""The server as a process of its own, and raw clients of it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from embedded_broker.packets import NO_PROPERTIES, Connect, Properties, Version, Will
from tests.contract.contract_client import Client, SocketChannel


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server."""

    process: "subprocess.Popen[bytes]"
    port: int
    websocket_port: int | None

    def connect(
        self,
        client_id: str,
        version: Version = Version.V5,
        *,
        clean_start: bool = True,
        user: str | None = None,
        password: bytes | None = None,
        will: Will | None = None,
        properties: Properties = NO_PROPERTIES,
    ) -> Client:
        """Connect a raw client; the caller closes it with ``drop``."""
        packet = Connect(
            client_id,
            version,
            clean_start=clean_start,
            user=user,
            password=password,
            will=will,
            properties=properties,
        )
        channel = SocketChannel(self.port, version)
        try:
            return Client(channel, packet)
        except BaseException:
            channel.drop()
            raise

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=10)
        return self.process.returncode


@contextmanager
def serving_process(*options: object) -> Iterator[ServerProcess]:
    """Start a server on ports of the system's choice and kill it in the end."""
    command = [sys.executable, "-m", "embedded_broker", "--port", "0", "--exit-with-parent", *map(str, options)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line, f"the server did not start: {process.communicate()[1]!r}"
            ready = json.loads(line)
            assert ready["pid"] == process.pid
            yield ServerProcess(process, ready["listening"]["mqtt"], ready["listening"]["websocket"])
        finally:
            process.kill()

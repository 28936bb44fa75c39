"""What a broker is and where it comes from: one that is there, the embedded one, or a mosquitto of our own.

A broker that was named is the only one that is tried. The two that are started here listen on this machine only, let
in only the users of ``create_access``, and end with the program that started them.
"""

import contextlib
import json
import os
import pwd
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from orchestrator.adapters.access import Access, create_access, find_broker_config
from orchestrator.adapters.broker_url import BrokerUnavailableError, BrokerUrl, BrokerUrlError

_LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.02
_LOG_TAIL_BYTES: Final = 2000
_START_ATTEMPTS: Final = 3
_DEVICES, _TOOLS = "1883", "1884"  # listeners of broker-config/mosquitto.conf


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that can be connected to.

    Attributes:
        url: For the orchestrator.
        device_port: Where devices connect.
        websocket_port: For browsers, of the embedded broker.
        access: Its users, if we made them.
    """

    url: BrokerUrl
    device_port: int
    websocket_port: int | None = None
    access: Access | None = None

    def url_for(self, user: str, *, is_device: bool = False) -> BrokerUrl:
        """Return the address for ``user``; of a broker that is not ours it is the one that was given.

        Raises:
            BrokerUrlError: Not one of its users.
        """
        if self.access is None:
            return self.url
        password = self.access.passwords.get(user)
        if password is None:
            raise BrokerUrlError(f"broker {self.url}: {user!r} is none of its users; name it when it is started")
        port = self.device_port if is_device else self.url.port
        return replace(self.url, username=user, password=password, port=port)


@contextlib.contextmanager
def open_broker(
    url: str | None,
    folder: Path,
    *,
    kind: Literal["embedded", "mosquitto"] = "embedded",
    operators: Sequence[str] = ("operator",),
    devices: Sequence[str] = (),
) -> Iterator[Broker]:
    """Yield the broker at ``url``, or if that is None one that is started here and ends with the block.

    Args:
        url: The only broker that is tried if it is given.
        folder: Where a broker that is started keeps its files.
        kind: Which one to start.
        operators: People, for one that is started.
        devices: Ids of all devices, for one that is started.

    Raises:
        BrokerUrlError: ``url`` is none.
        BrokerUnavailableError: It does not answer or cannot be started.
        AccessError: Names or folder are not fit.
    """
    if url is not None:
        given = BrokerUrl.parse(url)
        check_reachable(given)
        yield Broker(given, device_port=given.port)
        return
    start = start_embedded if kind == "embedded" else start_mosquitto
    with start(folder, operators=operators, devices=devices) as broker:
        yield broker


def check_reachable(url: BrokerUrl, *, timeout_seconds: float = 5.0) -> None:
    """Return if somebody listens at ``url``.

    Raises:
        BrokerUnavailableError: Nobody does.
    """
    try:
        socket.create_connection((url.host, url.port), timeout=timeout_seconds).close()
    except OSError as error:
        raise BrokerUnavailableError(
            f"no broker answers at {url}: {error}; start it or correct --broker; without --broker the embedded one is "
            "started"
        ) from error


@contextlib.contextmanager
def start_embedded(
    folder: Path,
    *,
    operators: Iterable[str] = ("operator",),
    devices: Iterable[str] = (),
    evaluators: Iterable[str] = (),
    port: int = 0,
) -> Iterator[Broker]:
    """Start the embedded broker with its files in ``folder``, on a free port if ``port`` is 0; end it with the block.

    Raises:
        BrokerUnavailableError: It did not start.
        AccessError: Names or folder are not fit.
    """
    access = create_access(folder, operators=operators, devices=devices, evaluators=evaluators)
    command = [
        *(sys.executable, "-m", "embedded_broker", "--host", _LOOPBACK),
        *("--port", str(port), "--websocket-port", "0", "--database", str(folder / "broker.db")),
        *("--acl", str(access.acl_file), "--passwords", str(access.password_file), "--exit-with-parent"),
        # Retained documents wait here while somebody subscribes to them: several of each device of a fleet.
        *("--queued-max", "100000"),
    ]
    with _running(command, folder / "broker.log", announces=True) as process:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
        line = process.stdout.readline() if readable else b""
        try:
            listening: Mapping[str, int] = json.loads(line)["listening"]
            listener, websocket_port = int(listening["mqtt"]), int(listening["websocket"])
        except (ValueError, KeyError, TypeError) as error:
            raise BrokerUnavailableError(_explain("the embedded broker", folder / "broker.log", port)) from error
        yield _own_broker(access, listener, listener, websocket_port)


@contextlib.contextmanager
def start_mosquitto(
    folder: Path,
    *,
    operators: Iterable[str] = ("operator",),
    devices: Iterable[str] = (),
    evaluators: Iterable[str] = (),
) -> Iterator[Broker]:
    """Start a mosquitto with ``broker-config/mosquitto.conf`` on free ports of this machine; end it with the block.

    Call it from the main thread: Linux ends the broker with the thread that started it.

    Raises:
        BrokerUnavailableError: It is not installed or did not start.
        AccessError: Names or folder are not fit.
    """
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise BrokerUnavailableError(
            "mosquitto is not installed: `apt install mosquitto`, or leave it to the embedded broker"
        )
    access = create_access(folder, operators=operators, devices=devices, evaluators=evaluators)
    template = (find_broker_config() / "mosquitto.conf").read_text()
    for attempt in range(1, _START_ATTEMPTS + 1):
        ports = _free_ports()
        (folder / "mosquitto.conf").write_text(localise(template, folder, access, ports))
        command = [program, "-c", str(folder / "mosquitto.conf")]
        own = [sys.executable, "-m", "orchestrator.adapters.child", str(os.getpid()), *command]
        with _running(own, folder / "broker.log", announces=False) as process:
            if _await_listener(process, ports[_TOOLS]):
                yield _own_broker(access, ports[_DEVICES], ports[_TOOLS])
                return
        if attempt == _START_ATTEMPTS:  # until then another program may have taken a port meanwhile
            raise BrokerUnavailableError(_explain("mosquitto", folder / "broker.log", ports[_TOOLS]))


def localise(template: str, folder: Path, access: Access, ports: Mapping[str, int]) -> str:
    """Return ``template`` with the paths and ports of a broker of our own; every other setting stays as it is.

    The listener for browsers is left out: mosquitto 2.0 would open it to other machines, whatever address it is given.
    """
    paths = {
        "password_file": access.password_file,
        "acl_file": access.acl_file,
        "persistence_location": f"{folder}/",
    }

    def fill(line: re.Match[str]) -> str:
        setting, value = line.groups()
        return f"listener {ports[value]} {_LOOPBACK}" if setting == "listener" else f"{setting} {paths[setting]}"

    ours = re.sub(r"^listener \d+\nprotocol websockets\n", "", template, flags=re.MULTILINE)
    filled = re.sub(rf"^(listener|{'|'.join(paths)}) (.+)$", fill, ours, flags=re.MULTILINE)
    # Started as root it would change its user, and then read nothing in our folder.
    return f"user {pwd.getpwuid(os.geteuid()).pw_name}\n{filled}"


def _own_broker(access: Access, device_port: int, port: int, websocket_port: int | None = None) -> Broker:
    url = BrokerUrl(_LOOPBACK, port, username="orchestrator", password=access.passwords["orchestrator"])
    return Broker(url, device_port, websocket_port, access)


def _free_ports() -> dict[str, int]:
    """Return a free port for each of the two listeners."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((_LOOPBACK, 0))) for _ in range(2)]
        return dict(zip((_DEVICES, _TOOLS), (s.getsockname()[1] for s in sockets), strict=True))


def _await_listener(process: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((_LOOPBACK, port), timeout=1.0):
            return True
        time.sleep(_POLL_SECONDS)
    return False


@contextlib.contextmanager
def _running(command: Sequence[str], log_path: Path, *, announces: bool) -> Iterator["subprocess.Popen[bytes]"]:
    """Run ``command`` apart from the terminal's signals, until the block ends.

    Its output goes to the log, or if it ``announces`` itself to a pipe, for one line: an unread pipe would block it.
    """
    with (
        log_path.open("wb") as log,
        subprocess.Popen(  # noqa: S603 - a fixed program, its arguments are passed one by one
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if announces else log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _explain(program: str, log_path: Path, port: int) -> str:
    tail = log_path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip().splitlines()[-3:]
    said = " / ".join(tail) or "it said nothing"
    return (
        f"{program} did not start: {said}; see {log_path}. If port {port} is taken, use the broker that is there with "
        "--broker mqtt://..."
    )

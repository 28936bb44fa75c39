import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from device_client.adapters.boot import boot_id, boot_seconds
from device_client.adapters.heartbeat import Beat, read_beat, write_beat
from device_client.adapters.processes import identify
from device_client.adapters.service import BEAT_SECONDS, Service
from device_client.agent import Agent, Inbox
from device_client.core.device import Device
from device_client.core.events import ApplicationExited, Facts
from device_client.core.record import Record
from tests.device.device_world import AgentProcess


class Listener:
    """What systemd is to a service: a datagram socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(20)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def hear(self) -> str:
        return self.socket.recv(4096).decode()

    def hear_all(self) -> list[str]:
        """Return what has been said so far."""
        heard = []
        self.socket.settimeout(0)
        while True:
            try:
                heard.append(self.hear())
            except BlockingIOError:
                return heard


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    made = Listener(str(tmp_path / "notify") if request.param == "path" else f"@tidegate-test-{os.getpid()}")
    yield made
    made.socket.close()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_service_says_what_systemd_understands(listener: Listener, tmp_path: Path) -> None:
    clock = Clock()
    service = Service(tmp_path, "boot-1", clock, {"NOTIFY_SOCKET": listener.address})

    service.starting()
    service.ready()
    service.progressed("idle, 1.0.0 serves")
    service.stopping()

    assert listener.hear_all() == [
        "STATUS=reading the slots", "READY=1", "STATUS=idle, 1.0.0 serves", "WATCHDOG=1", "STOPPING=1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("watchdog", "seconds"), [("3000000", 1.0), ("600000000", BEAT_SECONDS), ("", BEAT_SECONDS), ("x", BEAT_SECONDS)]
)
def test_signs_of_life_come_as_often_as_systemd_wants_and_no_oftener(
    listener: Listener, tmp_path: Path, watchdog: str, seconds: float
) -> None:
    clock = Clock()
    service = Service(tmp_path, "boot-1", clock, {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": watchdog})
    beats = []
    for _ in range(17):
        service.progressed("idle")
        beats.append(read_beat(tmp_path))
        clock.now += seconds / 8

    assert listener.hear_all().count("WATCHDOG=1") == 3 == len(set(beats))


def test_heartbeat_is_on_the_boot_clock_and_says_whose_it_is(tmp_path: Path) -> None:
    write_beat(tmp_path, "boot-1", 12.123456789, is_starting=False)
    write_beat(tmp_path, "boot-1", 12.5, is_starting=True)

    me = identify(os.getpid())
    assert me is not None
    assert read_beat(tmp_path) == Beat("boot-1", 12.5, is_starting=True, pid=me.pid, started_ticks=me.started_ticks)


def test_boot_clock_counts_from_the_boot_and_knows_no_dates() -> None:
    thirty_years_seconds = 30 * 365 * 86400

    assert time.monotonic() <= boot_seconds() + 1
    assert boot_seconds() < thirty_years_seconds < time.time()  # noqa: TID251 - shown to be another clock


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-listens", "vsock:2:1"])
def test_nobody_who_listens_is_no_reason_to_end(tmp_path: Path, address: str) -> None:
    service = Service(tmp_path / "missing", "boot-1", Clock(), {"NOTIFY_SOCKET": address})

    service.starting()
    service.progressed("idle")
    service.stopping()


def test_turn_that_does_not_end_is_no_sign_of_life(listener: Listener, tmp_path: Path) -> None:
    class Stuck(Agent):
        def __init__(self) -> None:
            self.device = Device("pi-1")
            self._clock = Clock()
            self._inbox = Inbox()
            self._service = Service(tmp_path, "boot-1", self._clock, {"NOTIFY_SOCKET": listener.address})

        def handle(self, event: object) -> None:
            raise InterruptedError

    agent = Stuck()
    agent._inbox.post(ApplicationExited())

    with pytest.raises(InterruptedError):
        agent.turn()

    assert (listener.hear_all(), read_beat(tmp_path)) == ([], None)


def test_no_thread_gives_signs_of_life_in_place_of_a_loop_that_hangs(listener: Listener, tmp_path: Path) -> None:
    class Hanging(Agent):
        def __init__(self) -> None:
            nobody = SimpleNamespace(start=lambda: None, end=lambda: None, stop=lambda: None)
            self._observer = self._bus = self._applications = nobody  # type: ignore[assignment]
            self._peer_server = self._media_watch = None
            self.device = Device("pi-1")
            self._service = Service(tmp_path, "boot-1", Clock(), {"NOTIFY_SOCKET": listener.address})
            self._is_ending = False

        def handle(self, event: object) -> None:
            pass

        def _watch(self) -> None:
            pass

        def turn(self) -> None:
            time.sleep(0.5)
            self.end()

    Hanging().run(Record(), Facts("boot-1", None, {}))

    assert (listener.hear_all(), read_beat(tmp_path)) == (["READY=1", "STOPPING=1"], None)


def test_real_agent_is_ready_gives_signs_of_life_and_says_goodbye(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    agent = AgentProcess(tmp_path, "mqtt://127.0.0.1:1")
    agent.start()
    try:
        expected = ["STATUS=reading the slots", "READY=1", "STATUS=idle, nothing serves", "WATCHDOG=1", "WATCHDOG=1"]
        assert [listener.hear() for _ in expected] == expected
        beat = read_beat(agent.root / "state")
        assert beat is not None
        assert agent.process is not None
        assert (beat.boot_id, beat.is_starting, beat.pid) == (boot_id(), False, agent.process.pid)

        assert agent.stop() == 0
        assert listener.hear_all()[-1] == "STOPPING=1"
    finally:
        agent.close()

"""A device's connection with certificates: files count as they are when it connects, and may become good again."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from device_client.adapters.mqtt import Broker, Bus
from device_client.adapters.tls import Tls, TlsFilesError
from device_client.adapters.trust import PinnedKeys
from device_client.core.events import Connected, Event
from device_client.settings import load_settings
from device_client.status import status_of, status_text
from embedded_broker.packets import Suback, Subscribe
from orchestrator.adapters import broker_folder
from orchestrator.adapters.broker_folder import Users
from schemas.topics import TopicTree
from tests.device.device_world import QUICK_APPLICATION, AgentProcess, make_release, until
from tests.device.test_device_units import install
from tests.shell.scripted_broker import Peer, scripted

NOW = datetime.now(UTC)  # noqa: TID251 - certificates are checked against the machine's clock
DEVICE = "pi-1"
Spoil = Callable[[Path], object]


def make_fleet(folder: Path) -> Path:
    users = Users(devices=(DEVICE, "pi-2"), hosts=("127.0.0.1",), is_tls=True, place="/x")
    broker_folder.create(folder, users, NOW)
    return folder


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    return make_fleet(tmp_path / "access")


def client_of(fleet: Path, device: str = DEVICE) -> Path:
    return fleet / "clients" / device


def tls_of(fleet: Path) -> Tls:
    client = client_of(fleet)
    return Tls(str(client / "ca.crt"), str(client / "client.crt"), str(client / "client.key"))


def serial_of(fleet: Path) -> str:
    """Return the serial number as Python's ``ssl`` writes it."""
    number = x509.load_pem_x509_certificate((client_of(fleet) / "client.crt").read_bytes()).serial_number
    text = f"{number:X}"
    return text.zfill(len(text) + len(text) % 2)


class Listener:
    """A broker for one device: notes whose certificate comes, and holds a connection until it is told to cut it."""

    def __init__(self, port: int, serials: "asyncio.Queue[str]", cut: asyncio.Event) -> None:
        self.port = port
        self.serials = serials
        self.cut = cut

    async def serial(self) -> str:
        return await asyncio.wait_for(self.serials.get(), 20)


@asynccontextmanager
async def listening(fleet: Path) -> AsyncIterator[Listener]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(fleet / "broker" / "server.crt", fleet / "broker" / "server.key")
    context.load_verify_locations(fleet / "broker" / "devices-ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    serials: asyncio.Queue[str] = asyncio.Queue()
    cut = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        packet = await peer.hear()
        assert isinstance(packet, Subscribe)
        await peer.say(Suback(packet.packet_id, tuple(0 for _ in packet.subscriptions)))
        serials.put_nowait(peer.serial())
        await cut.wait()
        cut.clear()

    async with scripted(script, tls=context) as url:
        yield Listener(url.port, serials, cut)
        cut.set()


@contextmanager
def connecting(port: int, tls: Tls) -> Iterator[list[Event]]:
    """A device's bus that tries to hold a session; gives what it tells the agent."""
    events: list[Event] = []
    bus = Bus(
        Broker("127.0.0.1", port, None, None, tls), TopicTree(), DEVICE,
        trust=PinnedKeys((), ()), clock=lambda: 0.0, post=events.append,
    )  # fmt: skip
    bus.start()
    try:
        yield events
    finally:
        bus.end()


async def test_a_renewed_certificate_is_shown_with_the_next_connection(fleet: Path) -> None:
    async with listening(fleet) as broker:
        with connecting(broker.port, tls_of(fleet)) as events:
            before = serial_of(fleet)
            assert await broker.serial() == before

            broker_folder.renew(fleet, broker_folder.load(fleet), [DEVICE], NOW)
            broker.cut.set()

            renewed = await broker.serial()
            assert (renewed == serial_of(fleet), renewed != before) == (True, True)
            await asyncio.to_thread(until, lambda: events.count(Connected()) == 2)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # paho drops the socket when nobody vouches for a broker
async def test_another_authority_counts_with_the_next_connection_and_the_old_one_no_more(
    fleet: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = make_fleet(tmp_path / "foreign")
    tls = tls_of(foreign)
    authority = client_of(foreign) / "ca.crt"
    async with listening(foreign) as broker:
        with connecting(broker.port, tls):
            await broker.serial()
            good = authority.read_bytes()
            authority.write_bytes((client_of(fleet) / "ca.crt").read_bytes())
            broker.cut.set()
            await asyncio.to_thread(until, lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
            caplog.clear()  # the error that was logged holds that socket
            authority.write_bytes(good)
            await broker.serial()


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:150])


def emptied(path: Path) -> None:
    path.write_bytes(bytes(200))


def of_another_device(path: Path) -> None:
    path.write_bytes((path.parents[1] / "pi-2" / path.name).read_bytes())


def encrypted(path: Path) -> None:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
    )


SPOILT = [
    ("ca.crt", "ca_file", Path.unlink, "No such file or directory; correct the path"),
    ("ca.crt", "ca_file", torn, "no certificates in PEM"),
    ("ca.crt", "ca_file", emptied, "no certificates in PEM"),
    ("client.crt", "certificate_file", Path.unlink, "No such file or directory; correct the path"),
    ("client.crt", "certificate_file", torn, "no certificates in PEM"),
    ("client.crt", "certificate_file", emptied, "no certificates in PEM"),
    ("client.key", "private_key_file", Path.unlink, "No such file or directory; correct the path"),
    ("client.key", "private_key_file", torn, "no private key in PEM"),
    ("client.key", "private_key_file", of_another_device, "was only one of them renewed?"),
    ("client.key", "private_key_file", encrypted, "it is encrypted"),
]


@pytest.mark.parametrize(("name", "key", "spoil", "why"), SPOILT)
def test_a_file_that_cannot_be_used_is_named_with_its_key_and_what_is_wrong(
    fleet: Path, name: str, key: str, spoil: Spoil, why: str
) -> None:
    tls = tls_of(fleet)
    assert tls.problem() is None
    path = client_of(fleet) / name

    spoil(path)

    with pytest.raises(TlsFilesError) as caught:
        tls.context()
    told = str(caught.value)
    assert told.startswith(f"key '{key}': {path}: ")
    assert why in told
    assert tls.problem() == told


async def test_a_device_whose_files_are_torn_goes_on_trying_and_says_why_each_time(
    fleet: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = client_of(fleet) / "client.crt"
    good = path.read_bytes()
    torn(path)
    async with listening(fleet) as broker:
        with connecting(broker.port, tls_of(fleet)):
            said = f"broker 127.0.0.1:{broker.port}: key 'certificate_file': {path}: no certificates in PEM"
            await asyncio.to_thread(until, lambda: caplog.text.count(said) >= 2)
            path.write_bytes(good)

            assert await broker.serial() == serial_of(fleet)


def agent_of(fleet: Path, folder: Path, port: int) -> AgentProcess:
    client = client_of(fleet)
    return AgentProcess(
        folder, f"mqtts://127.0.0.1:{port}", ca_file=str(client / "ca.crt"),
        certificate_file=str(client / "client.crt"), private_key_file=str(client / "client.key"),
    )  # fmt: skip


def provision(agent: AgentProcess, folder: Path) -> None:
    built = make_release(folder, "1.0.0", application=QUICK_APPLICATION)
    (folder / "manifest").write_bytes(built.envelope)
    (folder / "artifact").write_bytes(built.artifact)
    command = [
        sys.executable, "-m", "device_client", "provision", "--config", str(agent.config),
        "--manifest", str(folder / "manifest"), "--artifact", str(folder / "artifact"),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=60)


async def test_an_agent_whose_certificate_a_power_cut_has_torn_runs_its_application_and_connects_once_it_is_whole(
    fleet: Path, tmp_path: Path
) -> None:
    path = client_of(fleet) / "client.crt"
    good = path.read_bytes()
    async with listening(fleet) as broker:
        agent = agent_of(fleet, tmp_path, broker.port)
        try:
            await asyncio.to_thread(provision, agent, tmp_path)
            torn(path)
            agent.start()
            assert (await asyncio.to_thread(until, agent.ask))["version"] == "1.0.0"
            said = f"ERROR device_client.adapters.mqtt broker 127.0.0.1:{broker.port}: key 'certificate_file': {path}: "
            await asyncio.to_thread(until, lambda: said in agent.log.read_text())

            path.write_bytes(good)

            assert await broker.serial() == serial_of(fleet)
        finally:
            await asyncio.to_thread(agent.close)


def test_a_mistyped_path_is_told_to_who_installs_the_service_and_to_who_asks_for_the_status(
    fleet: Path, tmp_path: Path
) -> None:
    agent = agent_of(fleet, tmp_path, 1)
    path = client_of(fleet) / "ca.crt"
    assert "key 'ca_file'" not in install(agent.config, tmp_path).stdout
    assert "PROBLEM" not in status_text(status_of(load_settings(agent.config), 0.0))

    path.rename(path.with_suffix(".pem"))

    installed = install(agent.config, tmp_path)
    told = f"key 'ca_file': {path}: No such file or directory; correct the path"
    assert (installed.returncode, f"{agent.config}: {told}" in installed.stdout) == (0, True)
    status = status_of(load_settings(agent.config), 0.0)
    assert status["broker"]["problem"].startswith(told)
    assert f"PROBLEM   no connection to the broker: {told}" in status_text(status)

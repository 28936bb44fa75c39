"""Connections with certificates, to a broker that does as it is told: what is cut, what is large, who is refused."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedded_broker.codec import encode
from embedded_broker.packets import Publish, Suback, Subscribe, Version
from orchestrator.adapters import broker_folder
from orchestrator.adapters.broker_folder import Users
from orchestrator.adapters.broker_url import BrokerUrl, BrokerUrlError
from orchestrator.adapters.connection import Connection, DisconnectedError
from orchestrator.adapters.fleet_stream import FleetStream
from orchestrator.adapters.framing import Framed
from orchestrator.adapters.tls import TlsFiles, TlsFilesError
from schemas.topics import TopicTree
from tests.shell.scripted_broker import Peer, scripted

NOW = datetime.now(UTC)  # noqa: TID251 - certificates are checked against the machine's clock


def make_fleet(folder: Path, *hosts: str) -> Path:
    users = Users(operators=("alice",), hosts=hosts or ("127.0.0.1",), is_tls=True, place="/x")
    broker_folder.create(folder, users, NOW)
    return folder


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fleet(tmp_path_factory.mktemp("fleet") / "access")


def server(fleet: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(fleet / "broker" / "server.crt", fleet / "broker" / "server.key")
    context.load_verify_locations(fleet / "broker" / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def files(fleet: Path, user: str = "orchestrator") -> TlsFiles:
    client = fleet / "clients" / user
    return TlsFiles(client / "ca.crt", client / "client.crt", client / "client.key")


async def listening(peer: Peer) -> None:
    await peer.welcome()
    packet = await peer.hear()
    assert isinstance(packet, Subscribe)
    await peer.say(Suback(packet.packet_id, (0,)))


async def read(fleet: Path, data: bytes, *, record_bytes: int, count: int) -> list[tuple[str, bytes]]:
    """Let a stream read ``data`` that comes in records of some size, until it has so many messages."""
    found: list[tuple[str, bytes]] = []
    is_all = asyncio.Event()

    async def script(peer: Peer) -> None:
        await listening(peer)
        for at in range(0, len(data), record_bytes):
            await peer.say(data[at : at + record_bytes])
        await is_all.wait()

    def take(framed: Framed) -> None:
        found.extend(zip(framed.devices, framed.payloads, strict=True))
        if len(found) >= count:
            is_all.set()

    async with scripted(script, tls=server(fleet), files=files(fleet)) as url:
        reading = asyncio.create_task(FleetStream(url, TopicTree(), take).run())
        try:
            await asyncio.wait_for(is_all.wait(), 20)
        finally:
            is_all.set()
            reading.cancel()
            await asyncio.wait([reading])
    return found


def messages(count: int, size_bytes: int) -> bytes:
    return b"".join(
        encode(Publish(f"fleet/v1/health/07/d{number}", b"%0*d" % (size_bytes, number)), Version.V5)
        for number in range(count)
    )


@pytest.mark.parametrize("record_bytes", [1, 37, 16_384, 16_385])
async def test_health_comes_out_in_its_order_however_the_records_are_cut(fleet: Path, record_bytes: int) -> None:
    count = 60 if record_bytes < 100 else 3000

    found = await read(fleet, messages(count, 12), record_bytes=record_bytes, count=count)

    assert found == [(f"d{number}", b"%012d" % number) for number in range(count)]


async def test_health_that_is_more_than_the_buffer_holds_comes_out_whole(fleet: Path) -> None:
    data = messages(300, 60_000)
    assert len(data) > 8 * (1 << 20)

    found = await read(fleet, data, record_bytes=1 << 20, count=300)

    assert [device for device, _ in found] == [f"d{number}" for number in range(300)]
    assert {len(payload) for _, payload in found} == {60_000}


async def test_who_is_not_named_is_whoever_stands_in_the_certificate(fleet: Path) -> None:
    assert BrokerUrl.parse("mqtts://broker", files(fleet, "alice")).username == "alice"
    assert BrokerUrl.parse("mqtts://bob@broker", files(fleet, "alice")).username == "bob"


async def connect(url: BrokerUrl) -> None:
    connection = await Connection.open(url, "c", ("t", b""), lambda *_: None, lambda: None)
    connection.abort()


async def test_a_broker_is_refused_that_another_authority_vouches_for_or_that_has_another_name(
    fleet: Path, tmp_path: Path
) -> None:
    foreign, elsewhere = make_fleet(tmp_path / "foreign"), make_fleet(tmp_path / "elsewhere", "broker.example")

    async def script(peer: Peer) -> None:
        await peer.welcome()

    for its, why in (
        (foreign, "self-signed certificate|unable to get local issuer"),
        (elsewhere, "IP address mismatch"),
    ):
        known = files(fleet) if its is foreign else files(elsewhere)
        async with scripted(script, tls=server(its), files=known) as url:
            with pytest.raises(DisconnectedError, match=why):
                await connect(url)


async def test_a_broker_without_tls_is_no_broker(fleet: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(b"\x20\x02\x00\x00")

    async with scripted(script) as plain:
        url = BrokerUrl.parse(f"mqtts://127.0.0.1:{plain.port}", files(fleet))
        with pytest.raises(DisconnectedError):
            await connect(url)


async def test_files_that_cannot_be_used_are_named_and_their_content_is_not(fleet: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("-----BEGIN PRIVATE KEY-----\nhunter2\n")
    client = files(fleet)
    for given, named in (
        (TlsFiles(tmp_path / "none.crt"), "none.crt: No such file"),
        (TlsFiles(junk), "junk.pem: .*no certificates"),
        (TlsFiles(None, client.certificate_file, junk), "junk.pem: .*no certificate with its key"),
        (TlsFiles(None, client.certificate_file, files(fleet, "alice").private_key_file), "client.key: "),
    ):
        with pytest.raises(TlsFilesError, match=named) as caught:
            given.context()
        assert "hunter2" not in str(caught.value)
    with pytest.raises(TlsFilesError, match="belong together"):
        TlsFiles(None, client.certificate_file)
    with pytest.raises(TlsFilesError, match=r"junk\.pem: no certificate in PEM"):
        BrokerUrl.parse("mqtts://broker", TlsFiles(None, junk, junk))
    with pytest.raises(BrokerUrlError, match="certificates are for TLS; write mqtts://broker"):
        BrokerUrl.parse("mqtt://broker", client)


async def test_renewed_files_are_taken_in_with_the_next_connection(fleet: Path, tmp_path: Path) -> None:
    own = make_fleet(tmp_path / "own")
    users = broker_folder.load(own)
    before = files(own).certificate_file
    assert before is not None
    first = before.read_bytes()

    async def script(peer: Peer) -> None:
        await peer.welcome()

    async with scripted(script, tls=server(own), files=files(own)) as url:
        await connect(url)
        broker_folder.renew(own, users, ["orchestrator"], NOW)
        await connect(url)
    assert before.read_bytes() != first


@pytest.mark.parametrize("name", ["ca.key", "devices-ca.key"])
def test_secrets_are_for_their_owner_only(fleet: Path, name: str) -> None:
    assert (fleet / "authority" / name).stat().st_mode & 0o777 == 0o600
    keys = list(fleet.rglob("*.key"))
    assert keys
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in keys)

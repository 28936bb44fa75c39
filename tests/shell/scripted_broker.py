"""A broker that does as it is told."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from embedded_broker.codec import Parser, encode
from embedded_broker.packets import Connack, Connect, Packet, Pingreq, Properties, Version
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.tls import TlsFiles

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The broker's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._parser = Parser()
        self.version = Version.V5
        self._heard: list[Packet] = []

    async def hear(self) -> Packet:
        while not self._heard:
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionResetError
            self._heard += [each for each in self._parser.feed(data) if not isinstance(each, Pingreq)]
        return self._heard.pop(0)

    async def say(self, *what: Packet | bytes) -> None:
        self._writer.write(b"".join(x if isinstance(x, bytes) else encode(x, self.version) for x in what))
        await self._writer.drain()

    def serial(self) -> str:
        """Return the serial number of the certificate that the client has shown."""
        certificate = self._writer.get_extra_info("peercert")
        assert certificate, "it has shown none"
        return str(certificate["serialNumber"])

    async def welcome(self, properties: Properties | None = None) -> None:
        hello = await self.hear()
        assert isinstance(hello, Connect)
        self.version = hello.version
        await self.say(Connack(properties=properties or Properties()))


@asynccontextmanager
async def scripted(
    script: Script,
    *,
    tls: ssl.SSLContext | None = None,
    files: TlsFiles = TlsFiles(),  # noqa: B008 - frozen
) -> AsyncIterator[BrokerUrl]:
    """A broker that does as it is told, and then closes the connection; with ``tls`` for a client with ``files``."""
    failed: list[BaseException] = []
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(Peer(reader, writer))
        except ConnectionError:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failed.append(error)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    address = f"me:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield BrokerUrl.parse(f"mqtts://{address}" if tls else f"mqtt://{address}", files)
    finally:
        server.close()
        if serving:
            await asyncio.wait(serving, timeout=10)
    if failed:
        raise failed[0]

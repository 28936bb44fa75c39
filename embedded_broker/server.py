"""The listeners, TCP and WebSocket, and the life of the server around one hub."""

import asyncio
import errno
import ipaddress
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from embedded_broker.core import Broker
from embedded_broker.errors import ConfigurationError, StoreError
from embedded_broker.hub import Hub, HubLimits, Peer
from embedded_broker.passwords import Passwords
from embedded_broker.state import EMPTY_STATE, Authorizer, BrokerConfig, allow_all
from embedded_broker.store import Store

_LOCAL_ORIGINS: Final = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What a server is started with.

    Attributes:
        port: 0 lets the system choose; ``websocket_port`` likewise, and ``None`` is no WebSocket.
        database: ``None`` keeps everything in memory.
        passwords: ``None`` lets everybody in and believes the user name they give; on loopback only.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    websocket_port: int | None = None
    database: Path | None = None
    passwords: Passwords | None = None
    authorize: Authorizer = allow_all
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    limits: HubLimits = field(default_factory=HubLimits)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a server listens, and how it takes other passwords and another ACL while it runs.

    Attributes:
        admit: Takes them, ends connections whose password is gone or another, and returns how many those were.
    """

    port: int
    websocket_port: int | None
    admit: Callable[[Passwords | None, Authorizer], int]


class _TcpWire(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._peer: Peer | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # asyncio sets TCP_NODELAY itself
        self._peer = self._hub.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._peer is not None:
            self._hub.received(self._peer, data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # why it was lost makes no difference
        if self._peer is not None:
            self._hub.lost(self._peer)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def hold(self, *, is_held: bool) -> None:
        if self._transport.is_closing():
            return
        if is_held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


class _WebSocketWire:
    """One WebSocket connection: what was written in one turn goes out as one frame."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._unsent = bytearray()
        self._has_work = asyncio.Event()
        self._is_closing = False
        self._may_read = asyncio.Event()
        self._may_read.set()

    async def run(self, hub: Hub) -> None:
        """Carry the connection until it ends."""
        peer = hub.opened(self)
        if peer is None:
            return
        writer = asyncio.create_task(self._write_on())
        try:
            async for message in self._connection:
                if isinstance(message, str):
                    break  # MQTT is binary
                await self._may_read.wait()
                hub.received(peer, message)
        except ConnectionClosed:
            pass
        finally:
            hub.lost(peer)
            self.close()
            await writer

    async def _write_on(self) -> None:
        try:
            while not (self._is_closing and not self._unsent):
                await self._has_work.wait()
                self._has_work.clear()
                data = bytes(self._unsent)
                if data:
                    await self._connection.send(data)
                    del self._unsent[: len(data)]
        except ConnectionClosed:
            return
        await self._connection.close()

    def write(self, data: bytes) -> None:
        self._unsent += data
        self._has_work.set()

    def unsent_bytes(self) -> int:
        return len(self._unsent)

    def close(self) -> None:
        self._is_closing = True
        self._has_work.set()

    def abort(self) -> None:
        self._connection.transport.abort()

    def hold(self, *, is_held: bool) -> None:
        if is_held:
            self._may_read.clear()
        else:
            self._may_read.set()


@asynccontextmanager
async def serving(config: ServerConfig, failed: asyncio.Future[StoreError]) -> AsyncIterator[Listening]:
    """Serve while the context is open.

    Args:
        config: What to serve and where.
        failed: Gets the error if changes cannot be stored any more; leave the context then.

    Raises:
        ConfigurationError: The host is not loopback and there are no passwords, or a port is taken.
        StoreError: The database cannot be used.
    """
    if config.passwords is None and not _is_loopback(config.host):
        raise ConfigurationError(
            f"host {config.host} can be reached by others and there are no passwords; give --passwords FILE, "
            "or listen on 127.0.0.1"
        )
    async with AsyncExitStack() as stack:
        store = None if config.database is None else Store(config.database)
        if store is not None:
            stack.callback(store.close)
        hub = _hub(config, store, failed)
        loop = asyncio.get_running_loop()
        websocket_port = None
        if config.websocket_port is not None:
            with _explained(config.host, config.websocket_port):
                websocket = await stack.enter_async_context(_websocket(config, hub))
            websocket_port = websocket.sockets[0].getsockname()[1]
        # What is pushed last happens first: stop listening, stop the hub, stop WebSocket, close the store.
        stack.push_async_callback(hub.stop)
        with _explained(config.host, config.port):
            server = await loop.create_server(lambda: _TcpWire(hub), config.host, config.port, backlog=1024)
        stack.callback(server.close)
        yield Listening(server.sockets[0].getsockname()[1], websocket_port, hub.admit)


def _hub(config: ServerConfig, store: Store | None, failed: asyncio.Future[StoreError]) -> Hub:
    # Wall time, since deadlines outlive the process, but only its start: the clock may not jump while we run.
    offset_seconds = time.time() - time.monotonic()  # noqa: TID251 - the shell's one clock
    clock = partial(_now, offset_seconds)
    own_max = None if config.passwords is None else config.broker.sessions_per_user_max  # Names prove nothing there.
    settings = replace(config.broker, is_durable=store is not None, sessions_per_user_max=own_max)
    state = EMPTY_STATE if store is None else store.load()
    broker = Broker.restore(settings, state, clock(), config.authorize)
    return Hub(
        broker,
        store=store,
        passwords=config.passwords,
        packet_size_max_bytes=settings.packet_size_max_bytes,
        limits=config.limits,
        clock=clock,
        on_failure=failed.set_result,
    )


def _now(offset_seconds: float) -> float:
    return time.monotonic() + offset_seconds


def _websocket(config: ServerConfig, hub: Hub) -> AbstractAsyncContextManager[Server]:
    return serve(
        lambda connection: _WebSocketWire(connection).run(hub),
        config.host,
        config.websocket_port,
        subprotocols=[Subprotocol("mqtt")],
        # A page of any site may open a WebSocket to loopback; without passwords only local pages may.
        origins=[None, _LOCAL_ORIGINS] if config.passwords is None else None,
        compression=None,
        max_size=config.broker.packet_size_max_bytes,
        ping_interval=None,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _explained(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"port {port} on {host} is taken; stop what listens there or choose another, 0 is any free one"
            ) from error
        raise ConfigurationError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another") from error

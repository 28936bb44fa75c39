"""A piece server of the product in a thread, beside a real broker."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.piece_server import PieceServer
from schemas.topics import TopicTree


@contextmanager
def giving(folder: Path, broker: BrokerUrl, *, bytes_per_second: int = 100_000_000) -> Iterator[PieceServer]:
    """Run a piece server until the block ends."""
    server = PieceServer(folder, broker, TopicTree(), bytes_per_second=bytes_per_second)
    has_begun = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def serve() -> None:
        task = asyncio.create_task(server.run(has_begun.set))
        running.append((asyncio.get_running_loop(), task))
        await asyncio.wait([task])

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert has_begun.wait(20)
        yield server
    finally:
        (loop, task) = running[0]
        loop.call_soon_threadsafe(task.cancel)
        thread.join()

"""Load on the demo's applications: pairs of requests at once to every device, as their users would send them."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

PAIR_INTERVAL_SECONDS: Final = 0.25
_TIMEOUT_SECONDS: Final = 5.0
_REQUEST: Final = b"GET /measure HTTP/1.1\r\nHost: device\r\nConnection: close\r\n\r\n"


async def drive(ports: Sequence[int]) -> None:
    """Ask every application twice at once, again and again, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for number, port in enumerate(ports):
            tasks.create_task(_drive_one(port, delay_seconds=number * PAIR_INTERVAL_SECONDS / len(ports)))


async def _drive_one(port: int, *, delay_seconds: float) -> None:
    await asyncio.sleep(delay_seconds)
    while True:
        pair = asyncio.gather(_ask(port), _ask(port))
        await asyncio.gather(pair, asyncio.sleep(PAIR_INTERVAL_SECONDS))


async def _ask(port: int) -> None:
    """Send one request; what the application answers, it counts itself."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(_REQUEST)
                await reader.read()
            finally:
                writer.close()

"""SIGINT and SIGTERM end a process the gentle way."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

_PATIENCE_SECONDS: Final = 15.0


async def until_signalled(work: Coroutine[Any, Any, T]) -> T | None:
    """Await ``work``, or cancel it at the first signal; None if it was cancelled.

    A task may swallow a cancellation that arrives together with what it waits for (asyncio.wait_for, Python 3.11), so
    it is cancelled again if it does not end within some seconds.
    """
    task, signalled = asyncio.ensure_future(work), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    waiting = asyncio.ensure_future(signalled.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_PATIENCE_SECONDS)
    return None if task.cancelled() else task.result()

"""A server of the product beside the test, in a thread with a loop of its own."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager


@contextmanager
def in_a_thread(serve: Callable[[], AbstractAsyncContextManager[str]]) -> Iterator[str]:
    """Run a server of the product beside the test and give what it yields."""
    loop, over = asyncio.new_event_loop(), asyncio.Event()
    given: list[str] = []
    is_up = threading.Event()

    async def run() -> None:
        async with serve() as it:
            given.append(it)
            is_up.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert is_up.wait(20)
    try:
        yield given[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()

"""A picture on a terminal that is drawn again while something goes on."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

_FRAME_SECONDS: Final = 0.5

T = TypeVar("T")


async def drawn(console: Console, picture: Callable[[], RenderableType], work: Awaitable[T]) -> T:
    """Draw ``picture`` again and again until ``work`` is done, and return what it returns; the last one stays."""

    def draw() -> None:
        live.update(picture(), refresh=True)

    async def redraw() -> None:
        while True:
            draw()
            await asyncio.sleep(_FRAME_SECONDS)

    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        drawing = asyncio.create_task(redraw())
        try:
            result = await work
        finally:
            drawing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drawing
        live.vertical_overflow = "visible"
        draw()
    return result

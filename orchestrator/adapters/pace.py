"""No more bytes in a second than are allowed, shared fairly among all who take them."""

import asyncio
import time
from typing import Final

_BLOCK_BYTES_MAX: Final = 64 * 1024
_BLOCK_BYTES_MIN: Final = 512
_TURNS_PER_SECOND: Final = 8


class Pace:
    """A rate; whoever asks first is served first.

    Args:
        bytes_per_second: What is allowed over any longer time; None allows everything.
    """

    def __init__(self, bytes_per_second: int | None) -> None:
        self.bytes_per_second = bytes_per_second
        self._free_at = 0.0

    @property
    def block_bytes(self) -> int:
        """How much is best taken at once, so that others have their turn."""
        if self.bytes_per_second is None:
            return _BLOCK_BYTES_MAX
        return max(_BLOCK_BYTES_MIN, min(_BLOCK_BYTES_MAX, self.bytes_per_second // _TURNS_PER_SECOND))

    async def take(self, count_bytes: int) -> None:
        """Return when so many bytes have their time."""
        if self.bytes_per_second is None:
            return
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + count_bytes / self.bytes_per_second
        await asyncio.sleep(self._free_at - now)

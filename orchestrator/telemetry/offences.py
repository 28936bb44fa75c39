"""Which devices have sent too much, or what is no sample, for so long that they are no longer waited for."""

from typing import Final

import numpy as np

from orchestrator.telemetry.columns import Rows

SUSTAINED_SECONDS: Final = 60.0
PAUSE_SECONDS_MAX: Final = 60.0
"""After a longer pause it begins anew."""
COUNT_MIN: Final = 30
"""Fewer messages are bad luck, however long they went on."""
OFFENDERS_MAX: Final = 10_000


class Offences:
    """Runs of refused messages by row; mutable, and bounded."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[float, float, int]] = {}
        """When each run began, when it was last added to, and how many messages there were."""

    def note(self, rows: Rows, now: float) -> None:
        """Note messages that were refused, one for each of ``rows``."""
        for row, count in zip(*(each.tolist() for each in np.unique(rows, return_counts=True)), strict=True):
            since, until, before = self._runs.pop(row, (now, now, 0))
            if now - until > PAUSE_SECONDS_MAX:
                since, before = now, 0
            self._runs[row] = since, now, before + count
        while len(self._runs) > OFFENDERS_MAX:
            del self._runs[next(iter(self._runs))]  # the one that has been good for longest

    def over(self, now: float) -> Rows:
        """Return those whose run has gone on for too long, and forget them."""
        found = [
            row
            for row, (since, until, count) in self._runs.items()
            if count >= COUNT_MIN and until - since >= SUSTAINED_SECONDS and now - until <= PAUSE_SECONDS_MAX
        ]
        for row in found:
            del self._runs[row]
        return np.array(found, dtype=np.intp)

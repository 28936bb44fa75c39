"""What happened, one line for each visible step: the same seed gives the same lines."""

import hashlib

from simulator.clock import Clock


class Trace:
    """The lines so far. Health samples are no lines: they show in the verdicts that they lead to."""

    def __init__(self, clock: Clock) -> None:
        self.lines: list[str] = []
        self._clock = clock

    def add(self, who: str, what: str) -> None:
        """Write down that ``who`` did or saw ``what``."""
        self.lines.append(f"{self._clock.elapsed_seconds:10.3f} {who:<14} {what}")

    @property
    def hash(self) -> str:
        """SHA-256 over all lines, in lower-case hex."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()

"""The real monitor with a witness beside it, who counts what it takes in: how much of whom, and how much is normal."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from orchestrator.telemetry.columns import Rows
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.recorder import WAITING_MAX
from orchestrator.telemetry.sample import Sample
from orchestrator.telemetry.sample_table import SampleTable
from simulator.witness import Witness

SAMPLES_PER_SECOND: Final = 10.0
BURST_COUNT: Final = 50
"""What the contract lets a device send for ever, and at once."""
BYTES_EACH_MAX: Final = 16_384
BYTES_MAX: Final = 1_000_000
"""What may be kept for each device of the fleet, and beside that."""
INTERVAL_SECONDS: Final = 300.0
"""How finely what is normal is counted: as the product does, whose windows are rounded to it."""


class WatchedMonitor(Monitor):
    """Takes in what is let through to it, after it was counted apart from the product's own counting."""

    def __init__(self, witness: Witness) -> None:
        super().__init__()
        self._witness = witness
        self._levels: dict[str, tuple[float, float]] = {}
        """How full the bucket of each device was, and when."""
        self._normal: Counter[tuple[str, str, float]] = Counter()
        """Samples of what was normal, by group, version and interval."""

    def observe(self, rows: Rows, samples: Sequence[Sample] | SampleTable, received_at: float) -> None:
        """Count, and take in."""
        names = self.names(rows)
        versions = samples.versions if isinstance(samples, SampleTable) else [each.version for each in samples]
        for name, version in zip(names, versions, strict=True):
            self._meter(name, received_at)
            if version is not None and self._witness.is_normal(name, version):
                start = received_at // INTERVAL_SECONDS * INTERVAL_SECONDS
                self._normal[self._witness.groups.get(name, ""), version, start] += 1
        super().observe(rows, samples, received_at)
        self._weigh()

    def refuse(self, rows: Rows) -> None:
        """Refuse, and see that it takes no room."""
        super().refuse(rows)
        self._weigh()

    def normal_count(self, group: str, excluding_version: str, since: float) -> int:
        """Return how many normal samples of a group have come since a moment, or a little before it."""
        counted: Iterable[tuple[tuple[str, str, float], int]] = self._normal.items()
        begin = since - INTERVAL_SECONDS
        return sum(n for (g, version, at), n in counted if g == group and version != excluding_version and at > begin)

    def _meter(self, name: str, now: float) -> None:
        level, at = self._levels.get(name, (0.0, now))
        level = max(0.0, level - (now - at) * SAMPLES_PER_SECOND) + 1
        self._levels[name] = level, now
        if level > BURST_COUNT + 1e-6:
            self._witness.accuse("INV-20 rate", name, f"{level:.0f} samples at once were taken in")

    def _weigh(self) -> None:
        known = len(self._witness.groups)
        if len(self._roster) > known:
            self._witness.accuse("INV-20 memory", "monitor", f"{len(self._roster)} devices are kept, there are {known}")
        if max(self._waiting_count, len(self._refused)) > WAITING_MAX:
            self._witness.accuse("INV-20 memory", "monitor", f"{self._waiting_count} samples wait")
        if self.nbytes > BYTES_MAX + BYTES_EACH_MAX * known:
            self._witness.accuse("INV-20 memory", "monitor", f"{self.nbytes} bytes for {known} devices")

"""What one device sends of its health, sample by sample: the differences a person reads, and what is odd about each."""

from collections import deque
from math import isnan

from orchestrator.cli.sample_line import SampleLine
from orchestrator.telemetry.columns import BOOTS
from orchestrator.telemetry.sample import Sample, decode_sample
from orchestrator.telemetry.sketch import Sketch
from schemas.errors import DecodeError
from schemas.times import format_timestamp


class SampleReader:
    """Reads the messages of one device in the order in which they came; mutable.

    A sample that came before, or late, is shown and changes nothing; the next is compared with the newest.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._newest: Sample | None = None
        self._newest_at = 0.0
        self._earlier_boots: deque[str] = deque(maxlen=BOOTS - 1)

    def read(self, payload: bytes, at: float) -> SampleLine:
        """Return what a message says; one that is no sample says why."""
        try:
            sample = decode_sample(payload)
        except DecodeError as error:
            return SampleLine(at=format_timestamp(at), device=self._device, error=str(error))
        stale = self._staleness(sample)
        marks = (stale,) if stale else self._marks(sample)
        requests = None if stale else self._risen(sample, "requests_total")
        errors = None if stale else self._risen(sample, "errors_total")
        seconds = at - self._newest_at
        line = SampleLine(
            at=format_timestamp(at),
            device=self._device,
            seq=sample.seq,
            boot_id=sample.boot_id,
            version=sample.version,
            healthy=_known_flag(sample.healthy),
            endpoint_up=_known_flag(sample.endpoint_up),
            requests_per_second=_per_second(requests, seconds),
            errors_per_second=_per_second(errors, seconds),
            error_rate=min(errors / requests, 1.0) if requests and errors is not None else None,
            latency_p95_seconds=_p95(sample),
            memory_bytes=_known(sample.memory_bytes),
            cpu_ratio=_known(sample.cpu_ratio),
            temperature_celsius=_known(sample.temperature_celsius),
            marks=marks,
        )
        if not stale:
            self._take(sample, at)
        return line

    def _staleness(self, sample: Sample) -> str:
        if self._newest is None:
            return ""
        if sample.boot_id in self._earlier_boots:
            return "late, of an earlier boot"
        if sample.boot_id != self._newest.boot_id or sample.seq > self._newest.seq:
            return ""
        return "duplicate" if sample.seq == self._newest.seq else "late"

    def _marks(self, sample: Sample) -> tuple[str, ...]:
        before = self._newest
        if before is None:
            return ()
        marks = []
        if before.boot_id != sample.boot_id:
            marks.append("new boot")
        elif sample.seq > before.seq + 1:
            marks.append(f"{sample.seq - before.seq - 1} missing")
        if None not in (before.version, sample.version) and before.version != sample.version:
            marks.append("new version")
        counters = ("requests_total", "errors_total", "restarts_total")
        marks += [f"bad: {name} fell" for name in counters if (self._change(sample, name) or 0.0) < 0]
        restarts = self._risen(sample, "restarts_total")
        return (*marks, f"{restarts:.0f} restarts") if restarts else tuple(marks)

    def _change(self, sample: Sample, name: str) -> float | None:
        """Return the difference of a counter to the sample before, in the same boot; None where it is not known."""
        if self._newest is None or self._newest.boot_id != sample.boot_id:
            return None
        before, now = _known(getattr(self._newest, name)), _known(getattr(sample, name))
        return None if before is None or now is None else now - before

    def _risen(self, sample: Sample, name: str) -> float | None:
        change = self._change(sample, name)
        return None if change is None or change < 0 else change

    def _take(self, sample: Sample, at: float) -> None:
        if self._newest is not None and self._newest.boot_id != sample.boot_id:
            self._earlier_boots.append(self._newest.boot_id)
        self._newest, self._newest_at = sample, at


def _known(value: float | None) -> float | None:
    return None if value is None or isnan(value) else value


def _known_flag(value: bool | None) -> bool | None:
    return None if value is None or isnan(value) else value


def _per_second(rise: float | None, seconds: float) -> float | None:
    return rise / seconds if rise is not None and seconds > 0 else None


def _p95(sample: Sample) -> float | None:
    if sample.latency is not None:
        return Sketch.from_wire(sample.latency).quantile(0.95)
    return _known(sample.latency_p95_seconds)

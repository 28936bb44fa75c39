"""One message of a device's health as it is shown."""

from typing import Final

from pydantic import BaseModel, ConfigDict
from rich.text import Text

from orchestrator.cli.health_devices import health_text
from orchestrator.cli.health_groups import latency_text, rate_text
from orchestrator.cli.quantities import time_of_day
from orchestrator.cli.terminal import words
from schemas.times import Timestamp

_MEGABYTE: Final = 1e6


class SampleLine(BaseModel):
    """One message of a device: a line of ``health tail --json``; None: the device does not say, or it is not known.

    Attributes:
        at: When it was received here.
        requests_per_second: Since the sample before, within a boot; ``errors_per_second``, ``error_rate`` likewise.
        latency_p95_seconds: Of the interval before; from the sketch where it has one, else as the device reports it.
        marks: What is odd about it, in words.
        error: Why it is no sample; then nothing else is known.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    at: Timestamp
    device: str
    seq: int | None = None
    boot_id: str | None = None
    version: str | None = None
    healthy: bool | None = None
    endpoint_up: bool | None = None
    requests_per_second: float | None = None
    errors_per_second: float | None = None
    error_rate: float | None = None
    latency_p95_seconds: float | None = None
    memory_bytes: float | None = None
    cpu_ratio: float | None = None
    temperature_celsius: float | None = None
    marks: tuple[str, ...] = ()
    error: str | None = None


def sample_line(line: SampleLine) -> Text:
    """Return a message of a device as one line."""
    at = words(f"{time_of_day(line.at)}  ", "dim")
    if line.error is not None:
        return at + words(f"✖ no sample, it counts as a bad one: {line.error}", "red")
    state = words("✖ endpoint down", "red") if line.endpoint_up is False else health_text(line.healthy)
    state.align("left", 15)
    memory = "-" if line.memory_bytes is None else f"{line.memory_bytes / _MEGABYTE:.1f} MB"
    cpu = "-" if line.cpu_ratio is None else f"{line.cpu_ratio * 100:.0f}%"
    celsius = "-" if line.temperature_celsius is None else f"{line.temperature_celsius:.1f} °C"
    errors = f"{_rate(line.errors_per_second)} errors/s ({rate_text(line.error_rate)})"
    traffic = f"{_rate(line.requests_per_second)} requests/s  {errors}  p95 {latency_text(line.latency_p95_seconds)}"
    text = f"  {traffic}  memory {memory}  cpu {cpu}  {celsius}"
    marks = words(f"  ⚠ {', '.join(line.marks)}", "yellow") if line.marks else Text("")
    return at + words(f"{line.version or '-'}  ") + state + words(text) + marks


def _rate(per_second: float | None) -> str:
    return "-" if per_second is None else f"{per_second:.1f}"

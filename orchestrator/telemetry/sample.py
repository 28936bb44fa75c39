"""One sample of a device's health as the hot path reads it: the wire's model again, decoded twenty times as fast.

``schemas.messages.HealthSample`` is the definition; a test holds both together.
"""

from collections.abc import Sequence
from math import nan
from sys import float_info
from typing import Annotated, Final, Self

import msgspec
from msgspec import Meta

from schemas.codec import HEALTH, is_msgpack_map
from schemas.errors import DecodeError
from schemas.messages import HealthSample

Count = Annotated[int, Meta(ge=0, lt=2**53)]
Total = Annotated[float, Meta(ge=0, lt=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Measure = Annotated[float, Meta(ge=-float_info.max, le=float_info.max)]


class Latency(msgspec.Struct, frozen=True, gc=False):
    """A histogram of latencies, see ``schemas.messages.LatencySketch``."""

    gamma: Annotated[float, Meta(gt=1, le=4)]
    offset: Annotated[int, Meta(ge=-100_000, le=100_000)]
    counts: Annotated[tuple[Annotated[int, Meta(ge=0, lt=2**32)], ...], Meta(max_length=1024)]


class Sample(msgspec.Struct, frozen=True, gc=False):
    """What a device says of itself; a number that is not known is NaN, or None where the device said so."""

    seq: Count
    boot_id: Annotated[str, Meta(min_length=1, max_length=64)]
    version: Annotated[str, Meta(max_length=128)] | None = None
    requests_total: Total | None = nan
    errors_total: Total | None = nan
    restarts_total: Total | None = nan
    log_errors_total: Total | None = nan
    throttle_events_total: Total | None = nan
    memory_bytes: Total | None = nan
    disk_free_bytes: Total | None = nan
    temperature_celsius: Annotated[float, Meta(ge=-100, le=300)] | None = nan
    cpu_ratio: Annotated[float, Meta(ge=0, le=1024)] | None = nan
    latency_p50_seconds: Seconds | None = nan
    latency_p95_seconds: Seconds | None = nan
    latency_p99_seconds: Seconds | None = nan
    healthy: bool | None = nan  # type: ignore[assignment]  # as for the numbers beside it
    endpoint_up: bool | None = nan  # type: ignore[assignment]  # the same
    latency: Latency | None = None
    quality: dict[Annotated[str, Meta(max_length=128)], Measure] | None = None

    @classmethod
    def of(cls, sample: HealthSample) -> Self:
        """Take over a sample of the wire's own model."""
        return msgspec.convert(sample.model_dump(mode="python", exclude_none=True), cls)


_MSGPACK: Final = msgspec.msgpack.Decoder(Sample)
_JSON: Final = msgspec.json.Decoder(Sample)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_sample(payload: bytes) -> Sample:
    """Read a sample in JSON or msgpack.

    Raises:
        DecodeError: Too large, undecodable or out of bounds; the device's fault. The text names the field.
    """
    if not 0 < len(payload) <= HEALTH.bytes_max:
        raise DecodeError(f"{len(payload)} bytes, at most {HEALTH.bytes_max} are allowed, and more than none")
    try:
        return (_MSGPACK if is_msgpack_map(payload[0]) else _JSON).decode(payload)
    except _UNREADABLE as error:
        text, _, place = str(error).partition(" - at `$")
        field = place.strip(".`") or "payload"
        raise DecodeError(f"{field}: {text}", field) from error


def decode_samples(payloads: Sequence[bytes]) -> list[Sample | DecodeError]:
    """Read many samples: each, or why it is none, see ``decode_sample``."""
    if 0 < max(map(len, payloads), default=0) <= HEALTH.bytes_max:
        try:
            return list(map(_MSGPACK.decode, payloads))
        except _UNREADABLE:
            pass  # One is in JSON, or nothing.
    return [_read(each) for each in payloads]


def _read(payload: bytes) -> Sample | DecodeError:
    try:
        return decode_sample(payload)
    except DecodeError as error:
        return error

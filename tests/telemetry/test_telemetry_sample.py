"""The hot path reads samples with a decoder of its own; it must take and refuse what the wire's model does."""

import json
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.telemetry.sample import Latency, Sample, decode_sample
from schemas.codec import HEALTH
from schemas.errors import DecodeError
from schemas.messages import HealthSample, LatencySketch

NOT_JUDGED = {"uptime_seconds"}
GOOD: dict[str, Any] = {"seq": 1, "boot_id": "b", "version": "1.2", "requests_total": 10, "errors_total": 0}

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2**54), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.sampled_from([2**53 - 1, 2**53, 1e9, 1e10, 1024.0, -100.0, 300.5, "x" * 129, [], {}, {"a": 1.0}, {"a": "b"}]),
    st.fixed_dictionaries(
        {"gamma": st.sampled_from([1.0, 1.02, 4.0, 4.1]), "offset": st.sampled_from([0, 10**5, 10**6])},
        optional={"counts": st.lists(st.integers(-1, 2**33), max_size=3)},
    ),
)  # fmt: skip


def test_it_holds_every_field_of_the_wire_that_anything_is_judged_by() -> None:
    assert {field.name for field in msgspec.structs.fields(Sample)} == HealthSample.model_fields.keys() - NOT_JUDGED
    assert {field.name for field in msgspec.structs.fields(Latency)} == LatencySketch.model_fields.keys()


def is_taken_by_the_model(document: dict[str, Any]) -> bool:
    try:
        HealthSample.model_validate(document)
    except ValidationError:
        return False
    return True


def is_taken(payload: bytes) -> bool:
    try:
        decode_sample(payload)
    except DecodeError:
        return False
    return True


@given(st.sampled_from(sorted(HealthSample.model_fields.keys() - NOT_JUDGED)), VALUES)
def test_it_takes_what_the_wire_model_takes_and_little_more(field: str, value: Any) -> None:  # noqa: ANN401 - anything
    document = GOOD | {field: value}
    taken = is_taken_by_the_model(document)

    for payload in (json.dumps(document).encode(), msgpack.packb(document)):
        # A count with a fraction does no harm, and whether a version may be one is looked at later.
        is_lenient = (field.endswith(("_total", "_bytes")) and isinstance(value, float)) or field == "version"
        assert is_taken(payload) == taken or (is_lenient and not taken)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1", "1e300", '"1"', "true", "[1]"])
@pytest.mark.parametrize("field", ["requests_total", "cpu_ratio", "latency_p95_seconds", "memory_bytes"])
def test_a_number_that_is_none_is_refused_and_the_field_named(field: str, number: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_sample(f'{{"seq": 1, "boot_id": "b", "{field}": {number}}}'.encode())

    assert caught.value.field == field or number in {"NaN", "Infinity"}, "JSON has no such number in any field"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["requests_total", "cpu_ratio", "quality"])
def test_msgpack_may_not_smuggle_in_what_is_no_number(field: str, value: float) -> None:
    smuggled: Any = {"accuracy": value} if field == "quality" else value

    with pytest.raises(DecodeError, match=field):
        decode_sample(msgpack.packb({"seq": 1, "boot_id": "b", field: smuggled}))


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"\x81", b"\xff", b"{}" + b" " * HEALTH.bytes_max, b"[" * 2000])
def test_what_is_no_document_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_sample(payload)


def test_null_and_absence_say_the_same() -> None:
    said = decode_sample(b'{"seq": 1, "boot_id": "b", "cpu_ratio": null, "healthy": null, "version": null}')

    assert (said.cpu_ratio, said.healthy, said.version) == (None, None, None)
    assert Sample.of(HealthSample(seq=1, boot_id="b")).version is None

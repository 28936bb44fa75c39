import json
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import HEALTH, MANIFEST, MESSAGE, RETAINED, Bounds, decode, decode_object, encode, encode_msgpack
from schemas.errors import DecodeError
from schemas.messages import Grant, HealthSample, Ready, Reported

READY = {"generation": 7, "step": "activate", "nonce": "5d" * 16}
GRANT = {
    "device": "pi-1", "generation": 7, "step": "activate", "epoch": 3, "seq": 1, "nonce": "5d" * 16, "decision": "go",
    "desired_sha256": "ab" * 32, "ttl_seconds": 120, "server_time": "2026-11-23T10:57:04.482Z",
}  # fmt: skip
SAMPLE = HealthSample(seq=1, boot_id="b", requests_total=100, cpu_ratio=0.5, healthy=True)


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_json_and_msgpack_give_the_same_message() -> None:
    assert decode(HealthSample, encode(SAMPLE)) == decode(HealthSample, encode_msgpack(SAMPLE)) == SAMPLE


def test_the_same_message_gives_the_same_bytes() -> None:
    again = HealthSample.model_validate(dict(reversed(SAMPLE.model_dump().items())))

    assert encode(again) == encode(SAMPLE)


def test_msgpack_leaves_out_what_is_unknown() -> None:
    assert set(msgpack.unpackb(encode_msgpack(SAMPLE))) == {
        "seq", "boot_id", "requests_total", "cpu_ratio", "healthy",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "empty payload"),
        (b"\xff", "undecodable"),
        (b"nonsense", "undecodable"),
        (b"[1]", "expected an object, got list"),
        (b"7", "expected an object, got int"),
        (b"null", "expected an object, got NoneType"),
        (b"\x93\x01\x02\x03", "undecodable"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":{"b":1,"b":1}}', "twice"),
        (b'{"a":NaN}', "NaN is no number"),
        (b'{"a":Infinity}', "Infinity is no number"),
        (b'{"a":-Infinity}', "-Infinity is no number"),
        (b'{"a":1e999}', "infinities are no numbers"),
        (b'{"a":"\\ud800"}', "lone surrogate"),
        (b'{"\\ud800":1}', "lone surrogate"),
        (b'{"a":"\xc3"}', "undecodable"),
        (b'{"a":9007199254740992}', "integer beyond"),
        (b'{"a":' + b"9" * 5000 + b"}", "undecodable"),
        (b'{"a":1} {"b":2}', "undecodable"),
        (b"\xef\xbb\xbf{}", "undecodable"),
        (nested(17), "nested deeper than 16"),
        (nested(20_000), "undecodable"),
        (json.dumps({"a": [0] * 1025}).encode(), "array of 1025 items"),
        (json.dumps({str(key): 0 for key in range(257)}).encode(), "257 keys"),
        (json.dumps({"a": "x" * 16_385}).encode(), "16385 characters"),
        (json.dumps({"x" * 16_385: 1}).encode(), "16385 characters"),
    ],
)
def test_hostile_json_is_refused_with_its_reason(payload: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        decode_object(payload)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (msgpack.packb({"a": float("nan")}), "NaN"),
        (msgpack.packb({"a": float("inf")}), "infinities"),
        (b"\x82\xa1a\x01\xa1a\x02", "twice"),
        (msgpack.packb({1: 2}), "undecodable"),
        (msgpack.packb({"a": msgpack.ExtType(5, b"x")}), "undecodable|extension"),
        (msgpack.packb({"a": msgpack.Timestamp(0)}), "undecodable|extension"),
        (msgpack.packb({"a": b"bytes"}), "undecodable"),
        (msgpack.packb({"a": [0] * 1025}), "undecodable"),
        (msgpack.packb({str(key): 0 for key in range(257)}), "undecodable"),
        (msgpack.packb({"a": "x" * 16_385}), "undecodable"),
        (msgpack.packb({"a": 2**63}), "integer beyond"),
        (msgpack.packb({"a": 1}) + b"\x00", "undecodable"),
        (msgpack.packb({"a": 1})[:-1], "undecodable"),
        (b"\x81\xa1a\xa1\xff", "undecodable"),
        (b"\x81\xa1a" + b"\x91" * 20 + b"\xc0", "nested deeper"),
        (b"\x81\xa1a" + b"\x91" * 30_000 + b"\xc0", "undecodable"),
        (b"\xdf\xff\xff\xff\xff", "undecodable"),
        (b"\x81\xa1a\xdd\xff\xff\xff\xff", "undecodable"),
        (b"\x81\xa1a\xdb\xff\xff\xff\xff", "undecodable"),
    ],
)
def test_hostile_msgpack_is_refused_with_its_reason(payload: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        decode_object(payload)


@pytest.mark.parametrize("bounds", [HEALTH, RETAINED, MESSAGE, Bounds(10)])
def test_a_payload_of_the_full_size_is_read_and_one_byte_more_is_refused_unread(bounds: Bounds) -> None:
    full = b'{"a":1' + b" " * (bounds.bytes_max - 7) + b"}"

    assert decode_object(full, bounds) == {"a": 1}
    with pytest.raises(DecodeError, match=f"{bounds.bytes_max + 1} bytes"):
        decode_object(b"\xff" * (bounds.bytes_max + 1), bounds)


def test_what_is_just_within_the_bounds_is_read() -> None:
    assert decode_object(nested(16))
    assert decode_object(json.dumps({"a": [0] * 1024, "b": 2**53 - 1, "c": "x" * 16_384}).encode())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"generation": True}, "generation"),
        ({"generation": "7"}, "generation"),
        ({"generation": 7.0}, "generation"),
        ({"generation": -1}, "generation"),
        ({"generation": None}, "generation"),
        ({"step": "jump"}, "step"),
        ({"nonce": "5D" * 16}, "nonce"),
        ({"nonce": "5d" * 15}, "nonce"),
        ({"nonce": "5d" * 16 + "\n"}, "nonce"),
        ({"manifest_sha256": "x"}, "manifest_sha256"),
    ],
)
def test_a_wrong_field_is_named_in_json_and_in_msgpack(change: dict[str, Any], field: str) -> None:
    for payload in (json.dumps({**READY, **change}).encode(), msgpack.packb({**READY, **change})):
        with pytest.raises(DecodeError) as caught:
            decode(Ready, payload)
        assert (caught.value.field, str(caught.value).split(":")[0]) == (field, field)


@pytest.mark.parametrize("value", [True, "1", float("nan")])
def test_a_number_is_a_number(value: object) -> None:
    with pytest.raises(DecodeError):
        decode(HealthSample, msgpack.packb({"seq": 1, "boot_id": "b", "cpu_ratio": value}))


def test_a_whole_number_is_taken_for_a_fraction() -> None:
    assert decode(HealthSample, b'{"seq":1,"boot_id":"b","cpu_ratio":1}').cpu_ratio == 1.0


def test_an_error_in_a_nested_field_is_named_with_its_path() -> None:
    report = {"observed_generation": 1, "seq": 1, "state": "idle", "boot_id": "b"}

    with pytest.raises(DecodeError) as caught:
        decode(Reported, json.dumps({**report, "error": {"code": "a b", "step": "s", "message": ""}}).encode())

    assert caught.value.field == "error.code"


def test_unknown_fields_are_ignored_in_a_message_and_refused_in_a_signed_one() -> None:
    assert decode(Ready, json.dumps({**READY, "colour": "red"}).encode()) == Ready.model_validate(READY)
    assert decode(Grant, json.dumps(GRANT).encode()).decision == "go"
    with pytest.raises(DecodeError, match="colour"):
        decode(Grant, json.dumps({**GRANT, "colour": "red"}).encode())


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        (b'"boot_id":"\\ud800"', "boot_id"),
        (b'"boot_id":"b","version":"\\ud800"', "version"),
        (b'"boot_id":"b","quality":{"a":1e999}', "quality.a"),
        (b'"boot_id":"b","quality":{"a":true}', "quality.a"),
        (b'"boot_id":"b","quality":{"a\\nb":"x"}', r"quality.a\nb"),
        (b'"boot_id":"b","quality":{"\\ud800":1}', r"quality.\ufffd\ufffd\ufffd.[key]"),
        (b'"boot_id":"b","requests_total":1e999', "requests_total"),
        (b'"boot_id":"b","requests_total":9007199254740992', "requests_total"),
        (b'"boot_id":"b","x":' + b"[" * 1900 + b"]" * 1900, "payload"),
        (b'"boot_id":"b","boot_id":"b"', "payload"),
    ],
)
def test_a_hostile_sample_is_refused_though_it_is_not_walked(fields: bytes, place: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(HealthSample, b'{"seq":1,' + fields + b"}", HEALTH)

    assert caught.value.field == place
    assert str(caught.value).isprintable()


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_decode_errors(payload: bytes) -> None:
    for first in (b"", b"\x81\xa1a", b'{"a":'):
        try:
            tree = decode_object(first + payload)
        except DecodeError:
            continue
        assert isinstance(tree, dict)


@given(st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5)))
def test_any_map_reads_the_same_from_json_and_msgpack(tree: dict[str, Any]) -> None:
    assert decode_object(json.dumps(tree).encode()) == decode_object(msgpack.packb(tree)) == tree


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_a_sample_or_a_decode_error(payload: bytes) -> None:
    for head in (b'{"seq":1,"boot_id":"b",', b"\x84\xa3seq\x01\xa7boot_id\xa1b"):
        try:
            decode(HealthSample, head + payload, HEALTH)
        except DecodeError:
            continue


@pytest.mark.parametrize("bounds", [MESSAGE, MANIFEST])
def test_announced_lengths_that_never_come_cost_a_few_megabytes_at_most(bounds: Bounds) -> None:
    hostile = [
        b"\x81\xa1a" + b"\xdc\x04\x00" * 20_000,  # arrays of 1024 in each other
        b"\x81\xa1a" + b"\xdc\x4e\x20" * 20_000,  # of 20,000
        b"\x81\xa1a" + b"\xdd\x7f\xff\xff\xff",
        b"\x81\xa1a" + b"\x81\xa1a" * 20_000,
        b"\xde\x01\x00\xa1a" * 12_000,
    ]
    tracemalloc.start()
    try:
        for payload in hostile:
            with pytest.raises(DecodeError):
                decode_object(payload, bounds)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < 16 * 2**20

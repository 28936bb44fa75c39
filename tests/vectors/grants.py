# ruff: noqa: E501 - a vector is one line, which is read across
"""Vectors of grants."""

from typing import Any

from schemas.dsse import GRANT_TYPE, MANIFEST_TYPE
from tests.core.trust_roots import public
from tests.vectors.making import Vector, changed, compact, forged, incomplete, sealed, tampered

GIVEN: dict[str, Any] = {
    "device": "pi-1",
    "command_keys": [public("command")],
    "question": {"step": "activate", "nonce": f"{2:032x}", "age_seconds": 5},
    "accepted_before": {"epoch": 3, "seq": 9120},
    "generation": 7,
    "desired_sha256": "",
    "busy": False,
}
"""What a device has asked and knows; the digest of its order is filled in by ``grants``."""
_OTHERS = {
    "device": "pi-2", "generation": 8, "step": "commit", "epoch": 4, "seq": 9122, "nonce": "f" * 32, "decision": "wait",
    "desired_sha256": "0" * 64, "ttl_seconds": 9999.0, "server_time": "2026-11-23T10:00:01Z", "reason": "capacity",
}  # fmt: skip
_REQUIRED = (
    "device", "generation", "step", "epoch", "seq", "nonce", "decision", "desired_sha256", "ttl_seconds", "server_time",
)  # fmt: skip


def grants(desired_sha256: str) -> tuple[dict[str, Any], list[Vector]]:
    """Return what is given, and the vectors."""
    payload: dict[str, Any] = {
        "device": "pi-1",
        "generation": 7,
        "step": "activate",
        "epoch": 3,
        "seq": 9121,
        "nonce": f"{2:032x}",
        "decision": "go",
        "desired_sha256": desired_sha256,
        "ttl_seconds": 120.0,
        "server_time": "2026-11-23T10:00:00Z",
        "retry_after_seconds": None,
        "reason": None,
    }

    def signed(**changes: Any) -> bytes:  # noqa: ANN401 - JSON
        return sealed(GRANT_TYPE, compact(changed(payload, **changes)), "command")

    def written(old: str, new: str) -> bytes:
        text = compact(payload).decode()
        assert old in text
        return sealed(GRANT_TYPE, text.replace(old, new, 1).encode(), "command")

    rules: list[tuple[str, str, bytes, str, dict[str, Any]]] = [
        ("unchanged", "nothing", signed(), "accepted", {}),
        ("wait", "the decision is wait", signed(decision="wait", retry_after_seconds=30.0), "accepted", {}),
        ("higher-seq", "a sequence number far ahead", signed(seq=10_000), "accepted", {}),
        ("higher-epoch", "a higher epoch begins again with 1", signed(epoch=4, seq=1), "accepted", {}),
        ("just-in-time", "as old as it may be", signed(ttl_seconds=5.0), "accepted", {}),
        ("overlap", "the root lists the old and the new command key", signed(), "accepted",
         {"command_keys": [public("command-2"), public("command")]}),
        ("other-device", "for another device", signed(device="pi-2"), "wrong_device", {}),
        ("longer-device", "for a device whose name begins like ours", signed(device="pi-10"), "wrong_device", {}),
        ("device-in-capitals", "for our name in capitals", signed(device="PI-1"), "wrong_device", {}),
        ("not-asked", "nothing was asked", signed(), "not_asked", {"question": None}),
        ("stale-nonce", "the nonce of the question before", signed(nonce=f"{1:032x}"), "wrong_nonce", {}),
        ("strange-nonce", "a nonce that nobody used", signed(nonce="f" * 32), "wrong_nonce", {}),
        ("longer-nonce", "our nonce and more", signed(nonce=f"{2:032x}00"), "wrong_nonce", {}),
        ("other-step", "for another step", signed(step="commit"), "wrong_step", {}),
        ("lower-epoch", "a lower epoch", signed(epoch=2), "stale_epoch", {}),
        ("lower-epoch-higher-seq", "a lower epoch with a higher number", signed(epoch=2, seq=99_999), "stale_epoch", {}),
        ("epoch-zero", "epoch 0", signed(epoch=0), "stale_epoch", {}),
        ("replayed", "the number that was accepted last", signed(seq=9120), "repeated_seq", {}),
        ("lower-seq", "a lower number", signed(seq=9119), "repeated_seq", {}),
        ("seq-zero", "number 0", signed(seq=0), "repeated_seq", {}),
        ("lower-generation", "a lower generation", signed(generation=6), "wrong_generation", {}),
        ("higher-generation", "a generation that is not ordered yet", signed(generation=8), "wrong_generation", {}),
        ("too-old", "the question is older than it lives", signed(ttl_seconds=4.9), "too_old", {}),
        ("no-time", "it lives for no time", signed(ttl_seconds=0.0), "too_old", {}),
        ("two-minutes-late", "it comes after its time", signed(), "too_old",
         {"question": {"step": "activate", "nonce": f"{2:032x}", "age_seconds": 120.5}}),
        ("other-order", "for other bytes of the order", signed(desired_sha256="0" * 64), "other_order", {}),
        ("busy", "while a switch is under way", signed(), "busy", {"busy": True}),
    ]  # fmt: skip
    malformed: list[tuple[str, str, bytes]] = [
        ("unknown-field", "a field that nobody knows", signed(force=True)),
        ("generation-text", "the generation is a text", signed(generation="7")),
        ("generation-fraction", "the generation is 7.0", signed(generation=7.0)),
        ("generation-true", "the generation is true", signed(generation=True)),
        ("generation-null", "the generation is null", signed(generation=None)),
        ("seq-negative", "the number is negative", signed(seq=-1)),
        ("seq-2-53", "the number is 2^53", signed(seq=2**53)),
        ("seq-2-64", "the number is 2^64", signed(seq=2**64)),
        ("epoch-400-digits", "the epoch has 400 digits", written('"epoch":3', '"epoch":' + "9" * 400)),
        ("epoch-5000-digits", "the epoch has 5000 digits", written('"epoch":3', '"epoch":' + "9" * 5000)),
        ("ttl-nan", "ttl_seconds is NaN", written("120.0", "NaN")),
        ("ttl-infinity", "ttl_seconds is Infinity", written("120.0", "Infinity")),
        ("ttl-1e999", "ttl_seconds is 1e999", written("120.0", "1e999")),
        ("ttl-negative", "ttl_seconds is negative", signed(ttl_seconds=-1.0)),
        ("ttl-text", "ttl_seconds is a text", signed(ttl_seconds="120")),
        ("decision-unknown", "a decision that nobody knows", signed(decision="GO")),
        ("decision-null", "the decision is null", signed(decision=None)),
        ("step-unknown", "a step that nobody knows", signed(step="reboot")),
        ("nonce-short", "a nonce of 15 bytes", signed(nonce="0" * 30)),
        ("nonce-in-capitals", "a nonce in capitals", signed(nonce="F" * 32)),
        ("digest-in-capitals", "a digest in capitals", signed(desired_sha256=desired_sha256.upper())),
        ("digest-short", "a digest of 63 digits", signed(desired_sha256=desired_sha256[:-1])),
        ("device-newline", "a line break behind the device", signed(device="pi-1\n")),
        ("device-slash", "a slash in the device", signed(device="pi/1")),
        ("device-list", "the device is a list", signed(device=["pi-1"])),
        ("time-without-zone", "server_time has no zone", signed(server_time="2026-11-23T10:00:00")),
        ("device-twice", "device stands twice", written('{"device":"pi-1"', '{"device":"pi-2","device":"pi-1"')),
        ("decision-twice", "decision stands twice", written('"decision":"go"', '"decision":"wait","decision":"go"')),
        ("array", "the payload is an array", sealed(GRANT_TYPE, b"[%s]" % compact(payload), "command")),
        ("nothing", "the payload is empty", sealed(GRANT_TYPE, b"", "command")),
        ("null", "the payload is null", sealed(GRANT_TYPE, b"null", "command")),
        ("more-behind", "another document behind it", sealed(GRANT_TYPE, compact(payload) * 2, "command")),
        ("byte-order-mark", "a byte order mark before it", sealed(GRANT_TYPE, b"\xef\xbb\xbf" + compact(payload), "command")),
        ("deep", "nested a thousand deep", written('"reason":null', '"reason":' + "[" * 1000 + "]" * 1000)),
        ("surrogate", "half a surrogate in the reason", written('"reason":null', '"reason":"\\ud800"')),
        ("not-utf-8-inside", "a byte that is no UTF-8", sealed(GRANT_TYPE, compact(payload).replace(b"pi-1", b"pi-\xff"), "command")),
    ]  # fmt: skip
    return {**GIVEN, "desired_sha256": desired_sha256}, [
        *(Vector(*each[:4], each[4]) for each in rules),
        *(Vector(*each, "malformed") for each in malformed),
        *incomplete(GRANT_TYPE, payload, "command", _REQUIRED, "malformed"),
        *tampered(GRANT_TYPE, payload, "command", _OTHERS),
        *forged(GRANT_TYPE, compact(payload), "command", "release-a", MANIFEST_TYPE),
    ]

# ruff: noqa: E501 - a vector is one line, which is read across
"""Vectors of trust roots: each is what a device is told that has root 1."""

import json
from typing import Any

from schemas.codec import encode
from schemas.dsse import MANIFEST_TYPE
from schemas.trust import ROOT_TYPE
from tests.core.trust_roots import make_root, public, role
from tests.vectors.making import REMOVED, Vector, changed, compact, forged, sealed

BOTH = ("root-a", "root-b")
FIRST = make_root(1)
GIVEN: dict[str, Any] = {"trusted": json.loads(encode(FIRST))}
PAYLOAD: dict[str, Any] = json.loads(encode(make_root(2, command=role("command-2"), revoked=("app-1.1.0",))))
_MOVED: dict[str, Any] = json.loads(encode(make_root(2, root=role("new-a", "new-b", "new-c", threshold=2))))
_ONE: dict[str, Any] = {"trusted": json.loads(encode(make_root(1, root=role("root-a"))))}


def _signed(*names: str, **changes: Any) -> bytes:  # noqa: ANN401 - JSON
    return sealed(ROOT_TYPE, compact(changed(PAYLOAD, **changes)), *(names or BOTH))


def _moved(*names: str) -> bytes:
    return sealed(ROOT_TYPE, compact(_MOVED), *names)


def _role(*names: str, threshold: Any = 1) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"keys": [public(name) for name in names], "threshold": threshold}


_RULES: list[tuple[str, str, bytes, str]] = [
    ("unchanged", "nothing", _signed(), "accepted"),
    ("all-signed", "three of three signed", _signed("root-a", "root-b", "root-c"), "accepted"),
    ("other-two", "two others of the three", _signed("root-c", "root-b"), "accepted"),
    ("threshold-rises", "all three must sign from now on, and did", _signed("root-a", "root-b", "root-c", root=_role("root-a", "root-b", "root-c", threshold=3)), "accepted"),
    ("root-keys-moved", "all root keys are replaced, old and new signed", _moved(*BOTH, "new-a", "new-b"), "accepted"),
    ("expired", "it has expired: it is followed, and nothing is installed under it", _signed(expires="2001-01-01T00:00:00Z"), "accepted"),
    ("release-key-rotated", "another release key", _signed(release=_role("release-new")), "accepted"),
    ("nothing-revoked-any-more", "an empty list", _signed(revoked=[]), "accepted"),
    ("few-signed", "one of two that must", _signed("root-a"), "not_signed_by_old"),
    ("same-key-twice", "one of two that must, twice", _signed("root-a", "root-a"), "not_signed_by_old"),
    ("one-and-a-release-key", "one, and a release key", _signed("root-a", "release-a"), "not_signed_by_old"),
    ("one-and-the-command-key", "one, and the command key", _signed("root-a", "command"), "not_signed_by_old"),
    ("one-and-a-stranger", "one, and a stranger", _signed("root-a", "stranger"), "not_signed_by_old"),
    ("only-new-signed", "the new keys alone signed", _moved("new-a", "new-b"), "not_signed_by_old"),
    ("new-and-one-old", "the new keys and one old signed", _moved("root-a", "new-a", "new-b"), "not_signed_by_old"),
    ("only-old-signed", "the old keys alone signed", _moved(*BOTH), "not_signed_by_own"),
    ("old-and-one-new", "the old keys and one new signed", _moved(*BOTH, "new-a"), "not_signed_by_own"),
    ("old-and-one-new-twice", "one new key signed twice", _moved(*BOTH, "new-a", "new-a"), "not_signed_by_own"),
    ("threshold-rises-unsigned", "all three must sign from now on, two did", _signed(root=_role("root-a", "root-b", "root-c", threshold=3)), "not_signed_by_own"),
    ("same-version", "version 1 again", _signed(version=1), "wrong_version"),
    ("version-skipped", "version 3 without version 2", _signed(version=3), "wrong_version"),
    ("version-far-ahead", "version 2^53 - 1: nothing could follow it", _signed(version=2**53 - 1), "wrong_version"),
    ("version-zero", "version 0", _signed(version=0), "malformed"),
    ("version-text", "the version is a text", _signed(version="2"), "malformed"),
    ("version-fraction", "the version is 2.0", _signed(version=2.0), "malformed"),
    ("version-huge", "the version is 2^64", _signed(version=2**64), "malformed"),
    ("unknown-field", "a field that nobody knows", _signed(comment="x"), "malformed"),
    ("unknown-field-of-a-role", "a field of a role that nobody knows", _signed(root={**_role(*BOTH), "any": 1}), "malformed"),
    ("version-twice", "version stands twice", sealed(ROOT_TYPE, compact(PAYLOAD).replace(b'{"version":2', b'{"version":9,"version":2'), *BOTH), "malformed"),
    ("no-root-keys", "no root keys", _signed(root=_role()), "malformed"),
    ("no-release-role", "release is missing", _signed(release=REMOVED), "malformed"),
    ("command-null", "command is null", _signed(command=None), "malformed"),
    ("threshold-zero", "nobody must sign", _signed(root=_role(*BOTH, threshold=0)), "malformed"),
    ("threshold-negative", "a negative threshold", _signed(release=_role("release-a", threshold=-1)), "malformed"),
    ("threshold-true", "the threshold is true", _signed(release=_role("release-a", threshold=True)), "malformed"),
    ("threshold-too-high", "more must sign than there are", _signed(release=_role("release-a", threshold=2)), "malformed"),
    ("key-twice", "a key stands twice in a role", _signed(root=_role("root-a", "root-a", threshold=2)), "malformed"),
    ("key-in-two-roles", "a release key may grant", _signed(command=_role("release-a")), "malformed"),
    ("root-key-releases", "a root key may release", _signed(release=_role("root-a")), "malformed"),
    ("command-threshold", "two command keys must sign", _signed(command=_role("command", "command-2", threshold=2)), "malformed"),
    ("key-in-capitals", "a key in capitals", _signed(command={"keys": [public("command").upper()], "threshold": 1}), "malformed"),
    ("key-short", "a key of 31 bytes", _signed(command={"keys": ["00" * 31], "threshold": 1}), "malformed"),
    ("nine-keys", "nine keys in a role", _signed(release=_role(*(f"release-{n}" for n in range(9)))), "malformed"),
    ("revoked-path", "a path is revoked", _signed(revoked=["../x"]), "malformed"),
    ("counter-negative", "a negative lowest counter", _signed(release_counter_min=-1), "malformed"),
    ("expires-never", "a time that is none", _signed(expires="never"), "malformed"),
    ("expires-in-february", "a day that does not exist", _signed(expires="2026-02-30T00:00:00Z"), "malformed"),
    ("expires-without-zone", "a time without a zone", _signed(expires="2026-02-03T00:00:00"), "malformed"),
    ("array", "the payload is an array", sealed(ROOT_TYPE, b"[%s]" % compact(PAYLOAD), *BOTH), "malformed"),
]  # fmt: skip


def roots() -> tuple[dict[str, Any], list[Vector]]:
    """Return what is given, and the vectors."""
    one = {**PAYLOAD, "root": _role("root-a")}
    anyway = forged(ROOT_TYPE, compact(one), "root-a", "release-a", MANIFEST_TYPE)
    codes = {"accepted": "accepted", "signature_invalid": "not_signed_by_old"}
    return GIVEN, [
        *(Vector(*each) for each in _RULES),
        *(Vector(f"envelope-{each.name}", each.changed, each.envelope, codes[each.expected], _ONE) for each in anyway),
    ]

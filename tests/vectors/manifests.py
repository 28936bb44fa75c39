# ruff: noqa: E501 - a vector is one line, which is read across
"""Vectors of manifests."""

import base64
import hashlib
from typing import Any

from schemas.dsse import GRANT_TYPE, MANIFEST_TYPE
from tests.core.trust_roots import public
from tests.vectors.making import REMOVED, Vector, changed, compact, encode64, forged, incomplete, sealed, tampered

ARCHIVE = base64.b64decode(
    "H4sIAAAAAAAC/+3TPQ6DMAxAYc89BVUPEAcSch5AassSED/3J2JBAnUEqeJ9iy0vnl7V92aYo5xJk+D9OpP9VLX5tq/3kHuVTOUC8zhVQ3op9/R6"
    "mrqNZvw+BDfUdPHdfkxzdv+lc7/710P/hQv0fwVL9wAAAAAAAAAAAAAAAH9tAZrB1egAKAAA"
)
"""A real one, with app/run and config/c."""
GIVEN: dict[str, Any] = {
    "device": {"arch": "aarch64", "device_type": "pi4"},
    "serving": {"version": "1.0.0", "release_counter": 100},
    "order": {"release": "app-1.1.0", "version": "1.1.0"},
    "ordered_sha256": None,
    "root": {
        "release": {"keys": [public("release-a"), public("release-b")], "threshold": 1},
        "revoked": [],
        "release_counter_min": 0,
    },
    "archive_base64": encode64(ARCHIVE),
}
"""``ordered_sha256`` is the digest of the manifest in the order; null for that of the envelope."""


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _root(*revoked: str, counter_min: int = 0, threshold: int = 1, keys: tuple[str, ...] = ("release-a", "release-b")) -> dict[str, Any]:  # fmt: skip
    release = {"keys": [public(name) for name in keys], "threshold": threshold}
    return {"root": {"release": release, "revoked": list(revoked), "release_counter_min": counter_min}}


_FILES = [
    {"path": "app/run", "size_bytes": 10, "mode": 0o755, "sha256": _sha256(b"#!/bin/sh\n")},
    {"path": "config/c", "size_bytes": 2, "mode": 0o644, "sha256": _sha256(b"1\n")},
]
_ARTIFACT: dict[str, Any] = {
    "sha256": _sha256(ARCHIVE),
    "size_bytes": len(ARCHIVE),
    "arch": "aarch64",
    "format": "tar.gz",
}
PAYLOAD: dict[str, Any] = {
    "release": "app-1.1.0",
    "target_version": "1.1.0",
    "release_counter": 110,
    "artifact": _ARTIFACT,
    "files": _FILES,
    "command": ["app/run"],
    "device_types": ["pi4"],
    "allowed_from": ["1.0.0"],
}
_OTHERS = {
    "release": "app-1.1.1", "target_version": "1.1.1", "release_counter": 111, "artifact": {**_ARTIFACT, "arch": "noarch"},
    "files": _FILES[:1], "command": ["app/other"], "device_types": [], "allowed_from": [],
}  # fmt: skip
_REQUIRED = ("release", "target_version", "release_counter", "artifact", "files", "command")


def _signed(*names: str, **changes: Any) -> bytes:  # noqa: ANN401 - JSON
    return sealed(MANIFEST_TYPE, compact(changed(PAYLOAD, **changes)), *(names or ("release-a",)))


def _with_file(**changes: Any) -> bytes:  # noqa: ANN401 - JSON
    return _signed(files=[changed(_FILES[0], **changes), _FILES[1]])


def _with_artifact(**changes: Any) -> bytes:  # noqa: ANN401 - JSON
    return _signed(artifact=changed(_ARTIFACT, **changes))


def _written(old: str, new: str) -> bytes:
    text = compact(PAYLOAD).decode()
    assert old in text
    return sealed(MANIFEST_TYPE, text.replace(old, new, 1).encode(), "release-a")


_FIT: list[tuple[str, str, bytes, str, dict[str, Any]]] = [
    ("unchanged", "nothing", _signed(), "accepted", {}),
    ("noarch", "for any architecture", _with_artifact(arch="noarch"), "accepted", {}),
    ("any-type", "for any device type", _signed(device_types=[]), "accepted", {}),
    ("one-of-the-types", "for several types", _signed(device_types=["pi5", "pi4"]), "accepted", {}),
    ("from-any", "from any version", _signed(allowed_from=[]), "accepted", {}),
    ("from-several", "from several versions", _signed(allowed_from=["0.9.0", "1.0.0"]), "accepted", {}),
    ("same-counter", "the counter of what serves", _signed(release_counter=100), "accepted", {}),
    ("older-fields", "without the fields that may be missing", _signed(device_types=REMOVED, allowed_from=REMOVED), "accepted", {}),
    ("two-of-two", "two keys must sign and did", _signed("release-a", "release-b"), "accepted", _root(threshold=2)),
    ("second-key", "the other key of the role", _signed("release-b"), "accepted", {}),
    ("revoked-is-another", "another release is revoked", _signed(), "accepted", _root("app-1.1.1", "app-1.1")),
    ("counter-at-least", "exactly the lowest counter", _signed(), "accepted", _root(counter_min=110)),
    ("one-of-two", "two keys must sign, one did", _signed("release-a"), "signature_invalid", _root(threshold=2)),
    ("one-key-twice", "two keys must sign, one did it twice", _signed("release-a", "release-a"), "signature_invalid",
     _root(threshold=2)),
    ("one-and-a-stranger", "two keys must sign, one and a stranger did", _signed("release-a", "stranger"), "signature_invalid",
     _root(threshold=2)),
    ("one-and-another-role", "two keys must sign, one and a root key did", _signed("release-a", "root-a"), "signature_invalid",
     _root(threshold=2)),
    ("key-removed", "the root does not list its key any more", _signed("release-a"), "signature_invalid",
     _root(keys=("release-b",))),
    ("other-digest", "another digest is ordered", _signed(), "checksum_mismatch", {"ordered_sha256": "0" * 64}),
    ("other-release", "of another release", _signed(release="app-1.1.0-evil"), "version_mismatch", {}),
    ("other-version", "of another version", _signed(target_version="1.1.1"), "version_mismatch", {}),
    ("other-arch", "for another architecture", _with_artifact(arch="x86_64"), "arch_mismatch", {}),
    ("other-type", "for another device type", _signed(device_types=["pi5"]), "device_type_mismatch", {}),
    ("type-begins-alike", "for a type that begins like ours", _signed(device_types=["pi", "pi40"]), "device_type_mismatch", {}),
    ("from-another", "may replace another version", _signed(allowed_from=["0.9.0"]), "not_allowed_from", {}),
    ("from-begins-alike", "may replace a version that begins like ours", _signed(allowed_from=["1.0", "1.0.0.1"]),
     "not_allowed_from", {}),
    ("from-nothing", "may replace 1.0.0, and nothing serves", _signed(), "not_allowed_from", {"serving": None}),
    ("downgrade", "a counter below that of what serves", _signed(release_counter=99), "downgrade", {}),
    ("downgrade-to-zero", "counter 0", _signed(release_counter=0), "downgrade", {}),
    ("revoked", "its release is revoked", _signed(), "revoked", _root("app-1.1.0")),
    ("revoked-signed-again", "revoked, and signed again by another key", _signed("release-b"), "revoked", _root("app-1.1.0")),
    ("revoked-by-counter", "its counter is below the lowest", _signed(), "revoked", _root(counter_min=111)),
    ("archive-size", "another size of the archive", _with_artifact(size_bytes=len(ARCHIVE) + 1), "size_mismatch", {}),
    ("archive-digest", "the archive has another digest", _with_artifact(sha256="0" * 64), "checksum_mismatch", {}),
    ("file-digest", "a file has another digest", _with_file(sha256="0" * 64), "archive_invalid", {}),
    ("file-size", "a file is longer", _with_file(size_bytes=11), "archive_invalid", {}),
    ("file-mode", "a file has another mode", _with_file(mode=0o644), "archive_invalid", {}),
    ("file-name", "a file has another name", _with_file(path="app/ran"), "archive_invalid", {}),
    ("file-missing", "a file is in the archive only", _signed(files=_FILES[:1]), "archive_invalid", {}),
    ("files-swapped", "the files stand in another order", _signed(files=_FILES[::-1]), "archive_invalid", {}),
    ("first-version", "wrong in everything: the version is proven first",
     _signed(target_version="9", artifact={**_ARTIFACT, "arch": "x86_64"}, device_types=["x"], allowed_from=["0"], release_counter=0),
     "version_mismatch", _root("app-1.1.0")),
    ("then-arch", "then the architecture",
     _signed(artifact={**_ARTIFACT, "arch": "x86_64"}, device_types=["x"], allowed_from=["0"], release_counter=0),
     "arch_mismatch", _root("app-1.1.0")),
    ("then-type", "then the type", _signed(device_types=["x"], allowed_from=["0"], release_counter=0), "device_type_mismatch",
     _root("app-1.1.0")),
    ("then-from", "then what it may replace", _signed(allowed_from=["0"], release_counter=0), "not_allowed_from",
     _root("app-1.1.0")),
    ("then-counter", "then the counter", _signed(release_counter=0), "downgrade", _root("app-1.1.0")),
    ("then-revoked", "then the revocation, and the archive last", _with_artifact(sha256="0" * 64), "revoked",
     _root("app-1.1.0")),
]  # fmt: skip
_MALFORMED: list[tuple[str, str, bytes]] = [
    ("unknown-field", "a field that nobody knows", _signed(post_install="rm -rf /")),
    ("unknown-field-of-a-file", "a field of a file that nobody knows", _with_file(owner="root")),
    ("release-twice", "release stands twice", _written('{"release":', '{"release":"app-9","release":')),
    (
        "version-twice",
        "target_version stands twice",
        _written('"target_version":', '"target_version":"9","target_version":'),
    ),
    ("counter-text", "the counter is a text", _signed(release_counter="110")),
    ("counter-fraction", "the counter is 110.0", _signed(release_counter=110.0)),
    ("counter-negative", "the counter is negative", _signed(release_counter=-1)),
    ("counter-2-53", "the counter is 2^53", _signed(release_counter=2**53)),
    ("counter-2-63", "the counter is 2^63", _signed(release_counter=2**63)),
    ("counter-nan", "the counter is NaN", _written('"release_counter":110', '"release_counter":NaN')),
    ("format-zip", "an archive of another format", _with_artifact(format="zip")),
    ("digest-in-capitals", "a digest in capitals", _with_artifact(sha256=_ARTIFACT["sha256"].upper())),
    ("archive-empty", "an archive of no bytes", _with_artifact(size_bytes=0)),
    ("path-up", "a path with ..", _with_file(path="app/../../etc/passwd")),
    ("path-absolute", "an absolute path", _with_file(path="/etc/passwd")),
    ("path-elsewhere", "a path outside of the three folders", _with_file(path="state/record.json")),
    ("path-marker", "the slot's own marker", _with_file(path=".verified")),
    ("path-newline", "a line break in a path", _with_file(path="app/run\n")),
    ("path-nul", "a NUL in a path", _with_file(path="app/run\0")),
    ("path-twice", "a path stands twice", _with_file(path="config/c")),
    ("path-case", "two paths differ only in case", _with_file(path="config/C")),
    ("path-within-a-file", "a file lies in a file", _with_file(path="config/c/d")),
    ("path-deep", "a path of 17 segments", _with_file(path="app" + "/a" * 16)),
    ("mode-setuid", "a file with setuid", _with_file(mode=0o4755)),
    ("mode-writable", "a file that all may write", _with_file(mode=0o777)),
    ("file-negative", "a file of a negative size", _with_file(size_bytes=-1)),
    ("no-files", "no files", _signed(files=[])),
    ("no-command", "an empty command", _signed(command=[])),
    ("command-text", "the command is a text", _signed(command="app/run")),
    ("types-text", "device_types is a text", _signed(device_types="pi4")),
    ("from-null", "allowed_from is null", _signed(allowed_from=None)),
    ("release-slash", "a slash in the release", _signed(release="../app-1.1.0")),
    ("array", "the payload is an array", sealed(MANIFEST_TYPE, b"[%s]" % compact(PAYLOAD), "release-a")),
    ("nothing", "the payload is empty", sealed(MANIFEST_TYPE, b"", "release-a")),
]


def manifests() -> tuple[dict[str, Any], list[Vector]]:
    """Return what is given, and the vectors."""
    return GIVEN, [
        *(Vector(*each[:4], each[4]) for each in _FIT),
        *(Vector(*each, "manifest_invalid") for each in _MALFORMED),
        *incomplete(MANIFEST_TYPE, PAYLOAD, "release-a", _REQUIRED, "manifest_invalid"),
        *tampered(MANIFEST_TYPE, PAYLOAD, "release-a", _OTHERS),
        *(_renamed(each) for each in forged(MANIFEST_TYPE, compact(PAYLOAD), "release-a", "command", GRANT_TYPE)),
    ]


def _renamed(vector: Vector) -> Vector:
    return Vector(f"envelope-{vector.name}", vector.changed, vector.envelope, vector.expected, vector.given)

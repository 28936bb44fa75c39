# ruff: noqa: ANN401 - builders take a value for any field
"""Trust roots from keys that are the same every time."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.codec import TRUST, encode
from schemas.dsse import add_signature, write_envelope
from schemas.messages import TrustDocument
from schemas.trust import ROOT_TYPE, Role, Root


def key(name: str) -> Ed25519PrivateKey:
    """The key of that name; names are at most 32 letters."""
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


def public(name: str) -> str:
    return key(name).public_key().public_bytes_raw().hex()


def role(*names: str, threshold: int = 1) -> Role:
    return Role(keys=tuple(map(public, names)), threshold=threshold)


def make_root(version: int = 1, **changes: Any) -> Root:
    """Two of three root keys, one of two release keys, and the command key."""
    values: dict[str, Any] = {
        "version": version,
        "root": role("root-a", "root-b", "root-c", threshold=2),
        "release": role("release-a", "release-b"),
        "command": role("command"),
    }
    return Root(**{**values, **changes})


def signed(root: Root, *names: str) -> bytes:
    return sign_payload(encode(root), *names)


def sign_payload(payload: bytes, *names: str, kind: str = ROOT_TYPE) -> bytes:
    envelope = write_envelope(kind, payload, ())
    for name in names:
        envelope = add_signature(envelope, kind, key(name), TRUST)
    return envelope


def document(first: int, *envelopes: bytes) -> TrustDocument:
    return TrustDocument(first=first, roots=tuple(each.decode() for each in envelopes))

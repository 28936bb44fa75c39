"""Signed documents: the DSSE envelope with Ed25519.

Verify raw bytes first, parse after, and parse exactly what was verified. The payload type is bound into the
signature, so a manifest can never be taken for a grant. There is one algorithm and no field to choose it; a key id is
only a hint.

Source:
    Dead Simple Signing Envelope 1.0 (secure-systems-lab/dsse), section "Signature Definition"; RFC 8032.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.codec import MESSAGE, Bounds, decode_object
from schemas.ed25519 import verify
from schemas.errors import DecodeError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MANIFEST_TYPE: Final = "application/vnd.tidegate.manifest+json"
GRANT_TYPE: Final = "application/vnd.tidegate.grant+json"
MEDIA_ORDER_TYPE: Final = "application/vnd.tidegate.media-order+json"
SIGNATURES_MAX: Final = 16
"""So many signatures of an envelope are read: those of two roles of a trust root."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of an envelope, and whose it claims to be."""

    key_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope taken apart; nobody has verified it."""

    payload: bytes
    signatures: tuple[Signature, ...]


def key_id(public_key: bytes) -> str:
    """Return the hint that stands in an envelope for a raw 32-byte public key: 16 hex digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: type and payload, each with its length."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, key: "Ed25519PrivateKey") -> bytes:
    """Sign ``payload`` and return the envelope, the same bytes for the same input."""
    return write_envelope(payload_type, payload, [_sign(payload_type, payload, key)])


def write_envelope(payload_type: str, payload: bytes, signatures: Iterable[Signature]) -> bytes:
    """Return an envelope with ``signatures``; without any it is a draft that nobody accepts."""
    envelope = {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": each.key_id, "sig": base64.b64encode(each.data).decode()} for each in signatures],
    }
    return json.dumps(envelope, separators=(",", ":")).encode()


def add_signature(envelope: bytes, payload_type: str, key: "Ed25519PrivateKey", bounds: Bounds = MESSAGE) -> bytes:
    """Return ``envelope`` with a signature of ``key`` beside those that are there; one by the same key is replaced.

    Raises:
        SignatureError: No envelope of that type.
    """
    opened = read_envelope(payload_type, envelope, bounds)
    signature = _sign(payload_type, opened.payload, key)
    others = [each for each in opened.signatures if each.key_id != signature.key_id]
    return write_envelope(payload_type, opened.payload, [*others, signature])


def read_envelope(payload_type: str, envelope: bytes, bounds: Bounds = MESSAGE) -> Envelope:
    """Take an envelope apart; nothing in it is verified, and its payload must not be parsed yet.

    Raises:
        SignatureError: No envelope, or one of another type; the sender's fault.
    """
    try:
        tree = decode_object(envelope, bounds)
        payload = _decode_base64(tree["payload"])
        signatures = tuple(
            Signature(str(entry.get("keyid", ""))[:80], _decode_base64(entry["sig"]))
            for entry in tree["signatures"][:SIGNATURES_MAX]
        )
        claimed_type = tree["payloadType"]
    except (DecodeError, KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        raise SignatureError(f"no signed envelope: {error}") from error
    if claimed_type != payload_type:
        raise SignatureError(f"signed as {str(claimed_type)[:80]!r}, expected {payload_type!r}")
    return Envelope(payload, signatures)


def unseal(
    payload_type: str,
    envelope: bytes,
    trusted_keys: Iterable[bytes],
    bounds: Bounds = MESSAGE,
    *,
    threshold: int = 1,
) -> bytes:
    """Return the payload that ``threshold`` of ``trusted_keys`` signed as ``payload_type``.

    Args:
        payload_type: The only type that is accepted.
        envelope: As received.
        trusted_keys: Raw 32-byte Ed25519 public keys; one that stands there twice counts once.
        bounds: What the envelope may cost; the size is checked before parsing.
        threshold: How many different keys must have signed, 1 or more.

    Raises:
        SignatureError: No envelope, another type, or too few signatures of trusted keys; the sender's fault.
    """
    assert threshold >= 1, "what nobody signed is never accepted"
    opened = read_envelope(payload_type, envelope, bounds)
    signed_by = len(signers(payload_type, opened, trusted_keys))
    if signed_by >= threshold:
        return opened.payload
    if signed_by == 0:
        raise SignatureError("no signature of a trusted key")
    raise SignatureError(f"signed by {signed_by} trusted keys, {threshold} are needed")


def signers(payload_type: str, opened: Envelope, keys: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return those of ``keys`` that signed, each once."""
    message = pre_authentication_encoding(payload_type, opened.payload)
    return tuple(
        raw for raw in dict.fromkeys(keys) if any(verify(raw, each.data, message) for each in opened.signatures)
    )


def _sign(payload_type: str, payload: bytes, key: "Ed25519PrivateKey") -> Signature:
    data = key.sign(pre_authentication_encoding(payload_type, payload))
    return Signature(key_id(key.public_key().public_bytes_raw()), data)


def _decode_base64(text: str) -> bytes:
    """Read the one standard form of base64: padded, and without bits that say nothing."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("base64 in another than its standard form")
    return data

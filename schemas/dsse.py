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
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.codec import MESSAGE, Bounds, decode_object
from schemas.errors import DecodeError, SignatureError

MANIFEST_TYPE: Final = "application/vnd.tidegate.manifest+json"
GRANT_TYPE: Final = "application/vnd.tidegate.grant+json"


def key_id(public_key: bytes) -> str:
    """Return the hint that stands in an envelope for a raw 32-byte public key: 16 hex digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: type and payload, each with its length."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """Sign ``payload`` and return the envelope, the same bytes for the same input."""
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    envelope = {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {
                "keyid": key_id(key.public_key().public_bytes_raw()),
                "sig": base64.b64encode(signature).decode(),
            }
        ],
    }
    return json.dumps(envelope, separators=(",", ":")).encode()


def unseal(payload_type: str, envelope: bytes, trusted_keys: Iterable[bytes], bounds: Bounds = MESSAGE) -> bytes:
    """Return the payload that one of ``trusted_keys`` signed as ``payload_type``.

    Args:
        payload_type: The only type that is accepted.
        envelope: As received.
        trusted_keys: Raw 32-byte Ed25519 public keys.
        bounds: What the envelope may cost; the size is checked before parsing.

    Raises:
        SignatureError: No envelope, another type, or no signature of a trusted key; the sender's fault.
    """
    try:
        tree = decode_object(envelope, bounds)
        payload = base64.b64decode(tree["payload"], validate=True)
        signatures = [base64.b64decode(entry["sig"], validate=True) for entry in tree["signatures"][:8]]
        claimed_type = tree["payloadType"]
    except (DecodeError, KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        raise SignatureError(f"no signed envelope: {error}") from error
    if claimed_type != payload_type:
        raise SignatureError(f"signed as {str(claimed_type)[:80]!r}, expected {payload_type!r}")
    message = pre_authentication_encoding(payload_type, payload)
    for raw_key in trusted_keys:
        key = Ed25519PublicKey.from_public_bytes(raw_key)
        if any(_is_valid(key, signature, message) for signature in signatures):
            return payload
    raise SignatureError("no signature of a trusted key")


def _is_valid(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True

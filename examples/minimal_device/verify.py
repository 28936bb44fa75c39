# ruff: noqa: D103 - named as in RFC 8032
"""What must be verified before it is believed: artifacts by digest, grants by signature, orders by target.

Ed25519 is in pure Python, some milliseconds for a signature. A device with a crypto library uses that instead, for
example libsodium's ``crypto_sign_verify_detached``.
"""

import binascii
import hashlib
import json
import urllib.request
from typing import Any

GRANT_TYPE = "application/vnd.tidegate.grant+json"
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int, int]  # of edwards25519, as x, y, z, xy/z (RFC 8032, section 5.1.4)


def add(p: Point, q: Point) -> Point:
    a, b, c, d = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0]), 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar: int, point: Point) -> Point:
    total: Point = (0, 1, 1, 0)
    while scalar:
        total, point, scalar = add(total, point) if scalar & 1 else total, add(point, point), scalar >> 1
    return total


def decompress(data: bytes) -> Point:
    y, sign = int.from_bytes(data, "little") % 2**255, data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    x = root if root * root % P == square else root * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        raise ValueError("no point of the curve")
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


def is_signed(key: bytes, signature: bytes, message: bytes) -> bool:
    """Verify Ed25519 (RFC 8032, section 5.1.7), strictly: one signature, one encoding."""
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= L:  # noqa: PLR2004 - RFC 8032
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    minus_key = multiply(L - h, decompress(key))
    x, y, z, _ = add(multiply(s, decompress(bytes.fromhex("58" + "66" * 31))), minus_key)
    x, y = x * pow(z, -1, P) % P, y * pow(z, -1, P) % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


def unseal(kind: str, envelope: bytes, key: bytes) -> bytes:
    """Return the payload that ``key`` signed as ``kind``; a ValueError, KeyError or TypeError if it did not."""
    tree = json.loads(envelope)
    payload = binascii.a2b_base64(tree["payload"])
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    signatures = [binascii.a2b_base64(entry["sig"]) for entry in tree["signatures"][:4]]
    if tree["payloadType"] != kind or not any(is_signed(key, each, message) for each in signatures):
        raise ValueError("not signed with the command key")
    return payload


def open_grant(
    payload: bytes, key: bytes, asked: tuple[object, ...], marks: tuple[int, int], age_seconds: float
) -> Any:  # noqa: ANN401
    """Return the grant if it is the answer to what was asked, for the first time and in time; else a ValueError."""
    grant = json.loads(unseal(GRANT_TYPE, payload, key))
    if tuple(grant[name] for name in ("device", "generation", "step", "nonce", "desired_sha256")) != asked:
        raise ValueError("it answers another question")
    if (grant["epoch"], grant["seq"]) <= marks:
        raise ValueError("repeated")
    if age_seconds > grant["ttl_seconds"]:
        raise ValueError("too late")
    return grant


def fetch(file: dict[str, Any], urls: list[str]) -> None:
    """Fetch and verify; blocks, so a device with a slow link reads a block between two turns of its loop."""
    digest, size_bytes = hashlib.sha256(), 0
    with urllib.request.urlopen(urls[0], timeout=20) as response:  # noqa: S310 - what it is, its digest says
        while (block := response.read(65536)) and size_bytes <= file["size_bytes"]:
            digest.update(block)
            size_bytes += len(block)
    if (size_bytes, digest.hexdigest()) != (file["size_bytes"], file["sha256"]):
        raise ValueError(f"{urls[0]} sent other bytes than were ordered")


def target(desired: dict[str, Any]) -> tuple[object, ...]:
    """Return what the same order written anew must not change."""
    artifact = desired.get("artifact") or {}
    return *(desired.get(name) for name in ("action", "release", "version")), artifact.get("sha256")

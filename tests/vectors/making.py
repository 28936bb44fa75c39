# ruff: noqa: ANN401, E501 - JSON; a vector is one line, which is read across
"""What vectors are made of: keys that are the same every time, and envelopes that can be wrong in any way."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.dsse import pre_authentication_encoding
from tests.core.trust_roots import key

REMOVED = object()
"""In place of a value: the field is not there."""
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's base point."""


@dataclass(frozen=True)
class Vector:
    """One envelope, what is changed about it, and what a device must make of it.

    Attributes:
        name: Of the vector.
        changed: In words.
        envelope: As received.
        expected: ``accepted``, or the code of the refusal.
        given: What differs from what is given for all vectors of the kind.
    """

    name: str
    changed: str
    envelope: bytes
    expected: str
    given: Mapping[str, Any] = field(default_factory=dict)

    def as_object(self) -> dict[str, Any]:
        """Write the envelope as text if it is one, and spaces at its end by their number."""
        bare = self.envelope.rstrip(b" ")
        try:
            written = {"envelope": bare.decode()}
        except UnicodeDecodeError:
            written = {"envelope_base64": encode64(bare)}
        return {
            "name": self.name,
            "changed": self.changed,
            "expected": self.expected,
            **({"given": dict(self.given)} if self.given else {}),
            **written,
            **({"spaces_behind": len(self.envelope) - len(bare)} if bare != self.envelope else {}),
        }


def encode64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def compact(tree: Any) -> bytes:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()


def changed(tree: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**tree, **changes}.items() if value is not REMOVED}


def signature(name: str, kind: str, payload: bytes, *, pae: bool = True) -> dict[str, str]:
    signer = key(name)
    message = pre_authentication_encoding(kind, payload) if pae else payload
    return {"keyid": name, "sig": encode64(signer.sign(message))}


def sealed(kind: str, payload: bytes, /, *names: str, **changes: Any) -> bytes:
    """Return an envelope signed by ``names``; ``changes`` replace fields of it afterwards."""
    signatures = [signature(name, kind, payload) for name in names]
    return compact(changed({"payloadType": kind, "payload": encode64(payload), "signatures": signatures}, **changes))


def forged(kind: str, payload: bytes, name: str, other: str, type_of_others: str) -> list[Vector]:
    """Return the ways in which an envelope of any kind can be wrong, whoever must have signed it.

    Args:
        kind: Its payload type.
        payload: What would be accepted.
        name: Whose signature counts.
        other: Somebody whose signature counts for something else.
        type_of_others: What he signs.
    """
    good, text = sealed(kind, payload, name), encode64(payload)
    (signed,) = json.loads(good)["signatures"]
    raw = base64.b64decode(signed["sig"])
    larger_s = raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
    padded = payload + b" " * ((2 - len(payload)) % 3)  # so that its base64 ends with one sign of padding
    last = encode64(padded)
    loose = last[:-2] + chr(ord(last[-2]) + 1) + last[-1]

    def with_payload(written: str) -> bytes:
        return sealed(kind, padded, name, payload=written)

    def with_signature(data: bytes) -> bytes:
        return sealed(kind, payload, name, signatures=[{**signed, "sig": encode64(data)}])

    def with_signatures(*signatures: Any) -> bytes:
        return sealed(kind, payload, name, signatures=list(signatures))

    bad = {"keyid": "", "sig": encode64(bytes(64))}
    cases: list[tuple[str, str, bytes]] = [
        ("unsigned", "no signature", with_signatures()),
        ("stranger", "signed by a key that nobody trusts", sealed(kind, payload, "stranger")),
        ("other-role", "signed by a key that is trusted for something else", sealed(kind, payload, other)),
        ("rotated-away", "signed by a key that a newer root does not list", sealed(kind, payload, "rotated-away")),
        ("key-id-lies", "signed by a stranger under the key id of a trusted key",
         with_signatures({**signature("stranger", kind, payload), "keyid": name})),
        ("other-type", "signed as another type", sealed(type_of_others, payload, name)),
        ("relabelled", "signed as another type, and the type changed", sealed(type_of_others, payload, name, payloadType=kind)),
        ("no-type", "payloadType is missing", sealed(kind, payload, name, payloadType=REMOVED)),
        ("type-in-capitals", "payloadType in capitals", sealed(kind, payload, name, payloadType=kind.upper())),
        ("type-null", "payloadType is null", sealed(kind, payload, name, payloadType=None)),
        ("no-pae", "the payload was signed without its type and length",
         with_signatures(signature(name, kind, payload, pae=False))),
        ("zero-signature", "a signature of 64 zeros", with_signature(bytes(64))),
        ("short-signature", "a signature of 63 bytes", with_signature(raw[:-1])),
        ("long-signature", "a signature of 65 bytes", with_signature(raw + b"\0")),
        ("empty-signature", "a signature of no bytes", with_signature(b"")),
        ("malleable-signature", "the group's order added to S", with_signature(larger_s)),
        ("flipped-bit", "one bit of the signature differs", with_signature(bytes([raw[0] ^ 1]) + raw[1:])),
        ("signature-of-another", "the signature of another payload",
         with_signatures(signature(name, kind, payload + b" "))),
        ("seventeenth", "the good signature comes after sixteen bad ones", with_signatures(*[bad] * 16, signed)),
        ("signature-null", "the signature is null", with_signatures({"keyid": name, "sig": None})),
        ("signature-text", "the signature is no object", with_signatures(signed["sig"])),
        ("signatures-object", "signatures is an object", sealed(kind, payload, name, signatures={"0": signed})),
        ("no-signatures", "signatures is missing", sealed(kind, payload, name, signatures=REMOVED)),
        ("no-payload", "payload is missing", sealed(kind, payload, name, payload=REMOVED)),
        ("payload-number", "payload is a number", sealed(kind, payload, name, payload=7)),
        ("payload-object", "payload is the document itself", sealed(kind, payload, name, payload=json.loads(payload))),
        ("payload-truncated", "the last bytes of the payload are missing", sealed(kind, payload, name, payload=encode64(payload[:-3]))),
        ("payload-extended", "a space behind the payload", sealed(kind, payload, name, payload=encode64(payload + b" "))),
        ("base64-unpadded", "base64 without its padding", with_payload(last.rstrip("="))),
        ("base64-newline", "base64 with a line break", with_payload(last[:8] + "\n" + last[8:])),
        ("base64-loose-bits", "base64 with bits that say nothing", with_payload(loose)),
        ("base64-twice", "base64 of base64", with_payload(encode64(text.encode()))),
        ("envelope-truncated", "the last byte of the envelope is missing", good[:-1]),
        ("envelope-extended", "a byte behind the envelope", good + b"x"),
        ("envelope-twice", "two envelopes in a row", good + good),
        ("envelope-array", "an array around the envelope", b"[" + good + b"]"),
        ("payload-twice-in-envelope", "the key payload stands twice", good[:-1] + b',"payload":"%s"}' % text.encode()),
        ("not-utf-8", "a byte that is no UTF-8", good.replace(b'"keyid":"', b'"keyid":"\xff', 1)),
        ("empty", "no bytes", b""),
        ("too-large", "spaces up to more than any bound", good + b" " * (9 * 1024 * 1024 if "manifest" in kind else 70_000)),
    ]  # fmt: skip
    accepted: list[tuple[str, str, bytes]] = [
        ("key-id-empty", "the key id is only a hint", with_signatures({**signed, "keyid": ""})),
        ("key-id-missing", "and may be missing", with_signatures({"sig": signed["sig"]})),
        ("envelope-field", "a field of the envelope that nobody knows", sealed(kind, payload, name, note="x")),
        ("envelope-spaces", "spaces in the envelope", json.dumps(json.loads(good), indent=1).encode()),
        ("sixteenth", "fifteen bad signatures before the good one", with_signatures(*[bad] * 15, signed)),
    ]
    return [
        *(Vector(each, words, envelope, "signature_invalid") for each, words, envelope in cases),
        *(Vector(each, words, envelope, "accepted") for each, words, envelope in accepted),
    ]


def tampered(kind: str, payload: Mapping[str, Any], name: str, others: Mapping[str, Any]) -> list[Vector]:
    """Return for each field an envelope in which it was changed after it was signed."""
    (signed,) = json.loads(sealed(kind, compact(payload), name))["signatures"]
    return [
        Vector(
            f"tampered-{each}",
            f"{each} changed after signing",
            sealed(kind, compact({**payload, each: value}), signatures=[signed]),
            "signature_invalid",
        )
        for each, value in others.items()
    ]


def incomplete(kind: str, payload: Mapping[str, Any], name: str, required: tuple[str, ...], code: str) -> list[Vector]:
    """Return for each required field an envelope that was signed without it."""
    return [
        Vector(f"without-{each}", f"signed without {each}", sealed(kind, compact(changed(payload, **{each: REMOVED})), name), code)
        for each in required
    ]  # fmt: skip

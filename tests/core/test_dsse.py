import base64
import json
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Bounds
from schemas.dsse import (
    GRANT_TYPE,
    MANIFEST_TYPE,
    add_signature,
    key_id,
    pre_authentication_encoding,
    read_envelope,
    seal,
    unseal,
    write_envelope,
)
from schemas.errors import SignatureError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw()
OTHER_PUBLIC = OTHER.public_key().public_bytes_raw()
SEALED = seal(GRANT_TYPE, b'{"go":1}', KEY)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    tree = json.loads(SEALED)
    change(tree)
    return json.dumps(tree).encode()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_what_was_sealed_comes_back() -> None:
    assert unseal(GRANT_TYPE, SEALED, [PUBLIC]) == b'{"go":1}'


def test_sealing_is_repeatable() -> None:
    assert seal(GRANT_TYPE, b'{"go":1}', KEY) == SEALED


def test_the_encoding_is_that_of_the_specification() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")

    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.update(payload=base64_of(b'{"go":2}')),
        lambda tree: tree.update(payload=tree["payload"][:-4]),
        lambda tree: tree.update(payload=tree["payload"] + "!"),
        lambda tree: tree.update(payload="{}"),
        lambda tree: tree.update(payload="é"),
        lambda tree: tree.update(payload=7),
        lambda tree: tree.pop("payload"),
        lambda tree: tree.update(payloadType=MANIFEST_TYPE),
        lambda tree: tree.update(payloadType=None),
        lambda tree: tree.pop("payloadType"),
        lambda tree: tree.update(signatures=[]),
        lambda tree: tree.update(signatures={}),
        lambda tree: tree.update(signatures="none"),
        lambda tree: tree.update(signatures=None),
        lambda tree: tree.update(signatures=[{}]),
        lambda tree: tree.update(signatures=["sig"]),
        lambda tree: tree["signatures"][0].update(sig=base64_of(bytes(64))),
        lambda tree: tree["signatures"][0].update(sig=base64_of(bytes(63))),
        lambda tree: tree["signatures"][0].update(sig=""),
        lambda tree: tree["signatures"][0].update(sig="%%%"),
        lambda tree: tree["signatures"][0].update(sig=None),
        lambda tree: tree.pop("signatures"),
    ],
)
def test_a_changed_envelope_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(SignatureError):
        unseal(GRANT_TYPE, changed(change), [PUBLIC])


@pytest.mark.parametrize(
    ("signers", "threshold", "is_enough"),
    [((KEY,), 1, True), ((KEY,), 2, False), ((KEY, OTHER), 2, True), ((KEY, STRANGER), 2, False), ((), 1, False)],
)
def test_as_many_different_keys_as_are_needed_must_sign(
    signers: tuple[Ed25519PrivateKey, ...],
    threshold: int,
    is_enough: bool,  # noqa: FBT001 - a case
) -> None:
    envelope = write_envelope(GRANT_TYPE, b"{}", ())
    for key in signers:
        envelope = add_signature(envelope, GRANT_TYPE, key)

    if is_enough:
        assert unseal(GRANT_TYPE, envelope, [PUBLIC, OTHER_PUBLIC], threshold=threshold) == b"{}"
    else:
        with pytest.raises(SignatureError):
            unseal(GRANT_TYPE, envelope, [PUBLIC, PUBLIC, OTHER_PUBLIC], threshold=threshold)


def test_the_same_key_counts_once_however_often_it_signs_or_is_trusted() -> None:
    twice = changed(lambda tree: tree.update(signatures=tree["signatures"] * 2))

    with pytest.raises(SignatureError, match="signed by 1 trusted keys, 2 are needed"):
        unseal(GRANT_TYPE, twice, [PUBLIC, PUBLIC], threshold=2)


def test_signing_again_replaces_the_signature_of_that_key_and_keeps_the_others() -> None:
    twice = add_signature(add_signature(SEALED, GRANT_TYPE, OTHER), GRANT_TYPE, KEY)

    assert [each.key_id for each in read_envelope(GRANT_TYPE, twice).signatures] == [
        key_id(OTHER_PUBLIC),
        key_id(PUBLIC),
    ]


@pytest.mark.parametrize("text", ["eyJnbyI6MX1=", "eyJnbyI6MX0", "eyJnbyI6MX0=\n", "eyJnbyI6MX0==", " eyJnbyI6MX0="])
def test_base64_has_one_form(text: str) -> None:
    with pytest.raises(SignatureError, match="no signed envelope"):
        unseal(GRANT_TYPE, changed(lambda tree: tree.update(payload=text)), [PUBLIC])


def test_a_manifest_is_never_taken_for_a_grant() -> None:
    as_manifest = seal(MANIFEST_TYPE, b'{"go":1}', KEY)
    relabelled = as_manifest.replace(MANIFEST_TYPE.encode(), GRANT_TYPE.encode())

    for envelope in (as_manifest, relabelled):
        with pytest.raises(SignatureError):
            unseal(GRANT_TYPE, envelope, [PUBLIC])


@pytest.mark.parametrize("trusted", [[], [OTHER_PUBLIC]])
def test_a_key_that_is_not_trusted_signs_nothing(trusted: list[bytes]) -> None:
    with pytest.raises(SignatureError, match="no signature of a trusted key"):
        unseal(GRANT_TYPE, SEALED, trusted)


def test_a_key_id_is_only_a_hint() -> None:
    for hint in ("", "0" * 16, key_id(OTHER_PUBLIC)):
        tree = json.loads(SEALED)
        tree["signatures"][0]["keyid"] = hint
        envelope = json.dumps(tree).encode()
        assert unseal(GRANT_TYPE, envelope, [OTHER_PUBLIC, PUBLIC]) == b'{"go":1}'


@pytest.mark.parametrize(("before", "is_read"), [(0, True), (15, True), (16, False), (500, False)])
def test_one_good_signature_of_the_first_sixteen_suffices(before: int, is_read: bool) -> None:  # noqa: FBT001 - a case
    bad = {"keyid": "", "sig": base64_of(bytes(64))}
    envelope = changed(lambda tree: tree.update(signatures=[bad] * before + tree["signatures"]))

    if is_read:
        assert unseal(GRANT_TYPE, envelope, [PUBLIC]) == b'{"go":1}'
    else:
        with pytest.raises(SignatureError):
            unseal(GRANT_TYPE, envelope, [PUBLIC])


@pytest.mark.parametrize("envelope", [b"", b"[]", b"{}", b"\x80", b"\x81\xa1a", SEALED[:-1], SEALED + b"x"])
def test_what_is_no_envelope_is_refused(envelope: bytes) -> None:
    with pytest.raises(SignatureError, match="no signed envelope"):
        unseal(GRANT_TYPE, envelope, [PUBLIC])


def test_an_envelope_may_travel_as_msgpack_and_is_verified_all_the_same() -> None:
    assert unseal(GRANT_TYPE, msgpack.packb(json.loads(SEALED)), [PUBLIC]) == b'{"go":1}'


def test_an_envelope_above_its_bounds_is_not_read() -> None:
    with pytest.raises(SignatureError, match="at most 10 are allowed"):
        unseal(GRANT_TYPE, SEALED, [PUBLIC], Bounds(10))


@given(st.integers(0, len(SEALED) - 1), st.integers(0, 255))
def test_no_changed_byte_yields_another_payload(place: int, byte: int) -> None:
    envelope = SEALED[:place] + bytes([byte]) + SEALED[place + 1 :]
    try:
        payload = unseal(GRANT_TYPE, envelope, [PUBLIC])
    except SignatureError:
        return
    assert payload == b'{"go":1}'

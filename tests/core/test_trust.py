import json
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.codec import encode
from schemas.errors import TrustError
from schemas.trust import KEYS_MAX, Root, follow, open_first, open_next
from tests.core.trust_roots import document, key, make_root, public, role, sign_payload, signed

FIRST = make_root()
SECOND = make_root(2, command=role("command-2"))


def test_first_root_is_believed_when_enough_of_its_own_keys_signed_it() -> None:
    assert open_first(signed(FIRST, "root-a", "root-c")) == FIRST


@pytest.mark.parametrize("names", [(), ("root-a",), ("root-a", "release-a"), ("root-a", "stranger")])
def test_first_root_is_refused_when_too_few_of_its_own_keys_signed_it(names: tuple[str, ...]) -> None:
    with pytest.raises(TrustError, match="its own root keys did not sign it"):
        open_first(signed(FIRST, *names))


def test_next_root_is_accepted_when_the_old_keys_and_its_own_signed_it() -> None:
    assert open_next(FIRST, signed(SECOND, "root-a", "root-b")) == SECOND


def test_root_keys_are_replaced_by_a_root_that_both_sets_signed() -> None:
    moved = make_root(2, root=role("new-a", "new-b", threshold=2))

    assert open_next(FIRST, signed(moved, "root-a", "root-b", "new-a", "new-b")) == moved
    with pytest.raises(TrustError, match="its own root keys did not sign it: signed by 1 trusted keys, 2 are needed"):
        open_next(FIRST, signed(moved, "root-a", "root-b", "new-a"))
    with pytest.raises(TrustError, match="root 1 did not sign it: no signature"):
        open_next(FIRST, signed(moved, "new-a", "new-b"))


def test_one_key_that_signs_twice_counts_once() -> None:
    once = json.loads(signed(SECOND, "root-a"))
    (signature,) = once["signatures"]
    once["signatures"] = [signature, {**signature, "keyid": "0" * 16}]

    with pytest.raises(TrustError, match="signed by 1 trusted keys"):
        open_next(FIRST, json.dumps(once).encode())


@pytest.mark.parametrize("version", [1, 3, 4])
def test_versions_grow_by_one_and_never_fall(version: int) -> None:
    with pytest.raises(TrustError, match=f"it is root {version}, and after 1 comes 2"):
        open_next(FIRST, signed(make_root(version), "root-a", "root-b"))


@pytest.mark.parametrize(
    "change",
    [
        {"nickname": "x"},
        {"version": "2"},
        {"version": 2.0},
        {"command": None},
        {"expires": "tomorrow"},
        {"expires": "2026-02-30T00:00:00Z"},
        {"revoked": ["../x"]},
    ],
)
def test_signed_bytes_that_are_no_root_are_refused(change: dict[str, Any]) -> None:
    payload = json.dumps({**json.loads(encode(SECOND)), **change}).encode()

    with pytest.raises(TrustError, match="no root"):
        open_next(FIRST, sign_payload(payload, "root-a", "root-b"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"release": role("root-a")}, "stands in two roles"),
        ({"command": role("release-a")}, "stands in two roles"),
        ({"command": role("command", "command-2", threshold=2)}, "threshold of command is 1"),
    ],
)
def test_roles_that_would_give_one_key_two_powers_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_root(**changes)


@pytest.mark.parametrize(("names", "threshold"), [(("a", "a"), 1), (("a",), 2), ((), 1), (tuple("abcdefghi"), 1)])
def test_role_that_cannot_be_met_or_counted_is_refused(names: tuple[str, ...], threshold: int) -> None:
    with pytest.raises(ValidationError):
        role(*names, threshold=threshold)


def test_all_keys_of_two_roles_fit_into_one_envelope() -> None:
    old, new = [[f"{side}-{number}" for number in range(KEYS_MAX)] for side in ("old", "new")]
    before = make_root(root=role(*old, threshold=KEYS_MAX))
    after = make_root(2, root=role(*new, threshold=KEYS_MAX))

    assert open_next(before, signed(after, *old, *new)) == after


def test_chain_is_followed_from_wherever_a_device_is() -> None:
    third = make_root(3, command=role("command-3"))
    chain = [signed(each, "root-a", "root-b") for each in (FIRST, SECOND, third)]

    assert follow(FIRST, document(1, *chain)) == (third, tuple(each.decode() for each in chain[1:]))
    assert follow(SECOND, document(2, *chain[1:]))[0] == third
    assert follow(third, document(1, *chain)) == (third, ())
    assert follow(third, document(1, *chain[:2])) == (third, ()), "an old document takes nothing back"


def test_chain_counts_as_a_whole_or_not_at_all() -> None:
    forged = signed(make_root(3), "stranger", "root-a")

    with pytest.raises(TrustError, match="root 2 did not sign it"):
        follow(FIRST, document(2, signed(SECOND, "root-a", "root-b"), forged))


def test_chain_that_begins_too_late_is_refused() -> None:
    third = signed(make_root(3), "root-a", "root-b")

    with pytest.raises(TrustError, match="it begins with root 3, and ours is 1"):
        follow(FIRST, document(3, third))
    with pytest.raises(TrustError, match="it is root 3, and after 1 comes 2"):
        follow(FIRST, document(2, third))


def test_release_is_revoked_by_its_name_or_by_a_counter_that_is_too_low() -> None:
    root = make_root(revoked=("app-1.1.0",), release_counter_min=100)

    assert root.revokes("app-1.1.0", 110)
    assert root.revokes("app-1.0.0", 99)
    assert not root.revokes("app-1.0.0", 100)


def test_root_expires_after_its_moment_and_never_without_one() -> None:
    root = make_root(expires="2026-11-29T00:00:00Z")

    assert [root.has_expired(now) for now in (0.0, 1795910400.0, 1795910400.5)] == [False, False, True]
    assert not make_root().has_expired(1e12)


def test_keys_of_the_bench_are_what_the_names_say() -> None:
    assert public("root-a") == key("root-a").public_key().public_bytes_raw().hex()
    assert isinstance(FIRST, Root)

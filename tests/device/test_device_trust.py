"""How a device keeps and follows its trust root."""

from pathlib import Path

import pytest

from device_client.adapters.trust import ROOTS, TrustRoot
from schemas.codec import encode
from schemas.dsse import GRANT_TYPE, MANIFEST_TYPE
from schemas.errors import DecodeError, SignatureError, TrustError
from schemas.messages import TrustDocument
from tests.core.trust_roots import document, make_root, role, sign_payload, signed

FIRST = make_root()
SECOND = make_root(2, command=role("command-2"), release=role("release-a", "release-b", threshold=2))
THIRD = make_root(3, command=role("command-3"))
CHAIN = tuple(signed(each, "root-a", "root-b") for each in (FIRST, SECOND, THIRD))
TO_SECOND, TO_THIRD = encode(document(1, *CHAIN[:2])), encode(document(1, *CHAIN))


def grant_by(name: str) -> bytes:
    return sign_payload(b"{}", name, kind=GRANT_TYPE)


def manifest_by(*names: str) -> bytes:
    return sign_payload(b"{}", *names, kind=MANIFEST_TYPE)


def test_rotation_changes_whose_grants_and_releases_count_at_once(tmp_path: Path) -> None:
    trust = TrustRoot(FIRST, tmp_path / ROOTS)
    assert trust.open_grant(grant_by("command")) == trust.open_manifest(manifest_by("release-b")) == b"{}"

    assert trust.learn(TO_SECOND) == SECOND

    assert trust.open_grant(grant_by("command-2")) == b"{}"
    assert trust.open_manifest(manifest_by("release-a", "release-b")) == b"{}"
    for refused in (grant_by("command"), grant_by("release-a"), manifest_by("release-a", "release-b")):
        with pytest.raises(SignatureError):
            trust.open_grant(refused)
    with pytest.raises(SignatureError, match="2 are needed"):
        trust.open_manifest(manifest_by("release-b"))


def test_both_command_keys_count_while_a_root_lists_both(tmp_path: Path) -> None:
    trust = TrustRoot(make_root(command=role("command", "command-2")), tmp_path / ROOTS)

    assert trust.open_grant(grant_by("command")) == trust.open_grant(grant_by("command-2")) == b"{}"


def test_newest_root_survives_a_restart(tmp_path: Path) -> None:
    TrustRoot(FIRST, tmp_path / ROOTS).learn(TO_SECOND)
    again = TrustRoot(FIRST, tmp_path / ROOTS)
    assert again.root == SECOND

    assert again.learn(TO_THIRD) == THIRD

    assert TrustRoot(FIRST, tmp_path / ROOTS).root == THIRD
    assert TrustRoot(FIRST, tmp_path / ROOTS).learn(TO_THIRD) is None, "nothing is new about it"


def test_root_never_falls_whatever_is_said_later(tmp_path: Path) -> None:
    trust = TrustRoot(FIRST, tmp_path / ROOTS)
    trust.learn(TO_THIRD)

    assert trust.learn(TO_SECOND) is None
    assert trust.learn(encode(document(1))) is None
    assert trust.root == THIRD


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{}",
        b"x" * 70_000,
        encode(document(3, CHAIN[2])),
        encode(document(2, CHAIN[2])),
        encode(document(2, CHAIN[1], signed(THIRD, "root-a"))),
        encode(TrustDocument(first=2, roots=("{}",))),
    ],
)
def test_bad_document_changes_nothing_in_memory_or_on_disk(tmp_path: Path, said: bytes) -> None:
    trust = TrustRoot(FIRST, tmp_path / ROOTS)

    with pytest.raises((DecodeError, TrustError)):
        trust.learn(said)

    assert trust.root == FIRST
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"", lambda b: b.replace(b"payload", b"paylaod", 1)])
def test_damaged_chain_takes_a_device_back_to_the_pinned_root_and_is_logged(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    TrustRoot(FIRST, tmp_path / ROOTS).learn(TO_THIRD)
    kept = tmp_path / ROOTS
    assert callable(damage)
    kept.write_bytes(damage(kept.read_bytes()))

    trust = TrustRoot(FIRST, kept)

    assert trust.root == FIRST
    assert "trust.damaged" in caplog.text
    assert trust.learn(TO_THIRD) == THIRD, "it comes again with the next connect"
    assert TrustRoot(FIRST, kept).root == THIRD


def test_chain_of_another_pinned_root_does_not_count(tmp_path: Path) -> None:
    TrustRoot(FIRST, tmp_path / ROOTS).learn(TO_THIRD)

    assert TrustRoot(make_root(root=role("other")), tmp_path / ROOTS).root.root == role("other")


def test_root_that_cannot_be_kept_is_in_force_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trust = TrustRoot(FIRST, tmp_path / "missing" / ROOTS)

    assert trust.learn(TO_SECOND) == SECOND
    assert "trust.not_kept" in caplog.text

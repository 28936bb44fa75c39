import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from orchestrator.adapters.keys import KeyFileError, create_keys, load_private, load_public


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_keys(tmp_path / "new" / "keys")
    return tmp_path / "new" / "keys"


@pytest.mark.parametrize("name", ["release", "command"])
def test_keys_belong_together_and_only_their_owner_reads_the_private_one(folder: Path, name: str) -> None:
    private, public = load_private(folder / f"{name}.key"), load_public(folder / f"{name}.pub")

    assert private.public_key().public_bytes_raw() == public
    assert stat.S_IMODE((folder / f"{name}.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / f"{name}.pub").read_text() == public.hex() + "\n"


def test_the_two_keys_differ(folder: Path) -> None:
    assert load_public(folder / "release.pub") != load_public(folder / "command.pub")


@pytest.mark.parametrize("kept", ["release.key", "command.pub"])
def test_nothing_is_overwritten_when_one_file_exists(folder: Path, kept: str) -> None:
    contents = (folder / kept).read_bytes()
    for path in folder.iterdir():
        if path.name != kept:
            path.unlink()

    with pytest.raises(KeyFileError, match=f"{kept} exists; use it, or choose another folder"):
        create_keys(folder)

    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [(kept, contents)]


def test_keys_are_not_made_where_others_may_replace_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    with pytest.raises(KeyFileError, match="chmod 700"):
        create_keys(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_keys_are_not_made_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="choose a folder"):
        create_keys(tmp_path / "file" / "keys")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_private_key_is_refused_when_others_may_touch_it(folder: Path, mode: int) -> None:
    (folder / "release.key").chmod(mode)

    with pytest.raises(KeyFileError, match=r"chmod 600 .*release\.key"):
        load_private(folder / "release.key")


def pem(*, encrypted: bool) -> bytes:
    encryption = BestAvailableEncryption(b"secret") if encrypted else NoEncryption()
    key = generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "no unencrypted private key"),
        (b"garbage", "no unencrypted private key"),
        (pem(encrypted=True), "no unencrypted private key"),
        (pem(encrypted=False), "no Ed25519 key"),
    ],
    ids=["empty", "garbage", "encrypted", "rsa"],
)
def test_private_key_is_refused_when_it_is_something_else(folder: Path, contents: bytes, reason: str) -> None:
    (folder / "release.key").write_bytes(contents)

    with pytest.raises(KeyFileError, match=reason):
        load_private(folder / "release.key")


@pytest.mark.parametrize(
    ("contents", "reason"),
    [(b"", "0 bytes"), (b"ab" * 31, "31 bytes"), (b"xy", "no hex"), (b"\xff\xfe", "no hex")],
)
def test_public_key_is_refused_when_it_is_something_else(folder: Path, contents: bytes, reason: str) -> None:
    (folder / "release.pub").write_bytes(contents)

    with pytest.raises(KeyFileError, match=reason):
        load_public(folder / "release.pub")


def test_missing_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"a\.key: No such file"):
        load_private(tmp_path / "a.key")
    with pytest.raises(KeyFileError, match=r"a\.pub: No such file"):
        load_public(tmp_path / "a.pub")

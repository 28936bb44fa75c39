"""Roots in an orchestrator's folder, and what it makes of them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.adapters.keys import KeyFileError, create_keys, load_private, load_public
from orchestrator.adapters.roots import RootFolder
from orchestrator.adapters.trust import LiveTrust, load_trust
from schemas.codec import TRUST, decode
from schemas.messages import TrustDocument
from schemas.trust import follow
from tests.core.trust_roots import make_root, public, role, signed

BOTH = ("root-a", "root-b")
COMMAND = bytes.fromhex(public("command"))


@pytest.fixture
def roots(tmp_path: Path) -> RootFolder:
    return RootFolder(tmp_path / "keys" / "roots")


def test_nothing_is_in_force_before_the_first_root(roots: RootFolder) -> None:
    assert (roots.newest(), roots.document(), roots.chain()) == (None, None, (None, ()))


def test_roots_are_installed_one_after_the_other_and_published_as_a_chain(roots: RootFolder) -> None:
    for version in (1, 2, 3):
        roots.install(signed(make_root(version), *BOTH))

    document = decode(TrustDocument, roots.document() or b"", TRUST)

    assert roots.newest() == make_root(3)
    assert follow(make_root(1), document)[0] == follow(make_root(2), document)[0] == make_root(3)
    assert sorted(path.name for path in roots.folder.iterdir()) == ["1.root.json", "2.root.json", "3.root.json"]


@pytest.mark.parametrize(
    "envelope",
    [signed(make_root(3), *BOTH), signed(make_root(1), *BOTH), signed(make_root(2), "root-a"), b"{}"],
)
def test_root_that_does_not_follow_is_not_installed(roots: RootFolder, envelope: bytes) -> None:
    roots.install(signed(make_root(1), *BOTH))

    with pytest.raises(KeyFileError, match="it cannot follow what lies in "):
        roots.install(envelope)

    assert [path.name for path in roots.folder.iterdir()] == ["1.root.json"]


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda folder: (folder / "2.root.json").unlink(), "3.root.json: it is root 3, and after 1 comes 2"),
        (lambda folder: (folder / "2.root.json").write_bytes(b"{}"), "2.root.json: root 1 did not sign it"),
        (lambda folder: (folder / "1.root.json").unlink(), "2.root.json"),
        (lambda folder: (folder / "3.root.json").rename(folder / "4.root.json"), "name it 3.root.json"),
    ],
)
def test_chain_that_is_broken_is_named_by_its_file(
    roots: RootFolder, spoil: Callable[[Path], object], place: str
) -> None:
    for version in (1, 2, 3):
        roots.install(signed(make_root(version), *BOTH))
    spoil(roots.folder)

    if place == "2.root.json":  # A chain may begin later: the first one is wherever it was given.
        assert roots.newest() == make_root(3)
        return
    with pytest.raises(KeyFileError) as caught:
        roots.newest()
    assert place in str(caught.value)


def test_what_is_published_fits_into_a_message_and_leads_to_the_newest(roots: RootFolder) -> None:
    many = tuple(f"app-{number:03d}-{'x' * 90}" for number in range(200))
    for version in (1, 2, 3, 4):
        roots.install(signed(make_root(version, revoked=many), *BOTH))

    said = roots.document() or b""
    document = decode(TrustDocument, said, TRUST)

    assert len(said) <= TRUST.bytes_max
    assert document.first > 1
    assert follow(make_root(document.first - 1, revoked=many), document)[0].version == 4


def test_root_says_whose_releases_and_grants_count(roots: RootFolder) -> None:
    roots.install(signed(make_root(release=role("release-a", "release-b", threshold=2)), *BOTH))

    trust = load_trust(roots.folder.parent)

    assert (trust.keys, trust.threshold) == (tuple(map(bytes.fromhex, map(public, ("release-a", "release-b")))), 2)


def test_orchestrator_does_not_start_with_a_command_key_that_nobody_obeys(roots: RootFolder, tmp_path: Path) -> None:
    roots.install(signed(make_root(), *BOTH))

    assert LiveTrust(tmp_path, COMMAND).trust.root == make_root()
    with pytest.raises(KeyFileError, match=r"command\.key is no command key of root 1, .* --add-command "):
        LiveTrust(tmp_path, bytes.fromhex(public("command-2")))


def test_running_orchestrator_hears_of_a_newer_root_and_keeps_what_it_has_if_that_is_damaged(
    roots: RootFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roots.install(signed(make_root(), *BOTH))
    live = LiveTrust(tmp_path, COMMAND)

    roots.install(signed(make_root(2, revoked=("app-1",)), *BOTH))
    live.renew()
    assert live.trust.root is not None
    assert live.trust.root.revoked == ("app-1",)
    document = live.document

    (roots.folder / "2.root.json").unlink()
    (roots.folder / "2.root.json").write_bytes(b"{}")
    live.renew()

    assert (live.trust.root.version, live.document) == (2, document)
    assert "2.root.json: root 1 did not sign it" in caplog.text


def test_running_orchestrator_says_when_its_own_key_has_been_taken_away(
    roots: RootFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roots.install(signed(make_root(), *BOTH))
    live = LiveTrust(tmp_path, COMMAND)

    roots.install(signed(make_root(2, command=role("command-2")), *BOTH))
    live.renew()

    assert "is no command key of root 2" in caplog.text
    assert live.trust.root == make_root(2, command=role("command-2")), "devices are told all the same"


# The commands, where something is wrong.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    create_keys(tmp_path / "fleet" / "keys")
    (tmp_path / "tree" / "app").mkdir(parents=True)
    (tmp_path / "tree" / "app" / "x").write_text("x")
    assert tidegate("keys new root-a.key root-b.key").exit_code == 0
    return tmp_path / "fleet"


def tidegate(line: str) -> Result:
    return CliRunner().invoke(app, line.split())


BUILD = "release build tree --release a-1 --version 1 --counter 1"
FIRST = "keys root init --root root-a.pub --release fleet/keys/release.pub --command fleet/keys/command.pub"


def with_first_root() -> None:
    for line in (FIRST, "keys root sign 1.root.json --key root-a.key", "keys root install 1.root.json --folder fleet"):
        assert tidegate(line).exit_code == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("keys new root-a.key", "root-a.key exists; use it, or choose another name"),
        ("keys new root.pub", "root.pub: that is where the public key goes; name it root.key"),
        ("keys new missing/x.key", "choose a folder that is writable"),
        ("keys root rotate --folder fleet", "fleet has no root yet; type: tidegate keys root init --help"),
        ("keys root show --folder fleet", "fleet has no root yet; type: tidegate keys root init --help"),
        ("keys root show", "which root? name a file, or give --folder, and not both"),
        ("keys root show nothing.json", "nothing.json: No such file or directory; name a file that"),
        ("keys root revoke --folder fleet", "what is revoked? name releases, or give --below-counter"),
        (FIRST.replace("root-a.pub", "root-a.key"), "root-a.key: no hex digits; name the .pub file"),
        (FIRST.replace("root-a.pub", "fleet/keys/release.pub"), "a key stands in two roles"),
        (FIRST + " --root-threshold 2", "2 of 1 keys can never sign"),
        (FIRST + " --expires tomorrow", "no such root can be: expires: "),
        (f"{BUILD} -- true", "it must go somewhere: give --folder to sign and publish it, or -o FILE --unsigned"),
        (f"{BUILD} -o a.release -- true", "there is no key to sign with: give --folder or --key, or --unsigned"),
        (f"{BUILD} --unsigned --folder fleet -- true", "it must go somewhere"),
        ("release sign a.release", "who signs? give --key FILE, or --gpg KEYID, and not both"),
        ("release sign a.release --key root-a.key", "a.release: No such file or directory; name a file that"),
        ("release verify root-a.pub --folder fleet", "no release in a file"),
        ("release inspect a-9 --folder fleet", "no release 'a-9' in fleet/releases; there are: none"),
    ],
)
def test_command_that_cannot_be_done_says_what_to_type(folder: Path, line: str, message: str) -> None:
    result = tidegate(line)

    assert result.exit_code == 1, result.output
    assert message in result.stderr
    assert not (folder / "keys" / "roots").exists()


def test_root_with_too_few_signatures_is_not_installed(folder: Path) -> None:
    assert tidegate(FIRST).exit_code == 0

    result = tidegate("keys root install 1.root.json --folder fleet")

    assert (result.exit_code, "1 more of its own root keys must sign: " in result.stderr) == (1, True)
    assert "type: tidegate keys root sign 1.root.json --key KEY" in result.stderr


def test_draft_that_may_hold_signatures_is_not_overwritten(folder: Path) -> None:
    assert tidegate(FIRST).exit_code == 0

    result = tidegate(FIRST)

    assert (result.exit_code, "1.root.json exists and may hold signatures" in result.stderr) == (1, True)


def test_next_root_needs_the_signature_of_the_one_before(folder: Path) -> None:
    with_first_root()
    assert tidegate("keys root rotate --folder fleet --add-root root-b.pub --remove-root root-a.pub").exit_code == 0
    assert tidegate("keys root sign 2.root.json --key root-b.key").exit_code == 0

    result = tidegate("keys root install 2.root.json --folder fleet")

    assert (result.exit_code, "1 more of root 1's root keys must sign: " in result.stderr) == (1, True)
    assert tidegate("keys root sign 2.root.json --key root-a.key").exit_code == 0
    assert tidegate("keys root install 2.root.json --folder fleet").exit_code == 0


def test_root_that_takes_the_orchestrators_own_key_away_is_installed_with_a_warning(folder: Path) -> None:
    with_first_root()
    line = "keys root rotate --folder fleet --add-command root-b.pub --remove-command fleet/keys/command.pub"
    assert tidegate(line).exit_code == 0
    assert tidegate("keys root sign 2.root.json --key root-a.key").exit_code == 0

    result = tidegate("keys root install 2.root.json --folder fleet")

    assert result.exit_code == 0
    assert "command.pub is not among its command keys" in result.stderr


def test_keys_are_removed_by_their_ids_too_and_one_that_is_not_there_is_named(folder: Path) -> None:
    with_first_root()
    shown = json.loads(tidegate("keys root show --folder fleet --json").stdout)
    (key_id,) = shown["signed_by"]

    missing = tidegate("keys root rotate --folder fleet --remove-root root-b.pub")
    removed = tidegate(f"keys root rotate --folder fleet --add-root root-b.pub --remove-root {key_id}")

    assert f"root-b.pub is not there to be removed; there are {key_id}" in missing.stderr
    assert removed.exit_code == 0
    assert json.loads(tidegate("keys root show 2.root.json --json").stdout)["root"]["keys"] == [
        load_public(Path("root-b.pub")).hex()
    ]


def test_release_that_no_device_would_install_is_not_published(folder: Path) -> None:
    with_first_root()
    assert tidegate(f"{BUILD} -o a.release --unsigned -- true").exit_code == 0
    assert tidegate("release sign a.release --key root-b.key").exit_code == 0

    for line in ("release publish a.release --folder fleet", "release verify a.release --folder fleet"):
        result = tidegate(line)
        assert (result.exit_code, "no device would install a-1: no signature of a trusted key" in result.stderr) == (
            1,
            True,
        )
        assert "type: tidegate release sign a.release --key KEY" in result.stderr
    assert not (folder / "releases").exists()


def test_simple_way_signs_and_publishes_at_once_with_and_without_a_root(folder: Path) -> None:
    assert tidegate(f"{BUILD} --folder fleet -- true").exit_code == 0
    with_first_root()

    assert tidegate(f"{BUILD.replace('a-1', 'a-2')} --folder fleet -- true").exit_code == 0
    described = json.loads(tidegate("release inspect a-2 --folder fleet --json").stdout)

    assert (described[0]["release"], described[0]["allowed_from"]) == ("a-2", [])
    assert load_private(folder / "keys" / "release.key") is not None

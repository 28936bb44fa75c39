"""Manifests signed with GnuPG, with real gpg and gpgv: one valid signature of a pinned key, and nothing else."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_client.adapters.gpg import GpgKeys
from device_client.adapters.trust import PinnedKeys
from device_client.settings import SettingsError, load_settings, trust_of
from orchestrator.adapters import gpg
from schemas.dsse import MANIFEST_TYPE, Signature, pre_authentication_encoding, read_envelope, write_envelope
from schemas.errors import SignatureError
from schemas.openpgp import check_status

pytestmark = pytest.mark.debian

DRAFT = write_envelope(MANIFEST_TYPE, b'{"release":"app-1.1.0"}', ())
TAMPERED = b'{"release":"app-6.6.6"}'


class People:
    """GnuPG homes of the one who releases, and of an attacker."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        self.keyring = folder / "release.gpg"

    def gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        options = ("gpg", "--homedir", str(self.home), "--batch", "--quiet", "--yes", "--pinentry-mode", "loopback")
        return subprocess.run(
            [*options, "--passphrase", "", *arguments], input=data, check=True, capture_output=True
        ).stdout

    def new(self, name: str, *, expires: str = "never", algorithm: str = "ed25519", at: str | None = None) -> str:
        """Make a key and return its fingerprint; ``at`` is what the clock says, like 20200101T000000."""
        when = () if at is None else ("--faked-system-time", f"{at}!")
        self.gpg(*when, "--quick-generate-key", name, algorithm, "sign", expires)
        return self.fingerprint(name)

    def fingerprint(self, name: str) -> str:
        lines = self.gpg("--with-colons", "--list-keys", name).decode().splitlines()
        return next(line.split(":")[9] for line in lines if line.startswith("fpr"))

    def export(self, *names: str) -> Path:
        self.keyring.write_bytes(self.gpg("--export", *names))
        return self.keyring

    def sign(self, name: str, *options: str, payload: bytes = b'{"release":"app-1.1.0"}') -> bytes:
        """Return the bare signature of ``name``."""
        message = pre_authentication_encoding(MANIFEST_TYPE, payload)
        return self.gpg("--local-user", name, *options, "--detach-sign", "--output", "-", "-", data=message)

    def envelope(self, *signatures: bytes, payload: bytes = b'{"release":"app-1.1.0"}') -> bytes:
        return write_envelope(MANIFEST_TYPE, payload, [Signature("", each) for each in signatures])


@pytest.fixture
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    made = People(tmp_path_factory.mktemp("g"))
    try:
        yield made
    finally:
        subprocess.run(["gpgconf", "--homedir", str(made.home), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(made.home, ignore_errors=True)


def judge(keys: GpgKeys, envelope: bytes) -> str:
    """Return the payload, or why it is refused."""
    try:
        return keys.open_manifest(envelope).decode()
    except SignatureError as error:
        return str(error)


def test_signature_of_a_pinned_key_is_accepted_by_device_and_orchestrator(people: People) -> None:
    fingerprint = people.new("release@example.org")
    keyring = people.export("release@example.org")
    envelope = people.envelope(people.sign("release@example.org"))

    assert judge(GpgKeys(keyring, (fingerprint,)), envelope) == '{"release":"app-1.1.0"}'
    assert gpg.Keyring(keyring, (fingerprint,)).open_manifest(envelope) == b'{"release":"app-1.1.0"}'


def test_release_sign_makes_what_a_device_accepts(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = people.new("release@example.org")
    monkeypatch.setenv("GNUPGHOME", str(people.home))

    signed = gpg.sign_manifest(DRAFT, "release@example.org")

    assert judge(GpgKeys(people.export("release@example.org"), (fingerprint,)), signed) == '{"release":"app-1.1.0"}'
    assert len(read_envelope(MANIFEST_TYPE, gpg.sign_manifest(signed, fingerprint)).signatures) == 1


def test_subkey_counts_by_its_primary_key(people: People) -> None:
    fingerprint = people.new("release@example.org")
    people.gpg("--quick-add-key", fingerprint, "ed25519", "sign", "never")

    envelope = people.envelope(people.sign("release@example.org"))

    assert judge(GpgKeys(people.export("release@example.org"), (fingerprint,)), envelope) == '{"release":"app-1.1.0"}'


def test_key_of_an_attacker_does_not_count_wherever_it_lies(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = people.new("release@example.org")
    people.new("attacker@example.org")
    monkeypatch.setenv("GNUPGHOME", str(people.home))
    (people.home / "trustedkeys.gpg").write_bytes(people.gpg("--export"))
    envelope = people.envelope(people.sign("attacker@example.org"))

    assert judge(GpgKeys(people.export("release@example.org"), (fingerprint,)), envelope) == "gpgv says ERRSIG"
    both = people.export("release@example.org", "attacker@example.org")
    assert judge(GpgKeys(both, (fingerprint,)), envelope) == "gpgv found a signature by a key that is not pinned"


def test_expired_key_does_not_count(people: People) -> None:
    fingerprint = people.new("release@example.org", expires="2020-02-01", at="20200101T000000")
    signature = people.sign("release@example.org", "--faked-system-time", "20200102T000000!")

    said = judge(GpgKeys(people.export("release@example.org"), (fingerprint,)), people.envelope(signature))

    assert said == "gpgv says EXPKEYSIG"


def test_expired_signature_does_not_count(people: People) -> None:
    fingerprint = people.new("release@example.org", at="20200101T000000")
    signature = people.sign(
        "release@example.org", "--faked-system-time", "20200102T000000!", "--default-sig-expire", "1d"
    )

    said = judge(GpgKeys(people.export("release@example.org"), (fingerprint,)), people.envelope(signature))

    assert said == "gpgv says EXPSIG"


def test_revoked_key_does_not_count(people: People) -> None:
    fingerprint = people.new("release@example.org")
    signature = people.sign("release@example.org")
    certificate = people.home / "openpgp-revocs.d" / f"{fingerprint}.rev"
    people.gpg("--import", data=certificate.read_bytes().replace(b":-----BEGIN", b"-----BEGIN"))

    said = judge(GpgKeys(people.export("release@example.org"), (fingerprint,)), people.envelope(signature))

    assert said == "gpgv says REVKEYSIG"


def test_two_signatures_are_one_too_many_however_they_come(people: People) -> None:
    keys = [people.new(name) for name in ("release@example.org", "second@example.org")]
    first, second = (people.sign(name) for name in ("release@example.org", "second@example.org"))
    trusted = GpgKeys(people.export("release@example.org", "second@example.org"), tuple(keys))

    assert judge(trusted, people.envelope(first, second)) == "2 signatures, expected exactly one"
    assert judge(trusted, people.envelope(first + second)) == "gpgv found 2 valid signatures, expected exactly one"


def test_other_bytes_than_were_signed_are_refused(people: People) -> None:
    fingerprint = people.new("release@example.org")
    keys = GpgKeys(people.export("release@example.org"), (fingerprint,))
    signature = people.sign("release@example.org")

    assert judge(keys, people.envelope(signature, payload=TAMPERED)) == "gpgv says BADSIG"
    bare = people.gpg(
        "--local-user", fingerprint, "--detach-sign", "--output", "-", "-", data=b'{"release":"app-1.1.0"}'
    )
    assert judge(keys, people.envelope(bare)) == "gpgv says BADSIG", "the type is not in it"


@pytest.mark.parametrize("options", [("--textmode",), ("--digest-algo", "SHA1")])
def test_weaker_signatures_are_refused(people: People, options: tuple[str, ...]) -> None:
    fingerprint = people.new("release@example.org", algorithm="rsa2048")
    keys = GpgKeys(people.export("release@example.org"), (fingerprint,))

    said = judge(keys, people.envelope(people.sign("release@example.org", *options)))

    assert said in ("gpgv found a signature by a key that is not pinned", "gpgv says ERRSIG", "gpgv says BADSIG")


@pytest.mark.parametrize(
    "junk", [b"", b"junk", b"-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n", bytes(64)]
)
def test_what_is_no_signature_is_refused(people: People, junk: bytes) -> None:
    fingerprint = people.new("release@example.org")

    said = judge(GpgKeys(people.export("release@example.org"), (fingerprint,)), people.envelope(junk))

    assert said.startswith(("gpgv says ", "gpgv found 0 valid"))


def test_key_from_the_future_counts_because_a_device_may_not_know_what_time_it_is(people: People) -> None:
    fingerprint = people.new("release@example.org", at="20380101T000000")
    signature = people.sign("release@example.org", "--faked-system-time", "20380102T000000!")

    said = judge(GpgKeys(people.export("release@example.org"), (fingerprint,)), people.envelope(signature))

    assert said == '{"release":"app-1.1.0"}'


def test_ed25519_signature_does_not_count_where_a_keyring_was_given(people: People) -> None:
    fingerprint = people.new("release@example.org")
    trust = PinnedKeys(GpgKeys(people.export("release@example.org"), (fingerprint,)))

    with pytest.raises(SignatureError, match="gpgv"):
        trust.open_manifest(people.envelope(bytes(64)))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("gpgv", "gpgv is not there; install the package gpgv"),
        ("keyring", "release.gpg is no file; export the release key"),
    ],
)
def test_agent_does_not_start_without_gpgv_or_its_keyring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, message: str
) -> None:
    (tmp_path / "agent.toml").write_text(
        "\n".join(
            [
                'device = "pi-1"', 'device_type = "pi"', 'arch = "aarch64"', 'region = "north"', 'group = "vision"',
                'root = "root"', "port = 8080", "standby_port = 8081", 'broker = "mqtt://localhost"',
                'gpg_keyring = "release.gpg"', f'gpg_fingerprints = ["{"A" * 40}"]', f'command_keys = ["{"ab" * 32}"]',
            ]
        )
    )  # fmt: skip
    if missing == "gpgv":
        (tmp_path / "release.gpg").write_bytes(b"")
        monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SettingsError, match="key 'gpg_keyring': ") as caught:
        trust_of(load_settings(tmp_path / "agent.toml"), tmp_path)

    assert message in str(caught.value)


def test_gpgv_that_goes_away_later_lets_nothing_in(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = people.new("release@example.org")
    keys = GpgKeys(people.export("release@example.org"), (fingerprint,))
    envelope = people.envelope(people.sign("release@example.org"))
    monkeypatch.setenv("PATH", os.devnull)

    assert judge(keys, envelope).startswith("gpgv cannot be asked: ")


@pytest.mark.parametrize(
    "status",
    ["", "VALIDSIG", "[GNUPG:] VALIDSIG", "[GNUPG:] VALIDSIG " + "A" * 40, "[GNUPG:] GOODSIG A release@example.org"],
)
def test_status_that_says_too_little_is_refused(status: str) -> None:
    with pytest.raises(SignatureError):
        check_status(status, ["A" * 40])

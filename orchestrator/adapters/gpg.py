"""Signing releases with GnuPG, and verifying them as devices do that were given a keyring."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.core.releases import ReleaseError
from schemas.codec import MANIFEST
from schemas.dsse import MANIFEST_TYPE, Signature, pre_authentication_encoding, read_envelope, write_envelope
from schemas.errors import SignatureError
from schemas.openpgp import gpgv_arguments, open_signed

_PATIENCE_SECONDS: Final = 60.0
_PATIENCE_WITH_PEOPLE_SECONDS: Final = 600.0
"""A passphrase may be asked for, or a token be touched."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys that are trusted.

    Attributes:
        path: The keyring.
        fingerprints: Of the primary keys in it that count.
    """

    path: Path
    fingerprints: tuple[str, ...]

    def open_manifest(self, envelope: bytes) -> bytes:
        """Return the payload that one of the keys signed as a manifest.

        Raises:
            SignatureError: It did not, or gpgv cannot be asked.
        """
        return open_signed(MANIFEST_TYPE, envelope, self.fingerprints, MANIFEST, self._ask)

    def _ask(self, signature: bytes, message: bytes) -> tuple[int, str]:
        with tempfile.TemporaryDirectory(prefix="tidegate-gpgv-") as home:
            path = Path(home, "signature")
            path.write_bytes(signature)
            arguments = gpgv_arguments(home, str(self.path.absolute()), str(path))
            try:
                ended = subprocess.run(  # noqa: S603 - fixed arguments, no shell
                    arguments, input=message, capture_output=True, timeout=_PATIENCE_SECONDS, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise SignatureError(f"gpgv cannot be asked: {error}; install the package gpgv") from error
        return ended.returncode, ended.stdout.decode(errors="replace")


def sign_manifest(envelope: bytes, key: str) -> bytes:
    """Return the envelope with one OpenPGP signature by the user's own ``key``, in place of any other.

    Raises:
        SignatureError: It is no manifest's envelope.
        ReleaseError: gpg is missing, or did not sign.
    """
    payload = read_envelope(MANIFEST_TYPE, envelope, MANIFEST).payload
    with tempfile.TemporaryDirectory(prefix="tidegate-gpg-") as folder:
        signature = Path(folder, "signature")
        options = ("--quiet", "--digest-algo", "SHA512", "--local-user", key, "--output", str(signature))
        try:
            ended = subprocess.run(  # noqa: S603 - no shell; the key is one argument
                ("gpg", *options, "--detach-sign", "-"),  # noqa: S607 - the user's own gpg
                input=pre_authentication_encoding(MANIFEST_TYPE, payload),
                timeout=_PATIENCE_WITH_PEOPLE_SECONDS,
                stdout=subprocess.DEVNULL,
                check=False,
            )
        except FileNotFoundError as error:
            raise ReleaseError("gpg is not there; install the package gpg, or sign with --key") from error
        except subprocess.TimeoutExpired as error:
            raise ReleaseError("gpg did not sign in time; unlock the key and sign again") from error
        if ended.returncode != 0 or not signature.exists():
            raise ReleaseError(f"gpg did not sign with {key!r}; `gpg --list-secret-keys` names the keys that can")
        return write_envelope(MANIFEST_TYPE, payload, [Signature(key, signature.read_bytes())])

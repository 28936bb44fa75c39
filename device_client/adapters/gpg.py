"""Manifests that were signed with GnuPG, verified by ``gpgv``.

The settings choose this and never an envelope: its one signature is then an OpenPGP signature over the same bytes over
which an Ed25519 signature would be.
"""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.codec import MANIFEST
from schemas.dsse import MANIFEST_TYPE, pre_authentication_encoding, read_envelope
from schemas.errors import SignatureError
from schemas.openpgp import check_status, gpgv_arguments

_PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class GpgKeys:
    """The keys of a keyring that are trusted.

    Attributes:
        keyring: Holds them, and perhaps others.
        fingerprints: Of the primary keys that are trusted.
    """

    keyring: Path
    fingerprints: tuple[str, ...]

    def problem(self) -> str | None:
        """Say what keeps every signature from being verified; None if nothing does."""
        if shutil.which("gpgv") is None:
            return "gpgv is not there; install the package gpgv, or name release_keys instead"
        return None if self.keyring.is_file() else f"{self.keyring} is no file; export the release key into it"

    def open_manifest(self, envelope: bytes) -> bytes:
        """Return the payload that one of the keys signed as a manifest.

        Raises:
            SignatureError: It did not, or gpgv cannot be asked.
        """
        opened = read_envelope(MANIFEST_TYPE, envelope, MANIFEST)
        if len(opened.signatures) != 1:
            raise SignatureError(f"{len(opened.signatures)} signatures, expected exactly one")
        message = pre_authentication_encoding(MANIFEST_TYPE, opened.payload)
        with tempfile.TemporaryDirectory(prefix="tidegate-gpgv-") as home:
            signature = Path(home, "signature")
            signature.write_bytes(opened.signatures[0].data)
            arguments = gpgv_arguments(home, str(self.keyring.absolute()), str(signature))
            try:
                ended = subprocess.run(  # noqa: S603 - fixed arguments, no shell
                    arguments, input=message, capture_output=True, timeout=_PATIENCE_SECONDS, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise SignatureError(f"gpgv cannot be asked: {error}") from error
        check_status(ended.stdout.decode(errors="replace"), self.fingerprints)
        if ended.returncode != 0:
            raise SignatureError(f"gpgv ended with {ended.returncode}")
        return opened.payload

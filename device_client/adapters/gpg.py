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
from schemas.dsse import MANIFEST_TYPE
from schemas.errors import SignatureError
from schemas.openpgp import gpgv_arguments, open_signed

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
        return open_signed(MANIFEST_TYPE, envelope, self.fingerprints, MANIFEST, self._ask)

    def _ask(self, signature: bytes, message: bytes) -> tuple[int, str]:
        with tempfile.TemporaryDirectory(prefix="tidegate-gpgv-") as home:
            path = Path(home, "signature")
            path.write_bytes(signature)
            arguments = gpgv_arguments(home, str(self.keyring.absolute()), str(path))
            try:
                ended = subprocess.run(  # noqa: S603 - fixed arguments, no shell
                    arguments, input=message, capture_output=True, timeout=_PATIENCE_SECONDS, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise SignatureError(f"gpgv cannot be asked: {error}") from error
        return ended.returncode, ended.stdout.decode(errors="replace")

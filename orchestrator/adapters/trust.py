"""Whose releases and grants count, from what lies in an orchestrator's ``keys`` folder.

::

    roots/1.root.json, 2.root.json …   trust roots: the newest says which keys count
    release.gpg, release.fingerprints  without roots: a keyring and the primary keys in it that count
    release.pub                        without either: the key that ``tidegate init`` made
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.adapters import gpg
from orchestrator.adapters.keys import KeyFileError, load_public
from orchestrator.adapters.roots import RootFolder
from orchestrator.core.releases import ReleaseError
from schemas.codec import MANIFEST, decode
from schemas.dsse import MANIFEST_TYPE, key_id, unseal
from schemas.manifest import Manifest
from schemas.trust import Root

log = logging.getLogger(__name__)

ROOTS: Final = "roots"
_KEYRING, _FINGERPRINTS = "release.gpg", "release.fingerprints"


@dataclass(frozen=True, slots=True)
class ReleaseTrust:
    """Whose releases count.

    Attributes:
        keys: Raw public keys of those who may sign releases.
        threshold: How many of them must sign.
        root: The trust root that says so, if one does.
        keyring: The keys' place if they are GnuPG's.
    """

    keys: tuple[bytes, ...] = ()
    threshold: int = 1
    root: Root | None = None
    keyring: gpg.Keyring | None = None

    @property
    def key_ids(self) -> tuple[str, ...]:
        """What people call the keys by."""
        return tuple(map(key_id, self.keys))

    def open_manifest(self, envelope: bytes) -> Manifest:
        """Return the manifest that the release keys signed.

        Raises:
            SignatureError: They did not.
            DecodeError: They signed what is no manifest.
            ReleaseError: The root has revoked the release.
        """
        if self.keyring is None:
            payload = unseal(MANIFEST_TYPE, envelope, self.keys, MANIFEST, threshold=self.threshold)
        else:
            payload = self.keyring.open_manifest(envelope)
        manifest = decode(Manifest, payload, MANIFEST)
        if self.root is not None and self.root.revokes(manifest.release, manifest.release_counter):
            raise ReleaseError(
                f"{manifest.release} is revoked by root {self.root.version}, and no device installs it; "
                "build a new release with a higher counter"
            )
        return manifest

    def check_expiry(self, now: float) -> None:
        """Refuse when devices would install nothing.

        Raises:
            ReleaseError: The root has expired.
        """
        if self.root is not None and self.root.has_expired(now):
            raise ReleaseError(
                f"root {self.root.version} has expired on {self.root.expires}, and no device installs anything under "
                "it; type: tidegate keys root rotate --help"
            )


def trust_of(root: Root) -> ReleaseTrust:
    """Return whose releases count under ``root``."""
    return ReleaseTrust(root.release.raw_keys, root.release.threshold, root)


def load_trust(keys: Path) -> ReleaseTrust:
    """Return whose releases count, see above.

    Raises:
        KeyFileError: A file is missing or is not what it must be, or the roots do not follow from each other.
    """
    root = RootFolder(keys / ROOTS).newest()
    if root is not None:
        return trust_of(root)
    keyring = keys / _KEYRING
    if not keyring.exists():
        return ReleaseTrust((load_public(keys / "release.pub"),))
    try:
        fingerprints = (keys / _FINGERPRINTS).read_text().upper().split()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(
            f"{keys / _FINGERPRINTS}: cannot be read; write the release key's fingerprint there"
        ) from error
    return ReleaseTrust(keyring=gpg.Keyring(keyring, tuple(fingerprints)))


class LiveTrust:
    """Whose releases count, read again whenever a root was installed; and whether devices obey our grants.

    Args:
        folder: The orchestrator's.
        command_key: Our public key.

    Attributes:
        trust: As it was read last.
        document: What devices are told; None without a root.

    Raises:
        KeyFileError: As for ``load_trust``, or the root does not list our command key.
    """

    def __init__(self, folder: Path, command_key: bytes) -> None:
        self._folder = folder
        self._command_key = command_key
        self._roots = RootFolder(folder / "keys" / ROOTS)
        self._seen = self._look()
        self.trust, self.document = load_trust(folder / "keys"), self._roots.document()
        self._check_command_key()

    def renew(self) -> None:
        """Read the roots again if their folder has changed.

        One that cannot be read any more takes nothing back: what was in force stays, and it is logged.
        """
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self.trust, self.document = load_trust(self._folder / "keys"), self._roots.document()
            log.warning("trust roots were read again: %d", 0 if self.trust.root is None else self.trust.root.version)
            self._check_command_key()
        except KeyFileError as error:
            log.error("%s", error)  # noqa: TRY400 - its text names the place and the remedy

    def _check_command_key(self) -> None:
        root = self.trust.root
        if root is not None and self._command_key.hex() not in root.command.keys:
            keys = self._folder / "keys"
            raise KeyFileError(
                f"{keys / 'command.key'} is no command key of root {root.version}, so no device would obey it; use the "
                f"key that the root lists, or type: tidegate keys root rotate --folder {self._folder} "
                f"--add-command {keys / 'command.pub'}"
            )

    def _look(self) -> int:
        try:
            return self._roots.folder.stat().st_mtime_ns
        except OSError:
            return 0

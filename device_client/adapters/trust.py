"""Whose word counts on this device: pinned keys, keys in GnuPG's keyring, or a trust root that may be replaced.

The newest root is kept as the chain that leads to it from the pinned one, and verified again at every start, so that a
changed file can only take a device back to the root that it was given. A root that cannot be kept is in force all the
same, because what it revokes must not wait for a disk; it comes again with the next connect.
"""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from device_client.adapters.durable import write_durably
from schemas.codec import MANIFEST, TRUST, Bounds, decode, encode
from schemas.dsse import GRANT_TYPE, MANIFEST_TYPE, MEDIA_ORDER_TYPE, unseal
from schemas.errors import DecodeError, TrustError
from schemas.media import ORDER
from schemas.messages import TrustDocument
from schemas.trust import Root, follow

if TYPE_CHECKING:
    from device_client.adapters.gpg import GpgKeys

ROOTS: Final = "roots.json"
"""Where the chain is kept, in the state folder."""
_KEPT: Final = Bounds(16 * 1024 * 1024, text_length_max=64 * 1024)

_log = logging.getLogger(__name__)


class Trusted(Protocol):
    """Whose releases and grants are accepted."""

    @property
    def root(self) -> Root | None:
        """The trust root in force; None if the settings name the keys."""

    def open_manifest(self, envelope: bytes) -> bytes:
        """Return the payload that release keys signed; SignatureError if they did not."""

    def open_grant(self, envelope: bytes) -> bytes:
        """Return the payload that a command key signed; SignatureError if none did."""

    def open_media_order(self, envelope: bytes) -> bytes:
        """Return the payload that a command key signed as an order for media; SignatureError if none did."""

    def learn(self, document: bytes) -> Root | None:
        """Follow newer roots and return the last; None if there is none. DecodeError or TrustError if it is bad."""


@dataclass(frozen=True, slots=True)
class PinnedKeys:
    """Keys that the settings name.

    Attributes:
        release_keys: Raw public keys, or those in a keyring.
        command_keys: Raw public keys.
    """

    release_keys: "tuple[bytes, ...] | GpgKeys"
    command_keys: tuple[bytes, ...] = ()
    root: None = None

    def open_manifest(self, envelope: bytes) -> bytes:
        """Return what one of the release keys signed."""
        if isinstance(self.release_keys, tuple):
            return unseal(MANIFEST_TYPE, envelope, self.release_keys, MANIFEST)
        return self.release_keys.open_manifest(envelope)

    def open_grant(self, envelope: bytes) -> bytes:
        """Return what one of the command keys signed."""
        return unseal(GRANT_TYPE, envelope, self.command_keys)

    def open_media_order(self, envelope: bytes) -> bytes:
        """Return what one of the command keys signed."""
        return unseal(MEDIA_ORDER_TYPE, envelope, self.command_keys, ORDER)

    def learn(self, document: bytes) -> None:
        """Pinned keys are replaced by hand."""


class TrustRoot:
    """The roots that follow from a pinned one.

    Args:
        first: The pinned one.
        kept: Where the chain from it on is kept; its folder exists.

    Attributes:
        damage: Why what was kept could not be followed, so that the pinned root is in force; empty if it could.
    """

    def __init__(self, first: Root, kept: Path) -> None:
        self._first = first
        self._kept = kept
        self._guard = threading.Lock()
        self._chain: tuple[str, ...] = ()
        self.damage = ""
        self._root = self._load()

    @property
    def root(self) -> Root:
        """The newest that was accepted."""
        return self._root

    def open_manifest(self, envelope: bytes) -> bytes:
        """Return what the threshold of release keys signed."""
        role = self._root.release
        return unseal(MANIFEST_TYPE, envelope, role.raw_keys, MANIFEST, threshold=role.threshold)

    def open_grant(self, envelope: bytes) -> bytes:
        """Return what one of the command keys signed."""
        return unseal(GRANT_TYPE, envelope, self._root.command.raw_keys)

    def open_media_order(self, envelope: bytes) -> bytes:
        """Return what one of the command keys signed."""
        return unseal(MEDIA_ORDER_TYPE, envelope, self._root.command.raw_keys, ORDER)

    def learn(self, document: bytes) -> Root | None:
        """Follow the roots of ``document``, all of them or none, and keep them; safe in any thread."""
        with self._guard:
            return self._learn(document)

    def _learn(self, document: bytes) -> Root | None:
        root, new = follow(self._root, decode(TrustDocument, document, TRUST))
        if not new:
            return None
        self._chain = (*self._chain, *new)
        kept = TrustDocument(first=self._first.version + 1, roots=self._chain)
        try:
            write_durably(self._kept, encode(kept))
        except OSError as error:
            _log.error("trust.not_kept file=%s reason=%s", self._kept, error.strerror)
        self._root = root
        _log.warning("trust.root version=%d", root.version)
        return root

    def _load(self) -> Root:
        try:
            document = decode(TrustDocument, self._kept.read_bytes(), _KEPT)
            root, self._chain = follow(self._first, document)
        except FileNotFoundError:
            return self._first
        except (OSError, DecodeError, TrustError) as error:
            _log.error("trust.damaged file=%s reason=%s; the pinned root is in force", self._kept, error)
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.damage = (
                f"{self._kept} is damaged ({reason}): root {self._first.version} of the settings is in force, "
                "until newer ones come with the next connect"
            )
            return self._first
        return root

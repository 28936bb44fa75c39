"""The trust roots of a fleet in a folder, one file each: ``1.root.json``, ``2.root.json`` and so on."""

import re
from pathlib import Path
from typing import Final

from orchestrator.adapters.durable import write_durably
from orchestrator.adapters.keys import KeyFileError
from schemas.codec import TRUST, encode
from schemas.errors import TrustError
from schemas.messages import TrustDocument
from schemas.trust import Root, open_first, open_next

_NAME: Final = re.compile(r"([1-9][0-9]{0,5})\.root\.json")


class RootFolder:
    """What was installed, as a chain.

    Args:
        folder: Where it is; made when the first root is installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> Root | None:
        """Return the root in force; None if there is none.

        Raises:
            KeyFileError: A root is missing, damaged, or does not follow from the one before.
        """
        return self.chain()[0]

    def document(self) -> bytes | None:
        """Return what is published: the newest roots, as many as one message holds; None if there is none.

        Raises:
            KeyFileError: As for ``newest``.
        """
        root, envelopes = self.chain()
        if root is None:
            return None
        for left_out in range(len(envelopes)):
            kept = tuple(each.decode() for each in envelopes[left_out:])
            document = encode(TrustDocument(first=root.version + 1 - len(kept), roots=kept))
            if len(document) <= TRUST.bytes_max:
                return document
        raise KeyFileError(f"{self.folder}: root {root.version} is too large for a message; revoke by counter instead")

    def install(self, envelope: bytes) -> Root:
        """Put the next root, or the first one, in force.

        Raises:
            KeyFileError: It does not follow from the newest one, or cannot be written.
        """
        newest = self.newest()
        try:
            root = open_first(envelope) if newest is None else open_next(newest, envelope)
        except TrustError as error:
            raise KeyFileError(f"it cannot follow what lies in {self.folder}: {error}") from error
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_durably(self.folder / f"{root.version}.root.json", envelope)
        except OSError as error:
            raise KeyFileError(f"{self.folder}: {error.strerror}; make it writable") from error
        return root

    def chain(self) -> tuple[Root | None, tuple[bytes, ...]]:
        """Return the newest root and the envelopes that lead to it, the first one first.

        Raises:
            KeyFileError: As for ``newest``.
        """
        root: Root | None = None
        envelopes: list[bytes] = []
        for version in self._versions():
            path = self.folder / f"{version}.root.json"
            try:
                envelopes.append(path.read_bytes())
                root = open_first(envelopes[-1]) if root is None else open_next(root, envelopes[-1])
            except OSError as error:
                raise KeyFileError(f"{path}: {error.strerror}; bring it back from where it was signed") from error
            except TrustError as error:
                raise KeyFileError(f"{path}: {error}; bring it back from where it was signed") from error
            if root.version != version:
                raise KeyFileError(f"{path}: it is root {root.version}; name it {root.version}.root.json")
        return root, tuple(envelopes)

    def _versions(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match is not None)

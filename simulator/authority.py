"""Who may command devices: a chain of trust roots, and what an operator does to change the key of a running fleet.

The roots are the real ones, signed and followed by the product's own rules; the ceremonies that sign them are not
simulated. A key changes in three steps, as the operating manual has it: a root names both keys, the orchestrator is
started anew with the new one, a root names the new one alone.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.core.releases import ReleaseError, StoredRelease
from schemas.codec import encode
from schemas.dsse import seal
from schemas.messages import TrustDocument
from schemas.trust import ROOT_TYPE, Role, Root

_BEGINS: Final = 2
"""The first root that devices are told of; they were given the one before."""


class Authority:
    """The keys of one fleet, the same for the same seed.

    Attributes:
        command_key: What an orchestrator that is started now signs grants with.
        first: The root that devices were given.
        root: The newest one.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._root_key = self._key("root")
        self._count = 0
        self._coming: Ed25519PrivateKey | None = None
        self._envelopes: list[str] = []
        self.command_key = self._key("command")
        self.first = self.root = Root(
            version=1,
            root=_role(self._root_key),
            release=_role(self._key("release")),
            command=_role(self.command_key),
        )

    @property
    def is_changing(self) -> bool:
        """Whether a change of the command key has begun and is not over."""
        return len(self.root.command.keys) > 1

    @property
    def document(self) -> bytes | None:
        """What devices are told; None while there is nothing that they were not given."""
        return encode(TrustDocument(first=_BEGINS, roots=tuple(self._envelopes))) if self._envelopes else None

    def begin_change(self) -> None:
        """Let devices obey the key that comes as well as the present one."""
        self._count += 1
        self._coming = self._key(f"command {self._count}")
        self._go_on(command=_role(self.command_key, self._coming))

    def take_over(self) -> None:
        """Have the next orchestrator sign with the key that comes; the old one is obeyed still."""
        assert self._coming is not None, "a change has begun"
        self.command_key = self._coming

    def end_change(self) -> None:
        """Let devices obey the new key alone."""
        self._go_on(command=_role(self.command_key))

    def revoke(self, release: str) -> None:
        """Let nobody install a release any more."""
        self._go_on(revoked=(*self.root.revoked, release))

    def _go_on(self, **changes: object) -> None:
        self.root = self.root.model_copy(update={"version": self.root.version + 1, **changes})
        self._envelopes.append(seal(ROOT_TYPE, encode(self.root), self._root_key).decode())

    def _key(self, name: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{name} key {self._seed}".encode()).digest())


class Shelf(Mapping[str, StoredRelease]):
    """Releases as an orchestrator has them: it says of a revoked one that it is."""

    def __init__(self, releases: Mapping[str, StoredRelease], authority: Authority) -> None:
        self._releases = releases
        self._authority = authority

    def __getitem__(self, name: str) -> StoredRelease:
        release, root = self._releases[name], self._authority.root
        if root.revokes(name, release.release_counter):
            raise ReleaseError(f"{name} is revoked by root {root.version}")
        return release

    def __iter__(self) -> Iterator[str]:
        return iter(self._releases)

    def __len__(self) -> int:
        return len(self._releases)


def _role(*keys: Ed25519PrivateKey) -> Role:
    return Role(keys=tuple(key.public_key().public_bytes_raw().hex() for key in keys))

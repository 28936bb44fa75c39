"""What the operator has put on the orchestrator's shelf: releases and policies, read when they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from orchestrator.adapters.releases import ReleaseStore
from orchestrator.adapters.trust import LiveTrust
from orchestrator.core.releases import StoredRelease
from schemas.errors import PolicyError
from schemas.policy import Policy
from schemas.policy_text import parse_policy


class Releases(Mapping[str, StoredRelease]):
    """The release store as a mapping, so that a release published a moment ago can be rolled out.

    One that no device would install raises ``ReleaseError`` when it is named.

    Args:
        store: Holds them.
        live: Says whose releases count.
        clock: Seconds since the epoch.
    """

    def __init__(self, store: ReleaseStore, live: LiveTrust, clock: Callable[[], float]) -> None:
        self._store = store
        self._live = live
        self._clock = clock

    def __getitem__(self, name: str) -> StoredRelease:
        release = self._store.get(name)
        if release is None:
            raise KeyError(name)
        self._live.renew()
        self._store.verify_release(release, self._live.trust)
        self._live.trust.check_expiry(self._clock())
        return release

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.names())

    def __len__(self) -> int:
        return len(self._store.names())


class Policies(Mapping[str, Policy]):
    """The policy files of a folder, by name without ``.yaml``; a broken one raises ``PolicyError`` when it is named."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> Policy:
        if name not in list(self):
            raise KeyError(name)
        return load_policy(self._folder / f"{name}.yaml")

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.stem for path in self._folder.glob("*.yaml")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def load_policy(path: Path) -> Policy:
    """Read one policy file.

    Raises:
        PolicyError: It cannot be read or does not parse; the message names the place.
    """
    try:
        return parse_policy(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: cannot be read: {error}") from error

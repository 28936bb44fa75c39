"""The images that we have loaded into an engine's store, removed when neither slot names them any more.

A slot's archive is the truth and the store holds a copy, so what is removed is loaded again when it is needed. Which
images are ours stands in ``state/images.json``; what is missing there stays in the store, and nothing else is lost.
"""

import json
import logging
import re
import shutil
import threading
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final, Protocol

from device_client.adapters.durable import write_durably
from device_client.adapters.hosting import SLOTS
from device_client.adapters.layout import DAMAGED, STATE, VERSION
from device_client.adapters.programs import ANSWER_SECONDS, ProgramError

IMAGE_ID: Final = re.compile("sha256:([0-9a-f]{64})")
LIST: Final = "images.json"
LOAD_SECONDS: Final = 600.0
REMOVE_SECONDS: Final = 20.0
"""The agent's loop may stand still for as long; behind a router twice in one turn."""
_STORE: Final = {"docker": "{{.DockerRootDir}}", "podman": "{{.Store.GraphRoot}}"}
_COPIES: Final = 2
"""An engine unpacks an archive beside its store before it puts the layers there."""

_log = logging.getLogger(__name__)


class Ask(Protocol):
    """The engine's command line."""

    def __call__(self, *arguments: str, seconds: float = ANSWER_SECONDS) -> str:
        """Run it and return what it prints.

        Raises:
            OSError: It refuses, or does not answer in time.
        """


class Images:
    """What one device has in an engine's store.

    Args:
        root: The device's folder.
        kind: ``docker`` or ``podman``.
        ask: Runs the engine.
    """

    def __init__(self, root: Path, kind: str, ask: Ask) -> None:
        self._root = root
        self._kind = kind
        self._ask = ask
        self._list = root / STATE / LIST
        # A slot names its image before it is started. So what is seen to be there stays, if nobody removes meanwhile.
        self._lock = threading.RLock()
        self._seen: list[tuple[int, int] | None] | None = None
        self._waiting: list[str] = []

    def load(self, image: str, archive: Path) -> None:
        """Have ``image`` in the store.

        Raises:
            OSError: It is not in ``archive``, or there is no room for it.
        """
        with self._lock:
            if self._has(image):
                return
        for unneeded in self._unneeded():
            self._remove(unneeded)
        self._check_room(archive)
        # Before it is loaded: a power cut afterwards would leave it to nobody.
        self._remember(added={image})
        self._ask("load", "--input", str(archive), seconds=LOAD_SECONDS)
        if not self._has(image):
            raise ProgramError(f"{archive.name} does not hold the image {image} that the signed command names")

    def sweep(self) -> None:
        """Remove one image that no slot names; the engine is asked only after a slot has changed, or at the start."""
        seen = [_change(self._root / slot / VERSION) for slot in SLOTS]
        if seen != self._seen:
            self._seen, self._waiting = seen, self._unneeded()
        elif self._waiting:
            self._remove(self._waiting.pop())

    def _unneeded(self) -> list[str]:
        """Return which of ours are in the store and named by no slot, and forget those that somebody has removed."""
        with self._lock:
            needed, ours = self._named(), self._ours()
            if ours <= needed:
                return []
            try:
                there = {f"sha256:{line.removeprefix('sha256:')}" for line in self._listed()}
            except OSError as error:
                _log.warning("images.not_listed reason=%s", error)
                return []
            self._remember(removed=ours - there - needed)
        return sorted((ours & there) - needed)

    def _remove(self, image: str) -> None:
        """Remove an image unless somebody uses it; without force, so the engine knows better than we do."""
        with self._lock:
            if image in self._named() or image not in self._ours():
                return
            try:
                self._ask("image", "rm", image, seconds=REMOVE_SECONDS)
            except OSError as error:
                _log.warning("image.not_removed image=%s reason=%s", image, error)
                return
            self._remember(removed={image})
        _log.info("image.removed image=%s", image)

    def _listed(self) -> list[str]:
        return self._ask("image", "ls", "--all", "--quiet", "--no-trunc").split()

    def _has(self, image: str) -> bool:
        try:
            found = self._ask("image", "inspect", "--format={{.Id}}", image)
        except ProgramError:
            return False
        return found.strip().removeprefix("sha256:") == image.removeprefix("sha256:")

    def _check_room(self, archive: Path) -> None:
        """Refuse to fill the disk, which may be the one that holds our record.

        Raises:
            OSError: There is not enough room, or no archive.
        """
        needed_bytes = _COPIES * archive.stat().st_size
        try:
            store = Path(self._ask("info", f"--format={_STORE[self._kind]}").strip())
            free_bytes = shutil.disk_usage(store).free
        except OSError:
            return  # it is not to be seen from here, or on another machine
        if free_bytes < needed_bytes:
            raise ProgramError(f"{needed_bytes} bytes are needed to load {archive.name} and {free_bytes} are free")

    def _named(self) -> set[str]:
        return {image for slot in SLOTS for image in _named_in(self._root / slot / VERSION)}

    def _ours(self) -> set[str]:
        try:
            found = json.loads(self._list.read_bytes())
            return {image for image in found if IMAGE_ID.fullmatch(image)}
        except (OSError, *DAMAGED):
            return set()

    def _remember(self, added: AbstractSet[str] = frozenset(), removed: AbstractSet[str] = frozenset()) -> None:
        with self._lock:
            before = self._ours()
            after = (before | added) - removed
            if after == before:
                return
            try:
                write_durably(self._list, json.dumps(sorted(after)).encode())
            except OSError as error:  # what it costs is room, later
                _log.warning("images.not_remembered reason=%s", error)


def _named_in(version: Path) -> list[str]:
    """Return the image with which the command of a slot begins; nothing if that cannot be read."""
    try:
        return [str(part) for part in json.loads(version.read_bytes())["command"][:1]]
    except (OSError, *DAMAGED):
        return []


def _change(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns

"""The two slots on disk, and the link that says which one serves.

::

    blue/  green/      app/ models/ config/ .version, perhaps .chunks and .files, and .verified once it may be run
    active             a relative link to one of them
    state/  staging/   what the agent remembers; what it has fetched

A slot without a marker that matches its files does not exist for the core. The marker goes before the first byte is
changed and comes back, last of all, after every byte was made durable and read again.

Source:
    Reference, "Device Storage Layout".
"""

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Final, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from device_client.adapters.durable import remove_durably, sync_folder, write_durably
from device_client.adapters.failure import StepError, from_os_error
from device_client.adapters.layout import MARKER, STATE, VERSION, read_link, tree_digest, write_link
from device_client.core.codes import ErrorCode
from device_client.core.record import SlotContent
from schemas.ids import Sha256
from schemas.manifest import SLOT_FOLDERS
from schemas.messages import SlotName

SLOT_NAMES: Final[tuple[SlotName, ...]] = get_args(SlotName)
_DOCUMENT_BYTES_MAX: Final = 64 * 1024
_WRITER_SECONDS_MAX: Final = 30.0


class _Marker(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", defer_build=True)

    manifest_sha256: Sha256
    tree_digest: Sha256


class Slots:
    """The slots below one folder.

    Args:
        root: Holds everything of this device; made if it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / STATE
        self.staging = root / "staging"
        if not root.is_dir():
            root.mkdir(mode=0o755, parents=True, exist_ok=True)
            sync_folder(root.parent)
        for folder in (self.state, self.staging, *(root / slot for slot in SLOT_NAMES)):
            folder.mkdir(mode=0o755, exist_ok=True)
        sync_folder(root)  # what is made durable in a folder is lost with the folder's name

    def folder(self, slot: SlotName) -> Path:
        """Return where ``slot`` is."""
        return self.root / slot

    def active(self) -> SlotName | None:
        """Return where the link points; None if there is none or it points elsewhere."""
        target = read_link(self.root)
        return next((slot for slot in SLOT_NAMES if slot == target), None)

    def switch(self, slot: SlotName) -> None:
        """Let the link point to ``slot``; a power cut leaves the old link or the new one, never none.

        Raises:
            StepError: It cannot be written.
        """
        if self.active() == slot:
            return
        try:
            write_link(self.root, slot)
        except OSError as error:
            raise from_os_error(error) from error

    def open(self, slot: SlotName) -> Path:
        """Empty ``slot`` for a new installation and return its folder; from now on it is unverified.

        Raises:
            StepError: It serves, or it cannot be written.
        """
        if self.active() == slot:
            raise StepError(ErrorCode.IO_ERROR, f"{slot} serves and is never written")
        folder = self.folder(slot)
        try:
            _wait_for_writer(folder)
            remove_durably(folder / MARKER)
            _empty(folder)
            for name in SLOT_FOLDERS:
                (folder / name).mkdir()
        except OSError as error:
            raise from_os_error(error) from error
        return folder

    def seal(self, slot: SlotName, content: SlotContent) -> SlotContent:
        """Make an installation durable, read it again and mark it as verified.

        Args:
            slot: As opened, with all files in place and each made durable.
            content: What it holds; its digest is replaced by that of the files as they are read back.

        Raises:
            StepError: Something could not be made durable; the slot is worth nothing then.
        """
        folder = self.folder(slot)
        described = content.model_dump_json(exclude={"tree_digest"}, indent=1)
        try:
            write_durably(folder / VERSION, described.encode())
            for parent, _, _ in os.walk(folder, topdown=False):
                sync_folder(Path(parent))
            digest = tree_digest(folder)
            marker = _Marker(manifest_sha256=content.manifest_sha256, tree_digest=digest)
            write_durably(folder / MARKER, marker.model_dump_json().encode())
        except OSError as error:
            self.discard(slot)
            raise from_os_error(error) from error
        return content.model_copy(update={"tree_digest": digest})

    def discard(self, slot: SlotName) -> None:
        """Take away the marker for good, and then the files, as well as the disk still lets us."""
        folder = self.folder(slot)
        with contextlib.suppress(OSError):
            remove_durably(folder / MARKER)
            _empty(folder)

    def check(self, slot: SlotName) -> SlotContent:
        """Read every file of ``slot`` and return what it holds.

        Raises:
            StepError: ``integrity_failed``: no marker, or the files are not those that were verified.
        """
        folder = self.folder(slot)
        try:
            marker = _Marker.model_validate_json(_read(folder / MARKER))
            digest = tree_digest(folder)
            described = SlotContent.model_validate_json(_with_digest(_read(folder / VERSION), digest))
        except FileNotFoundError as error:
            raise StepError(ErrorCode.INTEGRITY_FAILED, f"{slot}: {Path(error.filename).name} is missing") from error
        except (OSError, ValidationError, ValueError) as error:
            raise StepError(ErrorCode.INTEGRITY_FAILED, f"{slot}: {error}"[:300]) from error
        if digest != marker.tree_digest or described.manifest_sha256 != marker.manifest_sha256:
            raise StepError(ErrorCode.INTEGRITY_FAILED, f"{slot}: its files are not those that were verified")
        return described

    def verified(self) -> dict[SlotName, SlotContent]:
        """Return what the verified slots hold."""
        found: dict[SlotName, SlotContent] = {}
        for slot in SLOT_NAMES:
            try:
                found[slot] = self.check(slot)
            except StepError:
                continue
        return found

    def clear_staging(self) -> None:
        """Remove everything that was fetched."""
        for entry in self.staging.iterdir():
            entry.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _wait_for_writer(folder: Path) -> None:
    """Wait until what an agent that was killed had unpack there has seen that it must end."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _WRITER_SECONDS_MAX
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_DOCUMENT_BYTES_MAX)


def _with_digest(described: bytes, digest: str) -> bytes:
    """Put the digest beside what ``.version`` says; it cannot hold its own."""
    return described.rstrip()[:-1] + f',"tree_digest":"{digest}"}}'.encode()

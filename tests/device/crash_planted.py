"""Bugs of the device client that only a power cut, or a bad disk, shows."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from device_client.adapters import durable, journal, layout, slots
from device_client.adapters.journal import Journal
from device_client.adapters.slots import Slots
from device_client.core.record import Record, SlotContent
from schemas.messages import SlotName

Plant = Callable[[pytest.MonkeyPatch], None]


def forget_folders(patch: pytest.MonkeyPatch) -> None:
    """No folder is made durable."""
    for module in (durable, layout, slots):
        patch.setattr(module, "sync_folder", lambda path: None)


def forget_files(patch: pytest.MonkeyPatch) -> None:
    """No document is made durable before it takes its name."""

    def write(path: Path, data: bytes, mode: int = 0o644) -> None:
        pending = path.with_name(f"{path.name}.pending")
        pending.write_bytes(data)
        pending.replace(path)
        durable.sync_folder(path.parent)

    for module in (journal, slots):
        patch.setattr(module, "write_durably", write)


def try_again_to_sync(patch: pytest.MonkeyPatch) -> None:
    """A document that could not be made durable is tried once more."""

    def write(path: Path, data: bytes, mode: int = 0o644) -> None:
        pending = path.with_name(f"{path.name}.pending")
        with pending.open("wb") as file:
            file.write(data)
            file.flush()
            try:
                os.fsync(file.fileno())
            except OSError:
                os.fsync(file.fileno())
        pending.replace(path)
        durable.sync_folder(path.parent)

    for module in (journal, slots):
        patch.setattr(module, "write_durably", write)


def take_the_link_away_first(patch: pytest.MonkeyPatch) -> None:
    """The link is removed and made again."""

    def write(root: Path, slot: str) -> None:
        (root / layout.ACTIVE).unlink(missing_ok=True)
        (root / layout.ACTIVE).symlink_to(slot)
        durable.sync_folder(root)

    patch.setattr(slots, "write_link", write)


def leave_the_marker(patch: pytest.MonkeyPatch) -> None:
    """The marker goes with the other files of a slot that is emptied, and not durably before them."""
    patch.setattr(slots, "remove_durably", lambda path: None)


def decide_in_two_documents(patch: pytest.MonkeyPatch) -> None:
    """What is on trial or being left stands in a document of its own."""
    apart: Final = {"trial", "going_back"}

    def save(journal: Journal, record: Record) -> None:
        durable.write_durably(journal._path, record.model_dump_json(exclude=apart).encode())
        durable.write_durably(journal._path.with_suffix(".change"), record.model_dump_json(include=apart).encode())

    def load(journal: Journal) -> Record:
        other = journal._path.with_suffix(".change")
        if not journal._path.exists():
            return Record()
        record = Record.model_validate_json(journal._path.read_bytes())
        change = Record.model_validate_json(other.read_bytes()) if other.exists() else Record()
        return record.model_copy(update={name: getattr(change, name) for name in apart})

    patch.setattr(Journal, "save", save)
    patch.setattr(Journal, "load", load)


def believe_the_marker(patch: pytest.MonkeyPatch) -> None:
    """The files of a slot are not read again."""
    check = Slots.check

    def believe(self: Slots, slot: SlotName) -> SlotContent:
        marker = self.folder(slot) / layout.MARKER
        with pytest.MonkeyPatch.context() as inner:
            if marker.exists():
                believed = slots._Marker.model_validate_json(marker.read_bytes()).tree_digest
                inner.setattr(slots, "tree_digest", lambda folder: believed)
            return check(self, slot)

    patch.setattr(Slots, "check", believe)

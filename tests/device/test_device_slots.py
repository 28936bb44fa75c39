import errno
import os
from pathlib import Path

import pytest

from device_client.adapters.failure import StepError
from device_client.adapters.journal import Journal
from device_client.adapters.slots import Slots
from device_client.core.record import Marks, Record
from tests.device.device_bench import make_content


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    made = Slots(tmp_path / "root")
    folder = made.open("blue")
    (folder / "app" / "main.py").write_text("print(1)")
    made.seal("blue", make_content("1.0.0"))
    made.switch("blue")
    return made


def test_layout_is_that_of_the_reference(slots: Slots) -> None:
    assert sorted(path.name for path in slots.folder("blue").iterdir()) == [
        ".verified", ".version", "app", "config", "models",
    ]  # fmt: skip
    assert (slots.root / "active").readlink() == Path("blue"), "relative, so that the folder can be moved"


def test_sealed_slot_says_what_it_holds(slots: Slots) -> None:
    content = slots.check("blue")

    assert content.model_copy(update={"tree_digest": ""}) == make_content("1.0.0").model_copy(
        update={"tree_digest": ""}
    )
    assert slots.verified() == {"blue": content}


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "app" / "main.py").write_text("print(2)"),
        lambda folder: (folder / "app" / "main.py").unlink(),
        lambda folder: (folder / "app" / "main.py").chmod(0o755),
        lambda folder: (folder / "app" / "other.py").write_text(""),
        lambda folder: (folder / "app" / "link").symlink_to("main.py"),
        lambda folder: os.mkfifo(folder / "app" / "pipe"),
        lambda folder: (folder / ".version").write_text("{}"),
        lambda folder: (folder / ".verified").unlink(),
        lambda folder: (folder / ".verified").write_text(""),
        lambda folder: (folder / ".verified").write_text('{"manifest_sha256": 1}'),
    ],
)
def test_slot_is_not_verified_when_anything_about_it_has_changed(slots: Slots, damage: object) -> None:
    assert callable(damage)
    damage(slots.folder("blue"))

    with pytest.raises(StepError) as caught:
        slots.check("blue")

    assert caught.value.code == "integrity_failed"
    assert slots.verified() == {}


def test_opened_slot_is_empty_and_unverified(slots: Slots) -> None:
    slots.switch("green")

    folder = slots.open("blue")

    assert sorted(path.name for path in folder.iterdir()) == ["app", "config", "models"]


def test_slot_that_serves_is_never_opened(slots: Slots) -> None:
    with pytest.raises(StepError, match="never written"):
        slots.open("blue")

    assert slots.verified()


def test_switch_replaces_the_link_and_leaves_nothing_behind(slots: Slots) -> None:
    (slots.root / "active.pending").symlink_to("nowhere")  # left by a power cut

    slots.switch("green")
    slots.switch("green")

    assert slots.active() == "green"
    assert not (slots.root / "active.pending").is_symlink()


@pytest.mark.parametrize("target", ["red", "/etc", "../blue"])
def test_link_to_elsewhere_is_no_active_slot(slots: Slots, target: str) -> None:
    (slots.root / "active").unlink()
    (slots.root / "active").symlink_to(target)

    assert slots.active() is None


def test_marker_goes_durably_before_the_first_byte_changes(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    slots.switch("green")
    calls = record_calls(monkeypatch)

    slots.open("blue")

    assert calls[:2] == [("unlink", ".verified"), ("fsync", "blue")]


def test_marker_comes_last_and_after_everything_is_durable(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    slots.switch("green")
    (slots.open("blue") / "app" / "main.py").write_text("print(3)")
    calls = record_calls(monkeypatch)

    slots.seal("blue", make_content("1.0.0"))

    marked = calls.index(("replace", ".verified"))
    assert {name for call, name in calls[:marked] if call == "fsync"} >= {"app", "models", "config", "blue"}
    assert calls[marked - 1] == ("fsync", ".verified.pending")
    assert calls[marked + 1] == ("fsync", "blue")
    assert len(calls) == marked + 2


def test_slot_is_given_up_when_it_cannot_be_made_durable(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    slots.switch("green")
    slots.open("blue")
    tried: list[int] = []

    def fail(descriptor: int) -> None:
        tried.append(os.fstat(descriptor).st_ino)
        raise OSError(errno.EIO, "no disk")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StepError) as caught:
        slots.seal("blue", make_content("1.0.0"))

    assert (caught.value.code, caught.value.retryable) == ("io_error", True)
    assert len(set(tried)) == len(tried) == 2, "a failed fsync is not tried again; the marker's folder is another"
    monkeypatch.undo()
    assert slots.verified() == {}


def test_full_disk_has_a_code_of_its_own(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StepError) as caught:
        slots.switch("green")

    assert caught.value.code == "no_space"


def test_record_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "record.json")
    record = Record(marks=Marks(epoch=3, seq=7), blue=make_content("1.0.0"), active="blue")

    journal.save(record)

    assert journal.load() == record
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_missing_record_is_that_of_a_new_device(tmp_path: Path) -> None:
    assert Journal(tmp_path / "record.json").load() == Record()


@pytest.mark.parametrize("damaged", [b"", b"{", b'{"phase": "dancing"}', b'{"future": 1}', b"\xff"])
def test_damaged_record_is_kept_aside_and_begun_anew(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "record.json").write_bytes(damaged)

    assert Journal(tmp_path / "record.json").load() == Record()
    assert (tmp_path / "record.corrupt").read_bytes() == damaged


def record_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Write down what changes the disk, by the name of the file."""
    calls: list[tuple[str, str]] = []
    fsync, unlink, replace = os.fsync, Path.unlink, Path.replace

    def note_fsync(descriptor: int) -> None:
        calls.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def note_unlink(path: Path, *, missing_ok: bool = False) -> None:
        calls.append(("unlink", path.name))
        unlink(path, missing_ok=missing_ok)

    def note_replace(path: Path, target: Path) -> Path:
        calls.append(("replace", target.name))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "unlink", note_unlink)
    monkeypatch.setattr(Path, "replace", note_replace)
    return calls

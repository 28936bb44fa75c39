"""Media that are old, forged, damaged, half copied or pulled out: the active slot serves on, whatever lies there."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_client.adapters.chunk_content import Content
from device_client.adapters.media_folder import MediaFolder
from device_client.adapters.trust import TrustRoot
from device_client.core.effects import LogMedia, PublishReported
from device_client.core.machine import Phase
from schemas.chunks import Chunk
from schemas.codec import encode
from schemas.dsse import GRANT_TYPE, seal
from schemas.media import MediaOrder
from schemas.trust import open_first
from tests.core.trust_roots import document, key, make_root, role, signed
from tests.device.chunk_world import make_built, places_of
from tests.device.device_world import COMMAND_KEY, RELEASE_KEY, public
from tests.device.media_bench import DAY_SECONDS, MADE_AT
from tests.device.media_world import MediaWorld, tampered

OTHERS: dict[str, Any] = {
    "number": 11,
    "made_at": "2026-01-01T00:00:00Z",
    "not_after": "2099-01-01T00:00:00Z",
    "devices": ["pi-1", "pi-2"],
    "groups": ["vision"],
    "release": "app-9.9.9",
    "version": "9.9.9",
    "targets": [],
    "strategy": "rolling",
    "health_check": {},
    "min_ready_seconds": 0.0,
    "progress_deadline_seconds": 1.0,
}


@pytest.fixture
def world(tmp_path: Path) -> MediaWorld:
    return MediaWorld(tmp_path)


def test_medium_as_it_was_exported_is_installed(world: MediaWorld) -> None:
    world.export()

    world.look()
    world.settle()

    assert (world.bench.phase(), world.bench.link, world.refused()) == (Phase.IDLE, "green", [])
    assert world.serves("1.1.0")


def test_release_without_chunks_is_installed_from_its_archive(world: MediaWorld, tmp_path: Path) -> None:
    world.publish(make_built(tmp_path / "plain", "1.2.0", {"app/main.py": b"print(2)\n"}, chunked=False))
    world.export(of="1.2.0")

    world.look()

    assert world.bench.version == "1.2.0"


# Orders.


def test_every_field_of_an_order_is_tried() -> None:
    assert set(OTHERS) == set(MediaOrder.model_fields)


def test_order_with_a_field_that_was_changed_is_refused_whichever_it_is(world: MediaWorld) -> None:
    order = world.export()
    as_signed = order.read_bytes()

    for field, value in OTHERS.items():
        order.write_bytes(as_signed)
        tampered(order, {field: value})
        world.look()

    assert world.refused() == ["signature_invalid"] * len(OTHERS)
    assert (world.bench.phase(), world.bench.device.record.marks.media) == (Phase.IDLE, 0)
    assert world.serves("1.0.0")


@pytest.mark.parametrize("signer", [RELEASE_KEY, key("somebody else")], ids=["release key", "foreign key"])
def test_order_of_another_key_is_refused(world: MediaWorld, signer: Any) -> None:  # noqa: ANN401 - a key
    world.export(key=signer)

    refuses(world, "signature_invalid")


def test_what_the_command_key_signed_as_a_grant_is_no_order(world: MediaWorld) -> None:
    order = world.export()
    order.write_bytes(seal(GRANT_TYPE, encode(world.make_order()), COMMAND_KEY))

    refuses(world, "signature_invalid")


def test_order_under_another_number_is_refused(world: MediaWorld) -> None:
    order = world.export()
    order.rename(order.with_name("11.json"))

    refuses(world, "invalid_order")


@pytest.mark.parametrize(
    ("changes", "clock", "code"),
    [
        ({"devices": ("pi-2",)}, MADE_AT, "wrong_device"),
        ({"devices": (), "groups": ("audio",)}, MADE_AT, "wrong_device"),
        ({}, MADE_AT + 31 * DAY_SECONDS, "expired"),
    ],
)
def test_order_for_others_or_from_long_ago_is_refused(
    world: MediaWorld, changes: dict[str, Any], clock: float, code: str
) -> None:
    world.export(**changes)

    refuses(world, code, clock)


def test_old_stick_is_refused_after_a_newer_one(world: MediaWorld, tmp_path: Path) -> None:
    world.export(10, "1.0.0")
    shutil.move(world.stick, tmp_path / "old")
    world.export(11, "1.1.0")
    world.look()
    world.settle()
    shutil.rmtree(world.stick)
    shutil.move(tmp_path / "old", world.stick)

    world.look()

    assert world.refused() == ["media_stale"]
    assert world.serves("1.1.0")


def test_stick_that_stays_plugged_in_has_one_effect(world: MediaWorld) -> None:
    world.export()
    for _ in range(4):
        world.look()
        world.settle()

    assert [each.state for each in reports(world)].count("trial") == 1
    assert world.refused() == []


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda order: order.write_bytes(b""), "signature_invalid"),
        (lambda order: order.write_bytes(order.read_bytes()[:200]), "signature_invalid"),
        (lambda order: order.write_bytes(b"x" * 70_000), "invalid_order"),
        (lambda order: moved_away(order).symlink_to(order.with_name("moved")), "invalid_order"),
        (lambda order: os.mkfifo(moved_away(order)), "invalid_order"),
        (lambda order: moved_away(order).mkdir(), "invalid_order"),
    ],
    ids=["empty", "cut off", "too large", "link", "pipe", "folder"],
)
def test_order_that_is_no_plain_file_of_an_order_is_refused(
    world: MediaWorld, spoil: Callable[[Path], None], code: str
) -> None:
    spoil(world.export())

    refuses(world, code)


@pytest.mark.parametrize("place", ["", "orders"])
def test_folder_that_is_a_symbolic_link_is_not_followed(world: MediaWorld, tmp_path: Path, place: str) -> None:
    world.export()
    shutil.move(world.stick / place, tmp_path / "elsewhere")
    (world.stick / place).symlink_to(tmp_path / "elsewhere")

    refuses(world, "invalid_order")


def test_medium_with_thousands_of_orders_costs_a_bounded_number_of_reads(
    world: MediaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = world.export()
    for number in range(1000, 3000):
        os.link(order, order.with_name(f"{number}.json"))
    reads: list[tuple[str, ...]] = []
    blocks = MediaFolder.blocks

    def counted(self: MediaFolder, *place: str, bytes_max: int) -> Any:  # noqa: ANN401 - as it was
        reads.append(place)
        return blocks(self, *place, bytes_max=bytes_max)

    monkeypatch.setattr(MediaFolder, "blocks", counted)

    world.look()

    assert len(reads) <= 70
    assert set(world.refused()) == {"invalid_order"}


def test_medium_whose_name_is_no_text_is_refused_without_harm_to_log_and_report(tmp_path: Path) -> None:
    world = MediaWorld(tmp_path, pattern="mnt/*/tidegate")
    place = os.fsdecode(os.fsencode(tmp_path) + b"/mnt/\xff\nERROR all is lost")
    Path(place, "tidegate").parent.mkdir(parents=True)
    shutil.move(world.export().parent.parent, Path(place, "tidegate"))
    Path(place, "tidegate", "orders", "11.json").write_bytes(b"{}")
    Path(place, "tidegate", "orders", "12.json").mkdir()

    world.look()

    assert world.refused() == ["invalid_order", "signature_invalid"]
    (log, _) = [each for each in world.bench.all(LogMedia) if each.is_refused]
    assert "\n" not in log.message
    encode(world.bench.reported)
    assert world.bench.version == "1.1.0", "what is good beside it is taken"


# What an order needs.


@pytest.mark.parametrize(
    "spoil",
    [
        lambda chunk: chunk.write_bytes(chunk.read_bytes()[:-1]),
        lambda chunk: chunk.write_bytes(bytes(len(chunk.read_bytes()))),
        lambda chunk: moved_away(chunk).symlink_to(chunk.with_name("moved")),
        lambda chunk: os.mkfifo(moved_away(chunk)),
        lambda chunk: os.truncate(chunk, 2**40),
    ],
    ids=["cut off", "zeros", "link", "pipe", "endless"],
)
def test_damaged_chunk_is_in_nothing_and_attempts_are_bounded(world: MediaWorld, spoil: Callable[[Path], None]) -> None:
    world.export()
    spoil(world.stick / "chunks" / min(new_chunks(world)))

    gives_up(world)


def test_damaged_chunk_list_is_in_nothing_and_attempts_are_bounded(world: MediaWorld) -> None:
    world.export()
    chunks = world.built["1.1.0"].manifest.chunks
    assert chunks is not None
    (world.stick / "chunks" / chunks.sha256).write_bytes(b"tgchunk1")

    gives_up(world)


@pytest.mark.parametrize("flip", [True, False])
def test_another_manifest_than_ordered_is_refused(world: MediaWorld, *, flip: bool) -> None:
    world.export()
    stored = world.stored().by_arch["noarch"]
    path = world.stick / "manifests" / stored.manifest_sha256
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:] if flip else world.built["1.0.0"].envelope)

    world.look()
    for _ in range(10):
        world.bench.wait(1000)

    assert (world.bench.phase(), world.serves("1.0.0")) == (Phase.FAILED, True)
    assert world.bench.error_code in {"checksum_mismatch", "io_error"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": key("somebody else")}, "signature_invalid"),
        ({"arch": "riscv64"}, "arch_mismatch"),
        ({"device_types": ("jetson",)}, "device_type_mismatch"),
        ({"allowed_from": ("0.9.0",)}, "not_allowed_from"),
        ({"release_counter": 99}, "downgrade"),
    ],
)
def test_release_that_no_order_may_bring_here_is_refused_as_online(
    world: MediaWorld, tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    world.publish(make_built(tmp_path / "other", "1.3.0", {"app/main.py": b"print(3)\n"}, **changes))
    targets = world.make_order(of="1.3.0").targets
    world.export(of="1.3.0", targets=tuple(each.model_copy(update={"arch": "aarch64"}) for each in targets))

    world.look()

    assert (world.bench.phase(), world.bench.error_code) == (Phase.FAILED, code)
    assert world.serves("1.0.0")


def test_order_that_names_another_version_than_the_manifest_is_refused(world: MediaWorld) -> None:
    world.export(release="app-1.1.0", version="1.2.0")

    world.look()

    assert world.bench.error_code == "version_mismatch"
    assert world.serves("1.0.0")


def test_full_disk_is_said_and_nothing_is_changed(world: MediaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.export()
    usage = shutil.disk_usage(world.folder)._replace(free=1000)
    monkeypatch.setattr("device_client.adapters.artifact.shutil.disk_usage", lambda _path: usage)

    world.look()

    assert (world.bench.phase(), world.bench.error_code) == (Phase.DOWNLOADING, "no_space")
    assert world.serves("1.0.0")


# Media that come and go.


def test_half_copied_medium_without_an_order_orders_nothing(world: MediaWorld) -> None:
    world.export().unlink()

    world.look()

    assert (world.bench.phase(), world.refused()) == (Phase.IDLE, [])


def test_medium_that_lacks_chunks_is_waited_for_until_they_are_there(world: MediaWorld, tmp_path: Path) -> None:
    world.export()
    shutil.move(world.stick / "chunks", tmp_path / "late")

    world.look()
    world.bench.probe_for(5000)
    assert (world.bench.phase(), world.bench.error_code) == (Phase.DOWNLOADING, "media_missing")
    assert world.serves("1.0.0")
    shutil.move(tmp_path / "late", world.stick / "chunks")
    world.bench.wait(100)
    world.settle()

    assert world.serves("1.1.0")


def test_stick_that_is_pulled_out_in_the_middle_is_gone_on_with_where_it_was(
    world: MediaWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.export()
    read: list[str] = []
    written: set[str] = set()
    was_pulled = threading.Event()
    blocks, write = MediaFolder.blocks, Content.write

    def counted(self: MediaFolder, *place: str, bytes_max: int) -> Any:  # noqa: ANN401 - as it was
        if place[0] == "chunks":
            read.append(place[1])
            if len(written.intersection(read)) >= 3 and not was_pulled.is_set():
                was_pulled.set()
                shutil.move(world.stick, tmp_path / "pocket")
        return blocks(self, *place, bytes_max=bytes_max)

    def noted(self: Content, chunk: Chunk, data: bytes) -> None:
        write(self, chunk, data)
        written.add(chunk.sha256)

    monkeypatch.setattr(MediaFolder, "blocks", counted)
    monkeypatch.setattr(Content, "write", noted)
    world.look()
    assert (world.bench.phase(), world.bench.error_code) == (Phase.DOWNLOADING, "media_missing")
    world.look()
    world.bench.probe_for(1000)
    assert world.serves("1.0.0")
    before = written.intersection(read)
    assert len(before) >= 3
    read.clear()

    shutil.move(tmp_path / "pocket", world.stick)
    world.look()
    world.settle()

    assert world.serves("1.1.0")
    assert not before & set(read), "what was copied is not read again"


def test_other_medium_in_its_place_is_no_medium_of_the_order(world: MediaWorld, tmp_path: Path) -> None:
    world.export()
    shutil.move(world.stick / "chunks", tmp_path / "chunks")
    world.look()
    (world.stick / "orders" / "10.json").write_bytes(b"{}")
    shutil.move(tmp_path / "chunks", world.stick / "chunks")

    world.bench.wait(100)

    assert (world.bench.phase(), world.bench.error_code) == (Phase.DOWNLOADING, "media_missing")


# Trust roots on media.


def rooted(tmp_path: Path) -> tuple[MediaWorld, dict[str, Any], bytes]:
    roles: dict[str, Any] = {
        "root": role("root-a"),
        "release": {"keys": [public(RELEASE_KEY).hex()], "threshold": 1},
        "command": {"keys": [public(COMMAND_KEY).hex()], "threshold": 1},
    }
    first = signed(make_root(1, **roles), "root-a")
    trust = TrustRoot(open_first(first), tmp_path / "roots.json")
    return MediaWorld(tmp_path, trust), roles, first


def test_keys_are_rotated_by_a_medium(tmp_path: Path) -> None:
    world, roles, first = rooted(tmp_path)
    second = signed(make_root(2, **{**roles, "command": role("command-2")}), "root-a")

    world.export(key=key("command-2"), roots=encode(document(1, first, second)))
    world.look()

    assert world.bench.version == "1.1.0"
    assert world.bench.device.root is not None
    assert world.bench.device.root.version == 2


def test_order_of_a_command_key_that_the_medium_itself_rotates_away_is_refused(tmp_path: Path) -> None:
    world, roles, first = rooted(tmp_path)
    second = signed(make_root(2, **{**roles, "command": role("command-2")}), "root-a")
    world.export(roots=encode(document(1, first, second)))

    refuses(world, "signature_invalid")


def test_release_is_revoked_by_a_medium(tmp_path: Path) -> None:
    world, roles, first = rooted(tmp_path)
    second = signed(make_root(2, **roles, revoked=("app-1.1.0",)), "root-a")
    world.export(roots=encode(document(1, first, second)))

    world.look()

    assert (world.bench.phase(), world.bench.error_code) == (Phase.FAILED, "revoked")
    assert world.serves("1.0.0")


def test_roots_that_do_not_follow_are_refused_with_all_that_lies_beside_them(tmp_path: Path) -> None:
    world, roles, _ = rooted(tmp_path)
    foreign = signed(make_root(2, **{**roles, "root": role("evil"), "command": role("evil-command")}), "evil")
    world.export(key=key("evil-command"), roots=encode(document(2, foreign)))

    refuses(world, "signature_invalid")


def gives_up(world: MediaWorld) -> None:
    """See that a medium is given up after a bounded number of attempts."""
    world.look()
    for _ in range(10):
        world.bench.wait(1000)
    assert world.bench.phase() is Phase.FAILED
    assert world.bench.error_code in {"checksum_mismatch", "download_failed"}
    assert world.serves("1.0.0")


def refuses(world: MediaWorld, code: str, clock: float = MADE_AT + 60) -> None:
    """See that a medium is refused, once, and that nothing else has happened."""
    for _ in range(3):
        world.look(clock)
        world.settle()
    assert world.refused() == [code]
    assert world.bench.phase() is Phase.IDLE
    assert world.bench.device.record.marks.media == 0
    assert world.serves("1.0.0")
    last = world.bench.reported.media
    assert last is not None
    assert last.refused is not None
    assert (last.order, last.refused.code) == (None, code)


def reports(world: MediaWorld) -> list[Any]:
    return [each.reported for each in world.bench.all(PublishReported)]


def moved_away(path: Path) -> Path:
    path.rename(path.with_name("moved"))
    return path


def new_chunks(world: MediaWorld) -> set[str]:
    """Return the chunks of 1.1.0 that 1.0.0 does not have."""
    old, new = ({each.chunk.sha256 for each in places_of(world.built[version])} for version in ("1.0.0", "1.1.0"))
    return new - old

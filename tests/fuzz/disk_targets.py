"""Readers of what lies on disks: archives from elsewhere, and our own files after something has damaged them."""

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from random import Random
from typing import Final

from device_client.adapters.archive import ArchiveError, Entry, unpack
from device_client.adapters.journal import Journal
from device_client.adapters.layout import RECORD
from device_client.core.record import Marks, Record
from device_client.guardian.documents import MEMORY, Memory, read_memory, read_trial, write_memory
from device_client.guardian.seen import Boots, Outcome
from orchestrator.adapters.histories import KeptHistories
from orchestrator.core.snapshot import freeze, thaw
from orchestrator.core.state import State
from orchestrator.telemetry.monitor import Monitor
from schemas.chunks import from_stored, name_chunk, read_chunk_list, to_stored, write_chunk_list
from schemas.errors import DecodeError
from schemas.manifest import Format
from tests.core.core_bench import Bench
from tests.device.device_bench import make_content, make_desired
from tests.device.hostile_archives import FILES, HONEST, gzipped, make_manifest, sealed
from tests.device.hostile_frames import HONEST_ZST, HOSTILE, framed
from tests.fuzz.mutator import Mutator, Shape, trees
from tests.fuzz.target import Target, folder
from tests.telemetry.telemetry_streams import feed, sketch_of

_SEED_BYTES_MAX: Final = 40_000
_CHUNK: Final = name_chunk(HONEST)
_CHUNKED_BYTES: Final = 2 * len(HONEST) + 1
_ENTRIES: Final = tuple(Entry(each.path, each.size_bytes, each.mode, each.sha256) for each in make_manifest().files)


def _unpack(form: Format, payload: bytes) -> None:
    """Exactly the files of the manifest are written, and nothing beside the folder."""
    above = folder() / "archive"
    root = above / "root"
    root.mkdir(parents=True)
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            unpack(BytesIO(payload), form, _ENTRIES, descriptor)
            assert {path: (root / path).read_bytes() for path in FILES} == FILES
        finally:
            os.close(descriptor)
            assert list(above.iterdir()) == [root]
    finally:
        shutil.rmtree(above)


def _archive_seeds(form: Format) -> list[bytes]:
    honest = {"tar": HONEST, "tar.gz": gzip.compress(HONEST, mtime=0), "tar.zst": HONEST_ZST}[form]
    hostile = (make() for of, make in HOSTILE.values() if of == form)
    return [honest, *(each for each in hostile if len(each) <= _SEED_BYTES_MAX)]


def _archives(form: Format, _seeds: Sequence[bytes]) -> tuple[Shape, ...]:
    """Make archives that are damaged within: their checksums and what they are compressed with are right."""
    mutator = Mutator([HONEST])

    def shape(rng: Random) -> bytes:
        raw = bytearray(mutator.damaged(rng, HONEST))
        if len(raw) >= 512 and rng.random() < 0.7:
            raw = bytearray(sealed(raw))
        return bytes(raw) if form == "tar" else gzipped(bytes(raw)) if form == "tar.gz" else framed(bytes(raw))

    return (shape,)


def _archive(form: Format) -> Target:
    return Target(
        partial(_unpack, form), (ArchiveError,), partial(_archive_seeds, form), partial(_archives, form), cost=4
    )


def _record(payload: bytes) -> None:
    """Both programs start whatever stands there."""
    state = folder() / "state"
    state.mkdir(exist_ok=True)
    (state / RECORD).write_bytes(payload)
    read_trial(state)
    record = Journal(state / RECORD).load()
    assert Record.model_validate_json(record.model_dump_json()) == record


def _record_seeds() -> list[bytes]:
    desired = make_desired(7)
    full = Record(
        boot_id="b", desired=desired, desired_sha256="ab" * 32, marks=Marks(), active="blue",
        blue=make_content("1.0.0"),
        green=make_content("1.1.0"), previous="blue", reported_seq=4, session=2,
    )  # fmt: skip
    trial = {
        "slot": "green", "previous": "blue", "generation": 7, "manifest_sha256": "ab" * 32, "deadline_at": 5.0,
        "progress_deadline_seconds": 300.0, "boots_left": 2, "commit_on": "gate", "min_ready_seconds": 1.0, "check": {},
    }  # fmt: skip
    document = json.loads(full.model_dump_json())
    back: dict[str, object] = {"slot": "blue", "error": None, "patience_seconds": 3.0, "check": {}, "deadline_at": 2.0}
    return [
        Record().model_dump_json().encode(), json.dumps({**document, "trial": trial}).encode(),
        json.dumps({**document, "trial": None, "going_back": back}).encode(), b"", b"\0" * 100, b"[" * 100_000,
    ]  # fmt: skip


def _memory(payload: bytes) -> None:
    (folder() / MEMORY).write_bytes(payload)
    memory = read_memory(folder())
    write_memory(folder(), memory)
    assert read_memory(folder()) == memory


def _memory_seeds() -> list[bytes]:
    write_memory(folder(), Memory(Boots("b", ("a", "b")), Outcome(7, "ab" * 32, "green", "crash_loop", "m")))
    return [(folder() / MEMORY).read_bytes(), b"", b"{}", b"[" * 100_000]


def _history(payload: bytes) -> None:
    """The file as it is, and the same with a right digest: then an older program wrote it."""
    path = folder() / "baselines.history"
    for data in (payload, _sealed({"format": 1}, payload)):
        path.write_bytes(data)
        monitor = Monitor()
        monitor.remember(KeptHistories(path).load(), 1e9)
        monitor.baseline("g", now=1e9, seconds=24 * 3600.0, excluding_version="2", min_samples=1)


def _sealed(about: dict[str, object], data: bytes) -> bytes:
    return json.dumps({**about, "sha256": hashlib.sha256(data).hexdigest()}).encode() + b"\n" + data


def _history_seeds() -> list[bytes]:
    monitor = Monitor()
    feed(
        monitor,
        "a",
        "g",
        start=1e9 - 3600,
        version="1",
        count=40,
        latency=sketch_of([0.02, 0.3]),
        quality={"accuracy": 0.9},
    )
    path = folder() / "baselines.history"
    KeptHistories(path).write(monitor.histories())
    head, _, data = path.read_bytes().partition(b"\n")
    return [data, head + b"\n" + data, b"\x80", b"{}\n", b'{"sha256":1}\n', b"[" * 100_000 + b"\n"]


def _thaw(payload: bytes) -> None:
    thaw(payload)


def _snapshot_seeds() -> list[bytes]:
    bench = Bench()
    return [freeze(bench.state), freeze(State()), b"", b"PK\x03\x04"]


def _chunk_list(payload: bytes) -> None:
    """What is read stands for the very bytes."""
    places = read_chunk_list(payload, _CHUNKED_BYTES)
    assert write_chunk_list((each.chunk, each.stored_bytes) for each in places) == payload
    assert all(0 < each.stored_bytes <= each.chunk.size_bytes for each in places)
    assert sum(each.chunk.size_bytes for each in places) == _CHUNKED_BYTES


def _chunk(payload: bytes) -> None:
    """Nothing but the chunk comes out."""
    assert from_stored(payload, _CHUNK) == HONEST


DISK: Final[dict[str, Target]] = {
    "archive-tar": _archive("tar"),
    "archive-gzip": _archive("tar.gz"),
    "archive-zstd": _archive("tar.zst"),
    "chunk-list": Target(
        _chunk_list, (DecodeError,), lambda: [write_chunk_list([(_CHUNK, 9), (name_chunk(b"x"), 1), (_CHUNK, 9)])]
    ),
    "chunk": Target(_chunk, (DecodeError,), lambda: [to_stored(HONEST), HONEST]),
    "record": Target(_record, (), _record_seeds, lambda seeds: (trees(seeds),), cost=2),
    "guardian-memory": Target(_memory, (), _memory_seeds, lambda seeds: (trees(seeds),), cost=2),
    "history": Target(_history, (), _history_seeds, lambda seeds: (trees(seeds, packed=True),), cost=30),
    "snapshot": Target(_thaw, (ValueError,), _snapshot_seeds, cost=10),
}

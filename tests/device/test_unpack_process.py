"""The process that unpacks: it has limits, ends with its agent, and its end is understood."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from device_client.adapters import unpack_process, unpacker
from device_client.adapters.failure import CancelledError, StepError
from device_client.adapters.slots import Slots
from device_client.adapters.unpacker import unpack_apart
from tests.device.device_world import until
from tests.device.hostile_archives import HONEST_GZ, entry, make_manifest, pack

FILES_COUNT = 8000
LIMITED = "from device_client.adapters.unpack_process import end_with_the_agent, limit; import resource, os, sys\n"


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    folder = tmp_path / "slot"
    folder.mkdir()
    (tmp_path / "archive").write_bytes(HONEST_GZ)
    return folder


@pytest.fixture
def instead(slot: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a program of the test run where the one that unpacks would."""

    def put(program: str) -> None:
        path = slot.parent / "program.py"
        path.write_text(program)
        monkeypatch.setattr(unpacker, "PROGRAM", str(path))

    return put


def unpacked(slot: Path, is_cancelled: Callable[[], bool] = lambda: False) -> StepError | None:
    try:
        unpack_apart(slot.parent / "archive", make_manifest(), slot, is_cancelled)
    except StepError as error:
        return error
    return None


@pytest.mark.parametrize(
    "deed",
    [
        "x = bytearray(200_000_000)",
        "open('big', 'wb').write(bytes(9000))",
        "while True: pass",
        "[os.dup(0) for _ in range(100)]",
    ],
    ids=["memory", "file_size", "time", "open_files"],
)
def test_what_is_more_than_unpacking_needs_is_not_to_be_had(deed: str, tmp_path: Path) -> None:
    program = f"{LIMITED}limit(1, 4096)\n{deed}"

    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False, timeout=60)

    assert ended.returncode == (-signal.SIGXCPU if "while" in deed else 1)
    assert all(path.stat().st_size <= 4096 for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "archive_invalid"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "archive_invalid"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "io_error"),
        ("print('invalid it is bad')", "archive_invalid"),
        (f"print('failed {errno.ENOSPC} /x')", "no_space"),
        (f"print('failed {errno.EIO} ')", "io_error"),
        ("raise SystemExit(3)", "io_error"),
        ("pass", "io_error"),
        ("print('done'); import os; os.abort()", "archive_invalid"),
    ],
    ids=["crash", "cpu_limit", "killed", "invalid", "disk_full", "disk_broken", "error", "silence", "crash_at_the_end"],
)
def test_every_end_of_the_process_means_something(
    slot: Path, instead: Callable[[str], None], program: str, code: str
) -> None:
    instead(program)

    failure = unpacked(slot)

    assert failure is not None
    assert failure.code == code
    assert failure.retryable is (code != "archive_invalid"), "only what is the archive's fault stays so"


def test_process_is_ended_when_nobody_wants_the_archive_any_more(slot: Path, instead: Callable[[str], None]) -> None:
    instead("import time; time.sleep(60)")
    others = set(children(os.getpid()))
    seen: set[int] = set()

    def is_cancelled() -> bool:
        seen.update(set(children(os.getpid())) - others)
        return True

    with pytest.raises(CancelledError):
        unpacked(slot, is_cancelled)

    assert seen
    assert not any(map(is_alive, seen))


def test_process_is_ended_when_the_disk_takes_too_long(
    slot: Path, instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    instead("import time; time.sleep(60)")
    monkeypatch.setattr(unpacker, "PATIENCE_SECONDS", -5)

    failure = unpacked(slot)

    assert failure is not None
    assert (failure.code, failure.retryable) == ("io_error", True)


def test_process_ends_with_its_agent_and_the_next_one_waits_for_that(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "root")
    with agent_that_unpacks(slots.folder("blue")) as (agent, child):
        agent.kill()
        agent.wait()
        until(lambda: not is_alive(child))
        assert len([*(slots.folder("blue") / "app").iterdir()]) < FILES_COUNT, "in the middle of it"

        slots.open("blue")

    assert sorted(path.name for path in slots.folder("blue").iterdir()) == ["app", "config", "models"]


def test_slot_is_not_touched_while_something_still_writes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = Slots(tmp_path / "root")
    (slots.folder("blue") / "junk").write_text("x")
    monkeypatch.setattr("device_client.adapters.slots._WRITER_SECONDS_MAX", 0.1)
    writer = os.open(slots.folder("blue"), os.O_RDONLY)
    fcntl.flock(writer, fcntl.LOCK_EX)

    with pytest.raises(StepError, match="unavailable"):
        slots.open("blue")

    assert (slots.folder("blue") / "junk").exists()
    os.close(writer)
    slots.open("blue")


@contextmanager
def agent_that_unpacks(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A process like the agent, in the middle of unpacking something that takes long, and the process that does it."""
    files = {f"app/{number}": b"x" * 100 for number in range(FILES_COUNT)}
    raw = pack([entry(path, data) for path, data in files.items()])
    archive = folder.parent / "archive"
    archive.write_bytes(raw)
    manifest = folder.parent / "manifest.json"
    manifest.write_text(make_manifest(raw, "tar", files).model_dump_json())
    program = (
        "import sys; from pathlib import Path; from device_client.adapters.unpacker import unpack_apart\n"
        "from schemas.manifest import Manifest\n"
        "archive, manifest, folder = map(Path, sys.argv[1:])\n"
        "unpack_apart(archive, Manifest.model_validate_json(manifest.read_text()), folder, lambda: False)\n"
    )
    command = [sys.executable, "-c", program, str(archive), str(manifest), str(folder)]
    with subprocess.Popen(command) as agent:
        until(lambda: any((folder / "app").glob("*")) if (folder / "app").exists() else False)
        yield agent, children(agent.pid)[0]
        agent.kill()


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for each in tasks for child in each.read_text().split()]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def is_free(folder: Path) -> bool:
    """Say whether nobody unpacks into a folder."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(opened)


TRACED = """
import os, sys
os.execvp("strace", ["strace", "-D", "-qq", "-y", "-o", {log!r}, "-e", "trace={calls}", *{inject!r},
                     sys.executable, "-S", "-P", {program!r}, *sys.argv[1:]])
"""
"""Has strace see, and disturb, the process that unpacks; it is still the agent's child."""
CALLS = ("openat", "mkdirat", "fchmod", "write", "fsync")
CODES = {"error=ENOSPC": "no_space", "error=EIO": "io_error", "signal=KILL": "io_error"}


@pytest.mark.debian
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", CODES)
def test_disk_may_fail_and_the_process_may_die_at_every_call_that_changes_the_slot(
    call: str, how: str, slot: Path, instead: Callable[[str], None]
) -> None:
    log = slot.parent / "log"

    def traced(*inject: str) -> None:
        instead(TRACED.format(log=str(log), calls=call, inject=inject, program=unpack_process.__file__))

    traced()
    assert unpacked(slot) is None
    lines = [line for line in log.read_text().splitlines() if line.startswith(f"{call}(")]
    points = [number for number, line in enumerate(lines, 1) if str(slot) in line and "O_RDONLY" not in line]
    assert len(points) >= len(make_manifest().files)

    for number in points:
        until(lambda: is_free(slot))  # strace, which holds what its child held, ends a moment later
        empty(slot)
        traced("-e", f"inject={call}:{how}:when={number}")
        failure = unpacked(slot)

        assert failure is not None, f"{call} {number}"
        assert (failure.code, failure.retryable) == (CODES[how], True), str(failure)


def empty(folder: Path) -> None:
    for each in folder.iterdir():
        shutil.rmtree(each)

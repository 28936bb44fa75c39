# ruff: noqa: ANN401 - it wraps whatever the product's methods take and give
"""Runs real agents and kills them at a point of the caller's choice.

One process that has everything imported forks a child for each run, because a test of every point needs many. The
child is the product's own wiring; only the bus is replaced by one that repeats a retained order and grants what is
asked. A point is the moment before or after an effect or a piece of work; at the chosen one the child ends like a
process that is killed: at once, with nothing flushed or cleaned up.

Reads one JSON object a line: {"config", "desired", "kill_at", "phases", "traced"}; answers {"code", "points"}. Where
``traced`` is given, strace sees each thread by itself, from its beginning: {"log", "inject", "thread", "path"};
archives are then unpacked by the agent's own thread, so that it is seen too.
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from device_client import __main__ as program
from device_client import assembly
from device_client.adapters.archive import ArchiveError, Entry, unpack
from device_client.adapters.artifact import Artifacts
from device_client.adapters.failure import StepError
from device_client.adapters.performer import Performer
from device_client.adapters.worker import Worker
from device_client.core.codes import ErrorCode
from device_client.core.events import Connected, DesiredReceived, Event, GrantReceived
from device_client.settings import load_settings
from schemas.codec import decode
from schemas.manifest import Manifest
from schemas.messages import Desired, Ready
from schemas.topics import Kind
from tests.device.device_world import make_grant
from tests.tracing import Tracing

KILLED = 9
PATIENCE_SECONDS = 60
"""A run that has not come to rest by then is ended by SIGALRM."""
TRACED = (
    "openat",
    "write",
    "pwrite64",
    "writev",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "utimensat",
    "copy_file_range",
    "sendfile",
    "fallocate",
)
"""Calls that change files."""


class LocalBus:
    """A bus with nobody else on it."""

    desired = b""

    def __init__(
        self, _broker: object, _topics: object, device: str, *, post: Callable[[Event], None], **_: Any
    ) -> None:
        self.device = device
        self.post = post

    def start(self) -> None:
        self.post(Connected())
        self.post(DesiredReceived(decode(Desired, self.desired), hashlib.sha256(self.desired).hexdigest()))

    def publish(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.READY:
            seq = time.time_ns() // 1000 % 2**52  # grows from run to run
            self.post(GrantReceived(make_grant(self.device, decode(Ready, payload), seq, self.desired)))

    def publish_event(self, kind: object, payload: bytes) -> None:
        pass

    def listen_to_peers(self) -> None:
        pass

    def end(self) -> None:
        pass


class Points:
    """Counts points and ends the process at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.count = 0
        self.kill_at = kill_at

    def pass_one(self) -> None:
        if self.count == self.kill_at:
            os._exit(KILLED)
        self.count += 1


def unpack_here(
    archive: Path, manifest: Manifest, folder: Path, _: Callable[[], bool], form: str | None = None
) -> None:
    """Do what the process that unpacks does, in this one."""
    entries = [Entry(each.path, each.size_bytes, each.mode, each.sha256) for each in manifest.files]
    root = os.open(folder, os.O_RDONLY)
    try:
        with archive.open("rb") as file:
            unpack(file, form or manifest.artifact.format, entries, root)
    except ArchiveError as error:
        raise StepError(ErrorCode.ARCHIVE_INVALID, str(error)) from error
    finally:
        os.close(root)


def run(request: dict[str, Any], answer: int) -> None:
    """Run an agent until it is killed or has come to rest under the order."""
    signal.alarm(PATIENCE_SECONDS)
    if request.get("traced"):
        Tracing(TRACED, **request["traced"]).attach()
        setattr(assembly, "Artifacts", partial(Artifacts, unpack=unpack_here))  # noqa: B010 - the types differ on purpose
    points = Points(request["kill_at"])
    perform, attempt = Performer.perform, Worker.attempt

    def counted_perform(self: Performer, *arguments: Any) -> Any:
        points.pass_one()
        result = perform(self, *arguments)
        points.pass_one()
        return result

    def counted_attempt(self: Worker, *arguments: Any) -> Any:
        points.pass_one()
        result = attempt(self, *arguments)
        points.pass_one()
        return result

    setattr(Performer, "perform", counted_perform)  # noqa: B010 - the types differ on purpose
    setattr(Worker, "attempt", counted_attempt)  # noqa: B010 - the same
    LocalBus.desired = Path(request["desired"]).read_bytes()
    setattr(assembly, "Bus", LocalBus)  # noqa: B010 - the same
    settings = load_settings(Path(request["config"]))
    with program.lock(settings):
        agent, record, facts = assembly.build_agent(settings)
        turn = agent.turn
        generation = json.loads(LocalBus.desired)["generation"]

        def watched_turn() -> None:
            turn()
            if agent.device.record.generation == generation and agent.device.phase in request["phases"]:
                os.write(answer, str(points.count).encode())
                os._exit(0)

        setattr(agent, "turn", watched_turn)  # noqa: B010 - the same
        agent.run(record, facts)


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                run(request, writer)
            except BaseException:  # noqa: BLE001 - the child must end here whatever happens
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(1)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        points = os.read(reader, 32)
        os.close(reader)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "points": int(points or 0)}), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()

"""Runs real orchestrators and has strace kill them, or fail their disk, at a call of the caller's choice.

One process that has everything imported forks a child for each run, because a test of every call needs many. The child
is the product's own process on a real broker; what differs is its clock, which is a number in a file that the caller
moves on, and that snapshots and histories are written much more often than the product would.

Reads one JSON object a line: {"folder", "port", "clock", "file_bytes_max", "restored", "traced"}. Answers {"pid"}, and
when the child has ended {"code"}. No file of it grows beyond ``file_bytes_max``, if that is given. Where ``traced`` is
given, strace sees each thread by itself, from its beginning: {"log", "inject", "thread", "path"}.
"""

import asyncio
import json
import logging
import mmap
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import orchestrator.run as program
from orchestrator.adapters import clock
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.snapshots import program as program_digest
from orchestrator.run import Settings, run_orchestrator
from orchestrator.signals import until_signalled
from schemas.errors import FleetError
from tests.end_to_end.lockstep import read_clock
from tests.tracing import Tracing

PATIENCE_SECONDS = 60
"""A run that has not ended by then is ended by SIGALRM."""
TICK_SECONDS = 0.003
SETTLE_SECONDS = 15.0  # of its own clock
SNAPSHOT_EACH_ENTRIES = 25
FILE_CALLS = (
    "openat", "write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "rename", "renameat", "renameat2",
    "unlink", "unlinkat", "fallocate",
)  # fmt: skip
"""Calls by which it changes files."""
SOCKET_CALLS = ("sendto", "sendmsg")


def run(request: dict[str, Any]) -> int:
    """Run an orchestrator until it is ended, one way or another; return its exit code."""
    signal.alarm(PATIENCE_SECONDS)
    log = Path(request["folder"]).with_suffix(".log")
    logging.basicConfig(level=logging.INFO, filename=log, format="%(levelname)s %(name)s: %(message)s", force=True)
    with Path(request["clock"]).open("rb") as file:
        hand = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    setattr(clock, "now", lambda: read_clock(hand))  # noqa: B010 - a function of a module
    setattr(program, "EACH_ENTRIES", SNAPSHOT_EACH_ENTRIES)  # noqa: B010 - a constant
    setattr(program, "SNAPSHOT_LOOK_SECONDS", 0.05)  # noqa: B010 - the same
    setattr(program, "WRITTEN_EACH_SECONDS", 0.2)  # noqa: B010 - the same
    if request.get("file_bytes_max") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes_max"], request["file_bytes_max"]))
    settings = Settings(
        broker=BrokerUrl("127.0.0.1", request["port"], username="orchestrator"),
        folder=Path(request["folder"]),
        tick_seconds=TICK_SECONDS,
        settle_seconds=SETTLE_SECONDS,
        restored=request.get("restored", False),
    )
    if request.get("traced"):
        Tracing((*FILE_CALLS, *SOCKET_CALLS), **request["traced"]).attach()
    try:
        asyncio.run(until_signalled(run_orchestrator(settings, lambda _line: None)))
    except FleetError as error:
        logging.getLogger("driver").error("error: %s", error)  # noqa: TRY400 - an error that was foreseen
        return 1
    return 0


def main() -> None:
    program_digest()  # Read once, before the forks.
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = run(json.loads(line))
            except BaseException:
                logging.getLogger("driver").exception("defect")
            finally:
                os._exit(code)
        print(json.dumps({"pid": child}), flush=True)  # noqa: T201 - the answer
        _, status = os.waitpid(child, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()

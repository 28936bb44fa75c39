"""An orchestrator's engine in a process of its own, on a journal file, that is killed at a chosen append."""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from orchestrator.adapters.journal import Journal, StoredEntry
from orchestrator.core.context import Context
from orchestrator.core.interpret import Received
from orchestrator.core.state import State
from orchestrator.outgoing import Outgoing
from orchestrator.service import Engine
from orchestrator.telemetry.monitor import Monitor
from schemas.documents import AuditRecord
from schemas.messages import Info
from schemas.policy import Policy
from tests.core.core_bench import TREE, Bench, fold

_PROCESSES = get_context("forkserver")  # A clean process at the price of a fork.
_PROCESSES.set_forkserver_preload(["tests.end_to_end.mortal_engine"])
Moment = Literal["inside", "after"]


class KilledError(Exception):
    """The engine's process has just died."""


class DeadlyJournal(Journal):
    """A journal whose process is killed inside the transaction of an append, or right after it."""

    def __init__(self, path: Path, appends_left: int, moment: Moment) -> None:
        self._appends_left, self._moment = appends_left, moment
        super().__init__(path)

    def append(self, rows: Sequence[tuple[str, str]], at: float) -> tuple[AuditRecord, ...]:
        self._appends_left -= 1
        records = super().append(rows, at)
        if self._appends_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return records

    def _store_performed(self) -> None:
        super()._store_performed()
        if self._appends_left == 0 and self._moment == "inside":
            os.kill(os.getpid(), signal.SIGKILL)


def _serve(connection: Connection, path: Path, appends_left: int, moment: Moment, materials: dict[str, Any]) -> None:
    context = Context(Monitor(), materials["releases"], materials["policies"], "http://registry")
    journal = DeadlyJournal(path, appends_left, moment)
    engine = Engine(journal, context, lambda payload: payload, TREE, summary_seconds=float("inf"))
    with suppress(EOFError):  # the test is over
        while True:
            verb, arguments = connection.recv()
            connection.send(getattr(engine, verb)(*arguments))
    journal.close()


class EngineProcess:
    """Speaks to the engine as if it were here; raises ``KilledError`` once it is dead."""

    def __init__(self, path: Path, appends_left: int, moment: Moment, materials: dict[str, Any]) -> None:
        self._connection, theirs = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(
            target=_serve, args=(theirs, path, appends_left, moment, materials), daemon=True
        )
        self._process.start()
        theirs.close()

    def _ask(self, verb: str, *arguments: object) -> Any:  # noqa: ANN401 - whatever the engine returns
        try:
            self._connection.send((verb, arguments))
            return self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._process.join()
            assert self._process.exitcode == -signal.SIGKILL, f"it ended by itself with {self._process.exitcode}"
            raise KilledError from error

    def start(self, now: float) -> list[Outgoing]:
        outgoing: list[Outgoing] = self._ask("start", now)
        return outgoing

    def receive(self, received: Received, now: float) -> list[Outgoing]:
        outgoing: list[Outgoing] = self._ask("receive", received, now)
        return outgoing

    def handle(self, given: object, now: float) -> list[Outgoing]:
        outgoing: list[Outgoing] = self._ask("handle", given, now)
        return outgoing

    def performed(self) -> None:
        self._ask("performed")

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


class ProcessBench(Bench):
    """A bench whose engine is a process that is killed once; what comes after it lives on.

    What a test sees of the state is folded from the file that the processes wrote.
    """

    def __init__(self, path: Path, appends_left: int, moment: Moment, fleet: dict[str, Info], policy: Policy) -> None:
        self.path, self.moment, self.appends_left = path, moment, appends_left
        self._folded: tuple[int, State] = (-1, State())
        super().__init__(fleet, policy, Journal(None))

    def boot(self, *, settle_seconds: float = 5.0, restored: str = "") -> list[Outgoing]:
        materials = {"releases": self.releases, "policies": self.policies}
        engine = EngineProcess(self.path, self.appends_left, self.moment, materials)
        self.engine = engine  # type: ignore[assignment]  # it answers what a bench asks of an engine
        self.appends_left = -1
        return self.take(engine.start(self.now))

    def entries(self) -> list[StoredEntry]:
        reader = Journal.open_reader(self.path)
        try:
            return list(reader.read())
        finally:
            reader.close()

    @property
    def state(self) -> State:
        entries = self.entries()
        if self._folded[0] != len(entries):
            self._folded = (len(entries), fold(entries))
        return self._folded[1]

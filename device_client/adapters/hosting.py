"""What is asked of whoever runs applications: processes of ours, systemd or a container engine.

Agent and guardian both ask it, so these modules import nothing but Python.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Final, Protocol

from device_client.adapters.processes import Process, Usage

SERVING: Final = "serving"
SMOKE_TEST: Final = "smoke_test"
SLOTS: Final = ("blue", "green")
ROLES: Final = (SERVING, SMOKE_TEST)


@dataclass(frozen=True, slots=True)
class Application:
    """What is to run.

    Attributes:
        slot: Where its files are.
        version: That it must say it has.
        command: As signed; ``{port}`` and ``{python}`` stand for what they are here.
        port: Where it shall listen.
        role: Whether it serves or is tested.
    """

    slot: str
    version: str
    command: Sequence[str]
    port: int
    role: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One application that was started, for as long as it runs.

    Attributes:
        slot: Whose application.
        role: Whether it serves or is tested.
        name: What it is called where it runs; another each time.
        process: Its first process; None if it has ended already or is not to be seen from here.
    """

    slot: str
    role: str
    name: str
    process: Process | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What an application may use at most; None is no limit.

    Attributes:
        memory_bytes: Of memory, with all its processes.
        cpu_ratio: Of processors; 1.5 is one and a half.
        tasks: Processes and threads.
        file_bytes: Size of one file that it writes.
        open_files: Of each process.
    """

    memory_bytes: int | None = None
    cpu_ratio: float | None = None
    tasks: int | None = None
    file_bytes: int | None = None
    open_files: int | None = None

    def given(self) -> list[str]:
        """Return the names of the limits that there are."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]


class Host(Protocol):
    """Runs applications of one device, at most one for each slot and role."""

    def find(self) -> list[Instance]:
        """Return what runs, whoever has started it; the oldest first.

        Raises:
            OSError: It cannot be asked.
        """

    def start(self, application: Application) -> Instance:
        """Start an application.

        Raises:
            OSError: It cannot be started.
        """

    def is_running(self, instance: Instance) -> bool:
        """Say whether it has not ended, as far as can be seen; cheap enough to be asked several times a second."""

    def end(self, instance: Instance, grace_seconds: float) -> bool:
        """End it with all that it has started, politely first, and say whether nothing is left.

        Raises:
            OSError: It cannot be ended.
        """

    def end_others(self, kept: Instance | None, grace_seconds: float, slots: Collection[str] = SLOTS) -> bool:
        """End everything but ``kept`` that was started from ``slots``, also what ``find`` does not show; as ``end``."""

    def tidy(self) -> None:
        """Do what is to be done now and then; costs nothing if it is nothing."""

    def sweep(self) -> None:
        """Remove what is kept for releases that no slot holds any more; as ``tidy``, and the agent's alone."""

    def usage(self, instance: Instance) -> Usage | None:
        """Return what it uses with all that it has started; None if that is not known."""

    def unenforced(self) -> list[str]:
        """Return the names of the limits that were given and hold nobody back here."""

"""What a guardian sees of a device: values, and nothing that is done about them."""

from dataclasses import dataclass
from enum import Enum


class Lock(Enum):
    """The agent's lock, as far as the guardian knows."""

    UNTRIED = "untried"
    HELD = "held"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class Trial:
    """The trial, or the rollback, in the agent's record, as far as it matters here.

    Attributes:
        slot: Where the version is that may be left.
        previous: Where to go back to; None on a device that had nothing before.
        generation: The order that brought it.
        manifest_sha256: The release on trial.
        boot_id: The boot in which ``deadline_at`` is meant; the last one that the agent lived to record.
        deadline_at: When the trial's time is over.
        progress_deadline_seconds: What it has again after a reboot.
        boots_left: Reboots it may still see, after those that the agent recorded.
    """

    slot: str
    previous: str | None
    generation: int
    manifest_sha256: str
    boot_id: str
    deadline_at: float
    progress_deadline_seconds: float
    boots_left: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the guardian did about a trial; the agent reports it.

    Attributes:
        generation: Of the trial.
        manifest_sha256: Of the trial.
        slot: What serves after it.
        code: Why, one of ``reported.error``'s codes.
        message: Why, for people.
    """

    generation: int
    manifest_sha256: str
    slot: str
    code: str
    message: str

    def is_about(self, trial: Trial) -> bool:
        """Say whether it is about that trial and no other."""
        return (self.generation, self.manifest_sha256) == (trial.generation, trial.manifest_sha256)


@dataclass(frozen=True, slots=True)
class Boots:
    """The boots of a trial that its agent has not recorded.

    Attributes:
        recorded: The boot in the record.
        seen: Those after it.
    """

    recorded: str = ""
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an agent may be silent.

    Attributes:
        silence_seconds: While it runs, or is not there.
        start_seconds: While it reads its slots.
    """

    silence_seconds: float = 120.0
    start_seconds: float = 1800.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the guardian sees.

    Attributes:
        boot_id: Of this boot.
        trial: What is on trial; None if nothing is or the record cannot be read.
        active: Where the link points.
        heard_at: The last sign of life of the agent's loop in this boot, or when somebody began to listen.
        is_starting: The agent said since then that it reads its slots; one that dies of it stays silent.
        agent_lives: Its process is there.
        boots: What ``count_boot`` gave.
        outcome: What this guardian did last.
        running: The slot whose application runs.
        lock: The agent's lock.
        is_routed: Clients are led to what is active, as far as a router is this guardian's business.
        is_previous_sound: The files of the previous slot are those that were verified; looked at under the lock only.
        patience: How long an agent may be silent.
    """

    boot_id: str
    trial: Trial | None
    active: str | None
    heard_at: float
    is_starting: bool = False
    agent_lives: bool = False
    boots: Boots = Boots()
    outcome: Outcome | None = None
    running: str | None = None
    is_routed: bool = True
    lock: Lock = Lock.UNTRIED
    is_previous_sound: bool = False
    patience: Patience = Patience()

"""What a seed has reached, read from its trace: facts, phases, commands, mishaps, and rare states by name.

A campaign adds up in how many seeds each was reached. A rare state that no seed reaches is one of which the campaign
says nothing.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from device_client.core.machine import Phase

_PHASES: Final = frozenset(str(phase) for phase in Phase)
_CHANGING: Final = frozenset({"draining", "switching", "trial", "rolling_back"})
_OF_ONE_CASE: Final = re.compile(r"[:(,]| for | with | of epoch |\d")
"""What follows is of one case only: numbers, moments, reasons."""


@dataclass(slots=True)
class Moment:
    """One line of a trace, and how the world stood before it.

    Attributes:
        who: The orchestrator, the broker, a person or a device.
        word: The first word of what it did: of the orchestrator the kind of fact, of a device its phase.
        what: All of what it did.
        phases: The phase of each device, and of those without power the one in which it went.
        before: The kinds of facts so far, since the first rollout began.
        is_active: A rollout has begun and none of its ends or halts has come since.
        is_returning: A rollback was ordered, and nobody has seen yet that all went well.
        awaits_approval: The last gate waits for a person.
        is_frozen: So many devices are silent that nothing is decided.
        is_braked: A person has pulled the brake and not released it.
    """

    who: str = ""
    word: str = ""
    what: str = ""
    phases: dict[str, str] = field(default_factory=dict)
    before: set[str] = field(default_factory=set)
    is_active: bool = False
    is_returning: bool = False
    awaits_approval: bool = False
    is_frozen: bool = False
    is_braked: bool = False

    @property
    def phase(self) -> str:
        """The phase of the device that the line is about."""
        return self.phases.get(self.who, "")

    def read(self, line: str) -> None:
        """Take the next line."""
        _, self.who, self.what = line.split(None, 2)
        self.word = self.what.split(" ", 1)[0]

    def go_on(self) -> None:
        """Let the line have happened."""
        match self.word:
            case word if word in _PHASES:
                self.phases[self.who] = word
            case "rollout_started" | "rollout_resumed":
                self.is_active = True
            case "rollout_halted":
                self.is_active = False
            case "rollout_ended":
                self.is_active = self.is_returning = self.awaits_approval = False
            case "rollback_ordered" | "rollback_verified":
                self.is_returning = self.word == "rollback_ordered"
            case "gate_judged":
                self.awaits_approval = self.what.endswith("await_approval")
            case "rollout_approved":
                self.awaits_approval = False
            case "fleet_frozen" | "fleet_thawed":
                self.is_frozen = self.word == "fleet_frozen"
            case "brake":
                self.is_braked = self.what == "brake on"
            case _:
                pass
        if self.who == "orchestrator" and (self.before or self.is_active):
            self.before.add(self.word)

    def some(self, phase: str) -> bool:
        """Say whether a device is in a phase."""
        return phase in self.phases.values()


RARE: Final[Mapping[str, Callable[[Moment], bool]]] = {
    "halt while a device drains": lambda m: m.word == "rollout_halted" and m.some("draining"),
    "halt while a device is on trial": lambda m: m.word == "rollout_halted" and m.some("trial"),
    "halt during a rollback": lambda m: m.word == "rollout_halted" and m.is_returning,
    "rollback during a rollback": lambda m: m.word == "rollback_ordered" and m.is_returning,
    "rollback after a halt": lambda m: m.word == "rollback_ordered" and not m.is_active,
    "rollback while approval is awaited": lambda m: m.word == "rollback_ordered" and m.awaits_approval,
    "retry during a rollback": lambda m: m.word == "device_retried" and m.is_returning,
    "epoch change in a wave": lambda m: m.word == "epoch_opened" and m.is_active,
    "epoch change during a rollback": lambda m: m.word == "epoch_opened" and m.is_returning,
    "epoch change while approval is awaited": lambda m: m.word == "epoch_opened" and m.awaits_approval,
    "another orchestrator takes over in a wave": lambda m: m.word == "hangs," and m.is_active,
    "an orchestrator that was replaced wakes up": lambda m: m.who == "orchestrator" and m.what.startswith("of epoch"),
    "broker restart in a wave": lambda m: m.who == "broker" and m.is_active,
    "broker restart during a rollback": lambda m: m.who == "broker" and m.is_returning,
    "power cut while downloading": lambda m: m.what == "loses power" and m.phase == "downloading",
    "power cut while installing": lambda m: m.what == "loses power" and m.phase == "installing",
    "power cut while draining": lambda m: m.what == "loses power" and m.phase == "draining",
    "power cut while switching": lambda m: m.what == "loses power" and m.phase == "switching",
    "power cut on trial": lambda m: m.what == "loses power" and m.phase == "trial",
    "power cut while going back": lambda m: m.what == "loses power" and m.phase == "rolling_back",
    "agent killed in a change": lambda m: m.what == "its agent is killed" and m.phase in _CHANGING,
    "sleep on trial": lambda m: m.word == "sleeps" and m.phase == "trial",
    "sleep while going back": lambda m: m.word == "sleeps" and m.phase == "rolling_back",
    "brake while a device is on trial": lambda m: m.what == "brake on" and m.some("trial"),
    "brake during a rollback": lambda m: m.what == "brake on" and m.is_returning,
    "fleet silent in a wave": lambda m: m.word == "fleet_frozen" and m.is_active,
    "fleet silent during a rollback": lambda m: m.word == "fleet_frozen" and m.is_returning,
    "approval while the fleet is silent": lambda m: m.word == "rollout_approved" and m.is_frozen,
    "approval that comes too late": lambda m: m.what == "approve is answered: conflict" and "rollout_ended" in m.before,
    "keys change while a device waits": lambda m: m.what.endswith(": both are obeyed") and m.some("waiting"),
    "old key ends while a device is on trial": lambda m: m.what.endswith("obeyed no more") and m.some("trial"),
    "revoked while a device waits": lambda m: m.word == "revokes" and m.some("waiting"),
    "revoked while a device is on trial": lambda m: m.word == "revokes" and m.some("trial"),
    "device joins during a rollback": lambda m: m.word == "devices_joined" and m.is_returning,
    "resume after a rollback": lambda m: m.word == "rollout_resumed" and "rollback_ordered" in m.before,
    "newer rollout during a rollout": lambda m: m.word == "rollout_started" and "rollout_started" in m.before,
}
"""Rare states by name: what a line and the world before it must be."""


def reached(trace: Iterable[str]) -> frozenset[str]:
    """Return what a trace has reached: ``fact …``, ``phase …``, ``command …``, ``mishap …`` and ``rare …``."""
    moment, found = Moment(), set[str]()
    for line in trace:
        moment.read(line)
        found.add(_kind(moment))
        found.update(f"rare {name}" for name, holds in RARE.items() if holds(moment))
        moment.go_on()
    return frozenset(found)


def _kind(moment: Moment) -> str:
    if moment.word in _PHASES:
        return f"phase {moment.word}"
    if moment.who == "orchestrator" and "_" in moment.word:
        return f"fact {moment.word}"
    if moment.word == "brake" or " is answered" in moment.what:
        return f"command {moment.word}"
    who = moment.who if moment.who in {"orchestrator", "broker", "world", "authority"} else "device"
    return f"mishap {who} {_OF_ONE_CASE.split(moment.what, maxsplit=1)[0].strip()}"

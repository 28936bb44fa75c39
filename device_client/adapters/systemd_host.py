"""Applications as systemd's units: one template, an instance for each slot and one more for each slot's smoke test.

The unit holds limits, user and sandbox; what it starts is ``device_client.application``, which becomes the slot's own
command. Restarts are the agent's business, so that they are counted and planned in the same way everywhere.
"""

from collections.abc import Collection, Iterator
from typing import Final

from device_client.adapters.cgroups import usage_around
from device_client.adapters.hosting import ROLES, SERVING, SLOTS, Application, Instance
from device_client.adapters.processes import Usage, identify
from device_client.adapters.programs import ANSWER_SECONDS, ProgramError, run

UNIT: Final = "tidegate-app@"
_PROPERTIES: Final = "ActiveState,Id,InvocationID,MainPID"
_GONE: Final = ("inactive", "failed")


class SystemdHost:
    """Runs applications as instances of a unit template.

    Args:
        unit: The template's name up to its ``@``.
        systemctl: The program.
    """

    def __init__(self, unit: str = UNIT, systemctl: str = "systemctl") -> None:
        self._unit = unit
        self._systemctl = systemctl

    def find(self) -> list[Instance]:
        """Return what runs, as systemd says."""
        units = [self._name(slot, role) for slot in SLOTS for role in ROLES]
        return [instance for instance, state in self._show(*units) if state not in _GONE]

    def start(self, application: Application) -> Instance:
        """Start an instance; systemd has it running, or says why not."""
        self._ask("start", self._name(application.slot, application.role))
        return next(instance for instance, _ in self._show(self._name(application.slot, application.role)))

    def is_running(self, instance: Instance) -> bool:
        """Say whether its main process has not ended; systemd is asked only if that cannot be seen."""
        if instance.process is not None:
            return instance.process.is_alive()
        try:
            return any(found.name == instance.name for found in self.find())
        except ProgramError:
            return True  # who cannot be asked has not said that it ended

    def end(self, instance: Instance, grace_seconds: float) -> bool:
        """Stop a unit with its whole control group; one that is to end without grace is killed first."""
        unit = self._name(instance.slot, instance.role)
        if grace_seconds <= 0:
            self._kill(unit)
        try:
            self._ask("stop", unit, timeout_seconds=grace_seconds + ANSWER_SECONDS)
        except ProgramError:
            self._kill(unit)
            self._ask("stop", unit)
        return all(state in _GONE for _, state in self._show(unit))

    def end_others(self, kept: Instance | None, grace_seconds: float, slots: Collection[str] = SLOTS) -> bool:
        """End every unit of ``slots`` but ``kept``."""
        spared = None if kept is None else (kept.slot, kept.role)
        others = [found for found in self.find() if found.slot in slots and (found.slot, found.role) != spared]
        return sum(not self.end(other, grace_seconds) for other in others) == 0

    def tidy(self) -> None:
        """Do nothing: systemd waits for its own."""

    def sweep(self) -> None:
        """Do nothing: slots hold all that there is."""

    def usage(self, instance: Instance) -> Usage | None:
        """Return what its control group uses; the sum over its processes where the kernel keeps no such account."""
        return None if instance.process is None else usage_around(instance.process)

    def unenforced(self) -> list[str]:
        """Return nothing: limits stand in the unit."""
        return []

    def _show(self, *units: str) -> Iterator[tuple[Instance, str]]:
        """Give each unit's instance and state; ``show`` answers for units that have never run as well."""
        text = self._ask("show", f"--property={_PROPERTIES}", "--", *units)
        for block in text.strip().split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            slot, _, test = values["Id"].removeprefix(self._unit).removesuffix(".service").partition("-")
            pid = int(values.get("MainPID", "0"))
            role = next(role for role in ROLES if (role == SERVING) == (not test))
            process = identify(pid) if pid else None
            yield Instance(slot, role, values.get("InvocationID", ""), process), values["ActiveState"]

    def _kill(self, unit: str) -> None:
        try:
            self._ask("kill", "--signal=SIGKILL", unit)
        except ProgramError:
            return  # nobody is left to kill

    def _ask(self, *arguments: str, timeout_seconds: float = ANSWER_SECONDS) -> str:
        return run([self._systemctl, "--no-ask-password", *arguments], timeout_seconds)

    def _name(self, slot: str, role: str) -> str:
        return f"{self._unit}{instance_name(slot, role)}.service"


def instance_name(slot: str, role: str) -> str:
    """Return what stands after the ``@``."""
    return slot if role == SERVING else f"{slot}-test"

"""Applications as processes of ours: they outlive an agent that is killed, and the next one finds them."""

import json
import os
import pwd
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from device_client.adapters import cgroups, confine
from device_client.adapters.children import settled
from device_client.adapters.families import Family, bury_orphans
from device_client.adapters.hosting import ROLES, SLOTS, Application, Instance, Limits
from device_client.adapters.launch import launch
from device_client.adapters.processes import Process, Usage, find, identify, left_from, usage_of

if TYPE_CHECKING:
    import subprocess

_RLIMITS: Final = {"file_bytes": "RLIMIT_FSIZE", "open_files": "RLIMIT_NOFILE"}


class ProcessHost:
    """Runs applications as processes.

    Args:
        root: The device's folder.
        limits: For each application.
        cgroup: A control group (version 2) in which this process may make others; None if there is none.
        user: Whom applications run as; None is whom this process runs as.
    """

    def __init__(
        self, root: Path, limits: Limits | None = None, cgroup: Path | None = None, user: str | None = None
    ) -> None:
        self._root = root
        self._limits = limits or Limits()
        self._cgroup = cgroup
        self._user = user
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def find(self) -> list[Instance]:
        """Return what runs; the oldest first."""
        return [Instance(slot, role, _name(process), process) for process, slot, role in find(self._root)]

    def start(self, application: Application) -> Instance:
        """Start an application as the leader of a session of its own.

        Raises:
            OSError: It cannot be started as it must be.
        """
        wrapper = self._wrapper(application)
        with settled():
            child = launch(self._root, application, wrapper)
            self._children[child.pid] = child
        # It may have ended already; its id is not used again before it is waited for.
        process = identify(child.pid) or Process(child.pid, -1)
        return Instance(application.slot, application.role, _name(process), process)

    def is_running(self, instance: Instance) -> bool:
        """Say whether its first process has not ended."""
        assert instance.process is not None, "a process that was started has an id"
        child = self._children.get(instance.process.pid)
        return instance.process.is_alive() if child is None else child.poll() is None

    def end(self, instance: Instance, grace_seconds: float) -> bool:
        """End it with all that it has started."""
        return self._end(self._family(instance.slot, instance.role, instance.process), grace_seconds)

    def end_others(self, kept: Instance | None, grace_seconds: float, slots: Collection[str] = SLOTS) -> bool:
        """End everything but ``kept`` that was started from ``slots``, and what belongs to no slot."""
        spared = None if kept is None else (kept.slot, kept.role)
        leaders = {(slot, role): process for process, slot, role in reversed(find(self._root))}
        ended = [
            self._end(self._family(slot, role, leaders.get((slot, role))), grace_seconds)
            for slot, role in (left_from(self._root) | set(self._populated())) - {spared}
            if slot in slots or slot not in SLOTS
        ]
        return all(ended)

    def tidy(self) -> None:
        """Wait for what has ended, also for what had fled."""
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                self._children.pop(pid, None)
        bury_orphans(self._children)

    def sweep(self) -> None:
        """Do nothing: slots hold all that there is."""

    def usage(self, instance: Instance) -> Usage | None:
        """Return what it uses: as its control group says, or the sum over its processes."""
        group = self._group(instance.slot, instance.role)
        found = None if group is None else cgroups.usage_in(group)
        return usage_of(instance.process.pid) if found is None and instance.process is not None else found

    def unenforced(self) -> list[str]:
        """Return the names of the limits that hold nobody back."""
        usable = cgroups.controllers_of(self._cgroup) if self._cgroup is not None else set()
        enforced = {name for name, controller in cgroups.CONTROLLERS.items() if controller in usable} | set(_RLIMITS)
        if self._user is not None:
            enforced.add("tasks")  # counted by user; without one of its own it would be ours that are counted
        return [name for name in self._limits.given() if name not in enforced]

    def _end(self, family: Family, grace_seconds: float) -> bool:
        is_ended = family.end(grace_seconds)
        if family.group is not None:
            cgroups.remove(family.group)
        child = None if family.leader is None else self._children.pop(family.leader.pid, None)
        if child is not None and is_ended:
            child.wait()
        return is_ended

    def _family(self, slot: str, role: str, leader: Process | None) -> Family:
        """Orphans that have shed all marks belong to the youngest application that is older than they are."""
        since = -1 if leader is None else leader.started_ticks
        others = (identify(pid) for pid in list(self._children) if leader is None or pid != leader.pid)
        next_ticks = min((o.started_ticks for o in others if o is not None and o.started_ticks >= since), default=None)
        return Family(self._root, slot, role, leader, self._group(slot, role), next_ticks)

    def _group(self, slot: str, role: str) -> Path | None:
        return None if self._cgroup is None else self._cgroup / f"{slot}-{role}"

    def _populated(self) -> Iterator[tuple[str, str]]:
        for slot in SLOTS:
            for role in ROLES:
                group = self._group(slot, role)
                if group is not None and cgroups.members(group):
                    yield slot, role

    def _wrapper(self, application: Application) -> list[str]:
        """Return the program that takes the limits upon itself; none if there are none.

        Raises:
            OSError: We may not do what it would have to.
        """
        group = self._group(application.slot, application.role)
        limits = {_RLIMITS[name]: getattr(self._limits, name) for name in self._limits.given() if name in _RLIMITS}
        if self._user is not None:
            self._check_user(self._user)
            limits.update({} if self._limits.tasks is None else {"RLIMIT_NPROC": self._limits.tasks})
        if group is not None:
            cgroups.make(group, self._limits)
        if group is None and self._user is None and not limits:
            return []
        terms = {"cgroup": None if group is None else str(group), "user": self._user, "limits": limits}
        return [sys.executable, "-I", "-S", confine.__file__, json.dumps(terms)]

    def _check_user(self, user: str) -> None:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise OSError(f"there is no user '{user}' to run applications as") from None
        if os.geteuid() not in (0, entry.pw_uid):
            raise PermissionError(f"only root may run applications as '{user}'")


def _name(process: Process) -> str:
    return f"{process.pid}-{process.started_ticks}"

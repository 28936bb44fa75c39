"""Control groups, version 2: limits for all processes of an application together, and an end that none of them escapes.

Source:
    The kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from device_client.adapters.hosting import Limits
from device_client.adapters.processes import Process, Usage, usage_of

MOUNT: Final = Path("/sys/fs/cgroup")
CONTROLLERS: Final = {"memory_bytes": "memory", "cpu_ratio": "cpu", "tasks": "pids"}
_PERIOD_USEC: Final = 100_000


def controllers_of(parent: Path) -> set[str]:
    """Return the controllers that may be used below ``parent``; none if it is no control group."""
    try:
        return set((parent / "cgroup.controllers").read_text().split())
    except OSError:
        return set()


def make(group: Path, limits: Limits) -> None:
    """Make a control group, if there is none, and set its limits.

    Raises:
        OSError: It cannot be made or limited.
    """
    group.mkdir(exist_ok=True)
    usable = controllers_of(group.parent)
    wanted = {CONTROLLERS[name] for name in limits.given() if name in CONTROLLERS} & usable
    if wanted:
        (group.parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(wanted)))
    if limits.memory_bytes is not None and "memory" in wanted:
        (group / "memory.max").write_text(str(limits.memory_bytes))
        with suppress(OSError):  # no swap, no such file
            (group / "memory.swap.max").write_text("0")
        (group / "memory.oom.group").write_text("1")  # half an application is none
    if limits.cpu_ratio is not None and "cpu" in wanted:
        (group / "cpu.max").write_text(f"{round(limits.cpu_ratio * _PERIOD_USEC)} {_PERIOD_USEC}")
    if limits.tasks is not None and "pids" in wanted:
        (group / "pids.max").write_text(str(limits.tasks))


def members(group: Path) -> set[int]:
    """Return the ids of the processes in a control group; none if there is no such group."""
    try:
        return {int(line) for line in (group / "cgroup.procs").read_text().split()}
    except OSError:
        return set()


def kill(group: Path) -> None:
    """Kill everybody in a control group at once, where the kernel can (Linux 5.14)."""
    path = group / "cgroup.kill"
    if path.exists():
        with suppress(OSError):
            path.write_text("1")


def remove(group: Path) -> None:
    """Remove a control group that is empty."""
    with suppress(OSError):
        group.rmdir()


def group_of(pid: int, proc: Path = Path("/proc"), mount: Path = MOUNT) -> Path | None:
    """Return the control group of a process; None if there is none that accounts for memory."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    name = next((line[3:] for line in lines if line.startswith("0::/")), None)
    group = None if name is None else mount / name.lstrip("/")
    return group if group is not None and (group / "memory.current").exists() else None


def usage_in(group: Path) -> Usage | None:
    """Return what a control group uses, without the files that the kernel would drop first; None if it does not say."""
    try:
        current = int((group / "memory.current").read_text())
        memory = _pairs((group / "memory.stat").read_text())
        cpu = _pairs((group / "cpu.stat").read_text())
        return Usage(max(0, current - memory["inactive_file"]), cpu["usage_usec"] / 1e6)
    except (OSError, ValueError, KeyError):
        return None


def _pairs(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


def usage_around(process: Process) -> Usage | None:
    """Return what the control group of ``process`` uses; its process group where the kernel keeps no such account."""
    group = group_of(process.pid)
    return usage_in(group) if group is not None else usage_of(process.pid)

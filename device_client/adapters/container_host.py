"""Applications as containers of docker or podman, from an image that lies in the slot.

The signed command begins with the image's id, and the slot holds the image as ``app/image.tar``. So what runs is what
was verified: nothing is pulled, and a tag that somebody moved means nothing.
"""

import hashlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from device_client.adapters.cgroups import usage_around
from device_client.adapters.engine_images import IMAGE_ID, Images
from device_client.adapters.hosting import SLOTS, Application, Instance, Limits
from device_client.adapters.launch import command_of, environment_of
from device_client.adapters.logs import begin_log, log_path
from device_client.adapters.processes import HOME_VARIABLE, ROLE_VARIABLE, SLOT_VARIABLE, Usage, identify
from device_client.adapters.programs import ANSWER_SECONDS, ProgramError, run

IMAGE: Final = "app/image.tar"
LOG_LINES: Final = "1000"
_LOGGING: Final = {  # bounded: an engine's default fills the disk
    "docker": ("--log-driver=local",),
    "podman": ("--log-driver=k8s-file", "--log-opt=max-size=1mb"),
}
_LABEL: Final = "tidegate"
_SEEN: Final = (
    f'{{{{index .Config.Labels "{_LABEL}.slot"}}}} {{{{index .Config.Labels "{_LABEL}.role"}}}} '
    "{{.State.Running}} {{.State.Pid}}"
)


class ContainerHost:
    """Runs applications as containers.

    Args:
        root: The device's folder.
        kind: ``docker`` or ``podman``; how logs are bounded depends on it.
        limits: For each application.
        user: Whom applications run as in the container; None is what the image says.
        options: More options of ``run``: devices, volumes, networks.
        engine: The program; None is that named ``kind``.
    """

    def __init__(
        self,
        root: Path,
        kind: str,
        *,
        limits: Limits | None = None,
        user: str | None = None,
        options: tuple[str, ...] = (),
        engine: str | None = None,
    ) -> None:
        self._root = root
        self._engine = engine or kind
        self._limits = limits or Limits()
        self._options = (*_LOGGING[kind], *options, *(() if user is None else (f"--user={user}",)))
        self._device = hashlib.sha256(str(root).encode()).hexdigest()[:12]
        self._images = Images(root, kind, self._ask)

    def find(self) -> list[Instance]:
        """Return what runs, as the engine says; the oldest first."""
        seen = [self._inspect(name) for name in reversed(self._all())]
        return [instance for instance, is_running in (each for each in seen if each is not None) if is_running]

    def start(self, application: Application) -> Instance:
        """Load the slot's image, if the engine does not have it, and run it."""
        image, *arguments = command_of(application)
        if IMAGE_ID.fullmatch(image) is None:
            raise ProgramError("the command must begin with the image's id, sha256: and 64 hex digits")
        begin_log(self._root, application.role)
        self._images.load(image, self._root / application.slot / IMAGE)
        name = f"{_LABEL}-{self._device}-{application.slot}-{application.role}"
        with suppress(ProgramError):  # one that has ended and was not removed would keep the name
            self._ask("rm", "--force", name)
        port = application.port
        options = [
            "--detach",
            f"--name={name}",
            "--pull=never",
            f"--label={_LABEL}.device={self._device}",
            f"--label={_LABEL}.slot={application.slot}",
            f"--label={_LABEL}.role={application.role}",
            f"--publish=127.0.0.1:{port}:{port}",
            *(f"--env={key}={value}" for key, value in environment_of(self._root, application).items() if key in _TOLD),
            *self._limiting(),
            *self._options,
        ]
        container = self._ask("run", *options, image, *arguments).split()[-1]
        found = self._inspect(container)
        return Instance(application.slot, application.role, container) if found is None else found[0]

    def is_running(self, instance: Instance) -> bool:
        """Say whether its first process has not ended; the engine is asked only if that cannot be seen."""
        if instance.process is not None:
            return instance.process.is_alive()
        try:
            return instance.name in [found.name for found in self.find()]
        except ProgramError:
            return True  # who cannot be asked has not said that it ended

    def end(self, instance: Instance, grace_seconds: float) -> bool:
        """Stop a container, keep the end of what it said, and remove it."""
        with suppress(ProgramError):  # it has ended already; whether it is gone is seen below
            if grace_seconds > 0:
                self._ask("stop", "-t", f"{grace_seconds:.0f}", instance.name, seconds=grace_seconds + ANSWER_SECONDS)
            else:
                self._ask("kill", instance.name)
        with suppress(OSError):
            self._keep_log(instance)
        with suppress(ProgramError):
            self._ask("rm", "--force", instance.name)
        return instance.name not in self._all()

    def end_others(self, kept: Instance | None, grace_seconds: float, slots: Collection[str] = SLOTS) -> bool:
        """End every container of ``slots`` but ``kept``."""
        seen = [each[0] for each in map(self._inspect, self._all()) if each is not None]
        others = [each for each in seen if each.slot in slots and (kept is None or each.name != kept.name)]
        return sum(not self.end(other, grace_seconds) for other in others) == 0

    def tidy(self) -> None:
        """Do nothing: the engine waits for its own."""

    def sweep(self) -> None:
        """Remove what we have loaded into the engine's store and no slot names any more."""
        self._images.sweep()

    def usage(self, instance: Instance) -> Usage | None:
        """Return what its control group uses; the sum over its processes where the kernel keeps no such account."""
        return None if instance.process is None else usage_around(instance.process)

    def unenforced(self) -> list[str]:
        """Return nothing: an engine that cannot limit what it is told to refuses to run it."""
        return []

    def _limiting(self) -> list[str]:
        limits = self._limits
        ulimits = {"fsize": limits.file_bytes, "nofile": limits.open_files}
        memory = limits.memory_bytes
        return [
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            *(() if memory is None else (f"--memory={memory}", f"--memory-swap={memory}")),
            *(() if limits.cpu_ratio is None else (f"--cpus={limits.cpu_ratio}",)),
            *(() if limits.tasks is None else (f"--pids-limit={limits.tasks}",)),
            *(f"--ulimit={name}={most}:{most}" for name, most in ulimits.items() if most is not None),
        ]

    def _keep_log(self, instance: Instance) -> None:
        said = run([self._engine, "logs", "--tail", LOG_LINES, instance.name], merged=True)
        with log_path(self._root, instance.role).open("a") as log:
            log.write(said)

    def _all(self) -> list[str]:
        """Return the ids of this device's containers, also of those that have ended; the youngest first."""
        return self._ask(
            "ps", "--all", "--quiet", "--no-trunc", f"--filter=label={_LABEL}.device={self._device}"
        ).split()

    def _inspect(self, container: str) -> tuple[Instance, bool] | None:
        """Return what the engine knows about a container; None if there is no such."""
        try:
            slot, role, is_running, pid = self._ask("inspect", f"--format={_SEEN}", container).split()
        except ProgramError:
            return None
        process = identify(int(pid)) if int(pid) else None
        return Instance(slot, role, container, process), is_running == "true"

    def _ask(self, *arguments: str, seconds: float = ANSWER_SECONDS) -> str:
        return run([self._engine, *arguments], seconds)


_TOLD: Final = {"PORT", "TIDEGATE_VERSION", HOME_VARIABLE, SLOT_VARIABLE, ROLE_VARIABLE}

"""From settings to the host they name: the same for the agent and for the guardian; imports nothing but Python.

Only the host that is named is imported, because what is imported is held for as long as the process lives.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from device_client.adapters.hosting import Host, Limits
from device_client.adapters.process_host import ProcessHost


def host_of(root: Path, runtime: Mapping[str, Any], limits: Mapping[str, Any]) -> Host:
    """Return the host that the tables ``runtime`` and ``limits`` of the settings name.

    Raises:
        ValueError: There is no such kind.
    """
    most = Limits(**{field.name: limits.get(field.name) for field in fields(Limits)})
    user = limits.get("user")
    kind = runtime.get("kind", "process")
    match kind:
        case "process":
            group = limits.get("cgroup")
            return ProcessHost(root, most, None if group is None else Path(group), user)
        case "systemd":
            from device_client.adapters.systemd_host import UNIT, SystemdHost  # noqa: PLC0415

            return SystemdHost(runtime.get("unit", UNIT))
        case "docker" | "podman":
            from device_client.adapters.container_host import ContainerHost  # noqa: PLC0415

            return ContainerHost(root, kind, limits=most, user=user, options=tuple(runtime.get("options", ())))
        case _:
            raise ValueError(f"there is no runtime.kind '{kind}'; write process, systemd, docker or podman")

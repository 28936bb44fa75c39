"""The settings of one device's agent, as a file that lies beside its certificate and goes with it."""

import json
import platform
from collections.abc import Mapping
from typing import Final

from schemas.inventory import DeviceEntry

AGENT_FILE: Final = "agent.toml"
_HEADING: Final = """\
# One device's agent: tidegate-agent run --config agent.toml. Files that are named here lie beside this one. The folder
# is the device's alone: whoever has it can be this device.
"""
_SERVES: Final = "the application serves on port, and is tried on standby_port before"


def agent_toml(
    device: str,
    entry: DeviceEntry,
    *,
    broker: str,
    trust: Mapping[str, object],
    root: str = "deployments",
    ports: tuple[int, int] = (8080, 8081),
) -> str:
    """Return the settings of a device with a certificate; what the inventory leaves open is filled in.

    Args:
        device: Its id, and its user at the broker.
        entry: What the inventory says.
        broker: An ``mqtts://`` address.
        trust: The settings that say whose releases and grants count.
        root: Folder of the slots, absolute or beside the settings.
        ports: Where the application serves, and where it is tried before.
    """
    settings: dict[str, object] = {
        "device": device,
        "device_type": entry.device_type or "generic",
        "arch": entry.arch or platform.machine(),
        "region": entry.region or "unknown",
        "group": entry.group or "default",
        "root": root,
        "port": ports[0],
        "standby_port": ports[1],
        "broker": broker,
        "ca_file": "ca.crt",
        "certificate_file": "client.crt",
        "private_key_file": "client.key",
        **trust,
    }
    told = {"arch": "of the releases that it can run", "group": "devices that share a baseline", "port": _SERVES}
    # A JSON value of these types is also a TOML value.
    lines = (
        f"{name} = {json.dumps(value)}{f'  # {told[name]}' if name in told else ''}\n"
        for name, value in settings.items()
    )
    return _HEADING + "\n" + "".join(lines)

"""What docker-compose.yml runs first: keys, users and passwords, and for each container what it needs and no more.

Running it again changes nothing, except that new names are added.
"""  # noqa: INP001 - a script of its own

import argparse
import json
import os
import platform
from pathlib import Path

from orchestrator.adapters.access import create_access
from orchestrator.adapters.keys import load_public
from orchestrator.cli.release import init

OPERATOR = "operator"
HOST, DEVICE_PORT, TOOLS_PORT = "mosquitto", 1883, 1884


def set_up(root: Path) -> None:
    """Write the volumes that docker-compose.yml mounts below ``root``; each folder in ``agents`` is a device."""
    state, access_folder, agents = root / "var/lib/tidegate", root / "access", root / "agents"
    if not (state / "keys").exists():
        init(state)
    devices = sorted(folder.name for folder in agents.iterdir())
    access = create_access(access_folder, operators=[OPERATOR], devices=devices)
    for user in ("orchestrator", OPERATOR):
        url = f"mqtt://{user}:{access.passwords[user]}@{HOST}:{TOOLS_PORT}"  # made-up passwords need no escapes
        _write_private(access_folder / f"{user}.url", url)
    for device in devices:
        settings = {
            "device": device,
            "device_type": "container",
            "arch": platform.machine(),
            "region": "local",
            "group": "demo",
            "root": "/var/lib/tidegate-agent",
            "port": 8000,
            "standby_port": 8001,
            "broker": f"mqtt://{device}@{HOST}:{DEVICE_PORT}",
            "password_file": "/etc/tidegate/password",
            "release_keys": [load_public(state / "keys" / "release.pub").hex()],
            "command_keys": [load_public(state / "keys" / "command.pub").hex()],
        }
        # A JSON value of these types is also a TOML value.
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
        _write_private(agents / device / "agent.toml", "".join(lines))
        _write_private(agents / device / "password", access.passwords[device])


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/"), help="where the volumes are mounted")
    set_up(parser.parse_args().root)

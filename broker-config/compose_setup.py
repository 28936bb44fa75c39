"""What docker-compose.yml runs first: a fleet's folder, and from it for each container what it needs and no more.

Running it again changes nothing, except that new devices are let in.
"""  # noqa: INP001 - a script of its own

import argparse
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from orchestrator.adapters import clock
from orchestrator.adapters.access import write_private
from orchestrator.adapters.broker_folder import Users
from orchestrator.adapters.fleet_folder import INVENTORY, Wish, make_fleet_folder

OPERATOR: Final = "operator"
AGENT_ROOT, AGENT_PORTS = "/var/lib/tidegate-agent", (8000, 8001)
USERS: Final = Users(
    operators=(OPERATOR,),
    hosts=("mosquitto", "localhost", "127.0.0.1"),
    is_tls=True,
    device_port=8883,
    tools_port=8884,
    browser_port=9001,
    browser_is_tls=False,  # published to this machine's own browsers alone
    place="/mosquitto/config",
    data="/mosquitto/data",
)


def set_up(root: Path) -> None:
    """Write the volumes that docker-compose.yml mounts below ``root``; each folder in ``agents`` is a device."""
    fleet, agents = root / "fleet", root / "agents"
    devices = sorted(folder.name for folder in agents.iterdir())
    rows = "".join(f"{device},container,local,demo\n" for device in devices)
    write_private(fleet / INVENTORY, f"device,type,region,group\n{rows}")
    make_fleet_folder(
        fleet, Wish(USERS, agent_root=AGENT_ROOT, agent_ports=AGENT_PORTS), datetime.fromtimestamp(clock.now(), UTC)
    )
    for name in ("keys", "policies", "releases", "application"):
        hand_out(fleet / name, root / "state" / name)
    hand_out(fleet / "signing", root / "signing")
    hand_out(fleet / "access" / "broker", root / "broker")
    clients = fleet / "access" / "clients"
    hand_out(clients / "orchestrator", root / "orchestrator")
    hand_out(clients / OPERATOR, root / "operator")
    for device in devices:
        hand_out(clients / device, agents / device)


def hand_out(source: Path, target: Path) -> None:
    """Copy what is not there yet, and what has been written anew since."""
    for path in (source, *sorted(source.rglob("*"))):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(mode=0o700, exist_ok=True)
        elif not copy.exists() or copy.stat().st_mtime < path.stat().st_mtime:
            shutil.copy2(path, copy)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/"), help="where the volumes are mounted")
    set_up(parser.parse_args().root)

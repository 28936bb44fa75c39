"""Becomes the application of a slot; what systemd's unit of an application starts. Imports nothing but Python.

It knows no settings, since there may be a password in them. Usage: ``python -P -m device_client.application
--root FOLDER --port 8080 --standby-port 8081 blue`` to serve, ``blue-test`` to be tested. Exit code: 1 the slot cannot
be started.
"""

import argparse
import os
import sys
from pathlib import Path

from device_client.adapters.hosting import ROLES, SERVING, SLOTS, Application
from device_client.adapters.launch import command_of, environment_of
from device_client.adapters.systemd_host import instance_name
from device_client.guardian.slots import described


def main() -> int:
    """Run the command line; return only if nothing can be started."""
    instances = {instance_name(slot, role): (slot, role) for slot in SLOTS for role in ROLES}
    parser = argparse.ArgumentParser(prog="tidegate-application", description="Becomes the application of a slot.")
    parser.add_argument("--root", type=Path, required=True, help="the device's folder")
    parser.add_argument("--port", type=int, required=True, help="where it serves")
    parser.add_argument("--standby-port", type=int, required=True, help="where it is tested")
    parser.add_argument("instance", choices=sorted(instances), help="what stands after the @ of the unit")
    arguments = parser.parse_args()
    slot, role = instances[arguments.instance]
    try:
        become(arguments.root, slot, role, arguments.port if role == SERVING else arguments.standby_port)
    except OSError as error:
        print(f"tidegate-application: {arguments.instance}: {error}", file=sys.stderr)
    return 1


def become(root: Path, slot: str, role: str, port: int) -> None:
    """Become the application of ``slot``; its home is the folder that systemd gives it, if it gives one.

    Raises:
        OSError: There is nothing verified in the slot, or it cannot be started.
    """
    content = described(root, slot)
    if content is None:
        raise OSError("nothing verified is in this slot")
    application = Application(slot, content.version, content.command, port, role)
    variables = environment_of(root, application)
    variables["HOME"] = os.environ.get("STATE_DIRECTORY", variables["HOME"])
    os.chdir(root / slot)
    command = command_of(application)
    os.execvpe(command[0], command, variables)  # noqa: S606 - the command is signed, and no shell is involved


if __name__ == "__main__":
    sys.exit(main())

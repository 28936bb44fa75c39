"""``tidegate init``: a folder that a fleet can be started from, and what to type next."""

import getpass
import json
import os
import stat
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Annotated, Final

import typer

from orchestrator.adapters import clock
from orchestrator.adapters.access import SERVICES
from orchestrator.adapters.agent_file import AGENT_FILE
from orchestrator.adapters.broker_folder import Users
from orchestrator.adapters.fleet_folder import (
    EXAMPLE_VERSION,
    Done,
    FleetFolderError,
    Wish,
    is_this_machine,
    make_fleet_folder,
)
from orchestrator.adapters.mosquitto_conf import Version
from orchestrator.cli.exits import reported
from orchestrator.cli.options import CLIENT_VARIABLE, SET_UP, JsonOption
from schemas.ids import is_id

app = typer.Typer()

REGISTRY_PORT: Final = 18080
_SHOWN_MAX: Final = 12
_PLACES: Final = (
    ("keys/, policies/, releases/", "for the orchestrator's machine"),
    ("signing/", "release.key: move it to where releases are built, and nowhere else"),
    ("access/broker/", "for the broker's machine"),
    ("access/clients/NAME/", "for each user alone; a device's holds its agent.toml"),
    ("access/authority/", "lets anybody in: keep it off all of these"),
    ("inventory.csv", "your devices; after a change type the same again"),
    ("application/", "an example of what is rolled out"),
)


@app.command("init", rich_help_panel=SET_UP)
def init(
    folder: Annotated[Path, typer.Argument(help="Made if it does not exist; what is in it is kept.")],
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The broker's name or address, as clients use it; localhost if not given."),
    ] = None,
    operator: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A person; repeat it for more. You, if not given.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A device of the new inventory; repeat it for more.")
    ] = None,
    mosquitto: Annotated[Version, typer.Option(help="Its version.")] = "2.0",
    device_port: Annotated[int, typer.Option(help="Of the broker, for devices.")] = 8883,
    tools_port: Annotated[int, typer.Option(help="Of the broker, for all others.")] = 8884,
    browser_port: Annotated[int, typer.Option(help="Of the broker, for the dashboard.")] = 9001,
    as_json: JsonOption = False,
) -> None:
    """Make all that a fleet needs: keys, policies, an inventory, an example, and the broker's and users' files.

    What is there is kept, so the same again makes what an interrupted one left out, or what new devices need.
    """
    hosts = tuple(host or ("localhost",))
    is_new = not (folder / "access").exists()
    users = Users(
        operators=tuple(operator or (_you(),)),
        hosts=hosts,
        is_tls=True,
        device_port=device_port,
        tools_port=tools_port,
        browser_port=browser_port,
        browser_is_tls=not all(map(is_this_machine, hosts)),
        version=mosquitto,
        place=str((folder / "access" / "broker").resolve()),
    )
    with reported():
        if (host or operator) and not is_new:
            raise FleetFolderError(
                f"{folder / 'access'} is there, and nothing is overwritten; for another person type tidegate "
                f"broker-config {folder / 'access'} --add-operator NAME, for another host --renew-server --host NAME"
            )
        done = make_fleet_folder(folder, Wish(users, tuple(device or ())), datetime.fromtimestamp(clock.now(), UTC))
    steps = _steps(folder.resolve(), done.users)
    if as_json:
        told = {name: value for name, value in asdict(done).items() if name != "users"}
        print(json.dumps({"folder": str(folder.resolve()), **told, "next": steps}))
        return
    print("\n".join(_told(folder, done, steps)))


def _you() -> str:
    """Return the name of whoever types, if it can be a user's."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        return "operator"
    return name if is_id(name) and name not in SERVICES else "operator"


def _told(folder: Path, done: Done, steps: list[str]) -> list[str]:
    if not done.made:
        return [f"{folder} is complete, nothing was changed; your devices: {len(done.users.devices)}"]
    left_out = len(done.made) - _SHOWN_MAX
    lines = [f"{folder} is ready"]
    if done.kept:
        lines += [
            f"  made: {', '.join(done.made[:_SHOWN_MAX])}{f' and {left_out} more' if left_out > 0 else ''}",
            f"  kept as it was: {', '.join(done.kept)}",
        ]
    if "access/" in done.kept:
        return [*lines, "Give each new device its folder in access/clients; the broker knows it by its certificate."]
    clients = folder.resolve() / "access" / "clients"
    return [
        *lines,
        *(f"  {place:<29}{what}" for place, what in _PLACES),
        "Now type, each of the first two in a terminal of its own:",
        *(f"  {step}" for step in steps),
        *_in_the_way(Path(done.users.place)),
        "for each device, there or here:",
        f"  tidegate-agent run --config {quote(str(clients / done.users.devices[0] / AGENT_FILE))}",
        "and to be somebody in what follows:",
        f"  export {CLIENT_VARIABLE}={quote(str(clients / done.users.operators[0]))}",
    ]


def _in_the_way(place: Path) -> list[str]:
    """Name a folder that the broker's user cannot get through, for who starts it as root."""
    closed = [each for each in place.parents if each.exists() and not each.stat().st_mode & stat.S_IXOTH]
    if os.geteuid() != 0 or not closed:
        return []
    return [f"  (mosquitto's user cannot get through {closed[-1]}: begin again in another folder, such as /srv/fleet)"]


def _steps(folder: Path, users: Users) -> list[str]:
    """Return the next three commands: the broker, the orchestrator, a first release."""
    place, clients = Path(users.place), folder / "access" / "clients"
    broker = f"mosquitto -c {quote(str(place / 'mosquitto.conf'))}"
    if os.geteuid() == 0:  # it gives up root before it reads what is in there
        broker = f"chown -R mosquitto {quote(str(place))} && {broker}"
    registry = f"--registry-port {REGISTRY_PORT}"
    if not is_this_machine(users.hosts[0]):
        registry += f" --registry-host 0.0.0.0 --registry-url http://{users.hosts[0]}:{REGISTRY_PORT}"
    build = (
        f"tidegate release build {quote(str(folder / 'application'))} --folder {quote(str(folder))} "
        f"--release example-{EXAMPLE_VERSION} --version {EXAMPLE_VERSION} --counter 1 "
        "-- '{python}' app/serve.py --port '{port}'"
    )
    serve = f"tidegate --client {quote(str(clients / 'orchestrator'))} orchestrator --folder {quote(str(folder))}"
    return [broker, f"{serve} {registry}", build]

"""A folder that a fleet can be started from: keys, policies, an inventory, an example, and a broker's and users' files.

It is made in parts. Each part appears under its name when it is complete and not before, and what is there is never
written to: so after a crash in the middle the same call makes the rest, and after a change of the inventory it makes
what new devices need. Only what the broker must know of them is written anew, and not where somebody has changed it by
hand. Every folder in it is for one place:

    keys/ policies/ releases/   the orchestrator's machine
    signing/                    where releases are signed; best nowhere else
    access/                     ``broker_folder``: the broker, each user, and the authority, which is for nobody
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from orchestrator.adapters import broker_folder
from orchestrator.adapters.access import write_private
from orchestrator.adapters.agent_file import AGENT_FILE, agent_toml
from orchestrator.adapters.broker_folder import Users
from orchestrator.adapters.inventories import read_inventory
from orchestrator.adapters.keys import NAMES, SIGNING, create_key, load_public
from orchestrator.adapters.roots import RootFolder
from orchestrator.adapters.trust import ROOTS
from orchestrator.examples import find_examples
from schemas.errors import FleetError
from schemas.inventory import DeviceEntry

INVENTORY: Final = "inventory.csv"
FIRST_POLICY: Final = "first.yaml"
EXAMPLE_VERSION: Final = "1.0.0"
_INVENTORIES: Final = (INVENTORY, "inventory.yaml", "inventory.json")
_POLICIES: Final = (FIRST_POLICY, "careful.yaml")
_SOME_DEVICES: Final = ("device-1", "device-2")
_ROOT_FILE: Final = "root.json"
_LOCAL_PORTS: Final = range(8_100, 9_000, 2)


class FleetFolderError(FleetError):
    """The caller's fault: something else is where a part should be. Names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a new folder is made for.

    Attributes:
        users: Its broker and who may connect; its devices come from the inventory, and its ``place`` may be empty for
            the folder itself.
        devices: Of a new inventory; empty for two examples.
        agent_root: Folder of the slots on a device, absolute or beside its settings.
        agent_ports: Where the application serves and is tried before; None for the usual two, or for two free of each
            other for each device where all of them are on this machine.
    """

    users: Users
    devices: tuple[str, ...] = ()
    agent_root: str = "deployments"
    agent_ports: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What became of the parts, by their paths in the folder."""

    made: tuple[str, ...]
    kept: tuple[str, ...]
    users: Users


def is_this_machine(host: str) -> bool:
    """Say whether a broker of that name is reached from its own machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_fleet_folder(folder: Path, wish: Wish, now: datetime) -> Done:
    """Make what is missing of a fleet's folder, and touch nothing of what is there.

    Raises:
        FleetFolderError: A part cannot be made, or something of it has been taken away.
        AccessError: Users could not be told apart.
        BrokerFolderError: The broker's part is not what was said, or a name in it cannot be used.
        HandWrittenError: Devices are new, and somebody has changed what the broker is told of them; nothing was done.
        InventoryError: The inventory that is there is wrong.
        KeyFileError: Keys cannot be made.
    """
    made: list[str] = []
    kept: list[str] = []

    def part(name: str, write: Callable[[Path], object]) -> None:
        (made if _make(folder / name, write) else kept).append(name)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "keys").exists():
            kept += ["keys/"]
        else:
            part(f"{SIGNING}/", lambda path: _new_key(path, "release"))
            part("keys/", lambda path: _orchestrator_keys(path, folder / SIGNING / "release.pub"))
        part("policies/", _policies)
        part("releases/", Path.mkdir)
        part("application/", _application)
        inventory = next((folder / name for name in _INVENTORIES if (folder / name).exists()), folder / INVENTORY)
        _check_devices(inventory, wish)
        part(inventory.name, lambda path: path.write_text(_inventory(wish.devices or _SOME_DEVICES), encoding="utf-8"))
        entries = read_inventory(inventory)
        users = _let_in(folder / "access", wish, tuple(entries), now, part)
        made += _agent_files(folder, users, entries, wish)
    except OSError as error:
        raise FleetFolderError(
            f"{error.filename or folder}: {error.strerror}; choose a folder that is yours, or move that away"
        ) from error
    return Done(tuple(made), tuple(kept), users)


def _make(path: Path, write: Callable[[Path], object]) -> bool:
    """Let ``write`` make a file or a folder beside its place and move it there whole; False if the place is taken."""
    if path.exists():
        return False
    pending = path.with_name(f".{path.name}.pending")
    if pending.is_dir():
        shutil.rmtree(pending)
    pending.unlink(missing_ok=True)
    write(pending)
    pending.rename(path)
    return True


def _new_key(folder: Path, name: str) -> None:
    folder.mkdir(mode=0o700)
    create_key(folder / f"{name}.key")


def _orchestrator_keys(folder: Path, release_key: Path) -> None:
    load_public(release_key)
    _new_key(folder, "command")
    shutil.copyfile(release_key, folder / release_key.name)


def _policies(folder: Path) -> None:
    folder.mkdir()
    for name in _POLICIES:
        shutil.copyfile(find_examples() / "policies" / name, folder / name)


def _application(folder: Path) -> None:
    example = find_examples() / "application"
    for name in ("app", "config"):
        (folder / name).mkdir(parents=True)
    shutil.copyfile(example / "app" / "serve.py", folder / "app" / "serve.py")
    shutil.copyfile(example / "versions" / f"{EXAMPLE_VERSION}.json", folder / "config" / "app.json")


def _inventory(devices: tuple[str, ...]) -> str:
    return "device,type,region,group\n" + "".join(f"{device},generic,here,default\n" for device in devices)


def _check_devices(inventory: Path, wish: Wish) -> None:
    if inventory.exists() and wish.devices:
        raise FleetFolderError(
            f"{inventory} is there, and nothing is overwritten; write {', '.join(wish.devices)} into it, and type the "
            "same again without --device"
        )


def _let_in(
    access: Path,
    wish: Wish,
    devices: tuple[str, ...],
    now: datetime,
    part: Callable[[str, Callable[[Path], object]], None],
) -> Users:
    """Make the broker's part, or let in devices that it does not know yet; everybody else keeps what they have."""
    place = wish.users.place or str((access / "broker").resolve())
    users = wish.users.model_copy(update={"devices": devices, "place": place})
    part("access/", lambda path: broker_folder.create(path, users, now))
    users = broker_folder.load(access)
    new = [device for device in devices if device not in users.devices]
    if new:
        users = users.with_more((), (), new)
        broker_folder.extend(access, users, now)
    return users


def _agent_files(folder: Path, users: Users, entries: dict[str, DeviceEntry], wish: Wish) -> list[str]:
    """Write the settings of devices that have none, and return where."""
    written: list[str] = []
    _, roots = RootFolder(folder / "keys" / ROOTS).chain()
    is_local = is_this_machine(users.hosts[0])
    for number, device in enumerate(users.devices):
        path = folder / "access" / "clients" / device / AGENT_FILE
        if path.exists() or device not in entries:
            continue
        if roots:
            path.with_name(_ROOT_FILE).write_bytes(roots[-1])
        first = _LOCAL_PORTS[number % len(_LOCAL_PORTS)]
        ports = (first, first + 1) if is_local else (8080, 8081)
        text = agent_toml(
            device,
            entries[device],
            broker=users.address(device),
            trust={"trust_root": _ROOT_FILE} if roots else _keys(folder / "keys"),
            root=wish.agent_root,
            ports=wish.agent_ports or ports,
        )
        write_private(path, text)
        written.append(str(path.relative_to(folder)))
    return written


def _keys(folder: Path) -> dict[str, list[str]]:
    return {f"{name}_keys": [load_public(folder / f"{name}.pub").hex()] for name in NAMES}

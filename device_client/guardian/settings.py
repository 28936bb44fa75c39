"""What a guardian needs of the agent's settings, without a model: they are the agent's to check."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_client.adapters.hosting import SLOTS, Host
from device_client.adapters.hosts import host_of
from device_client.adapters.router import Router


class SettingsError(Exception):
    """The operator's fault. The text names file, key and remedy."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device's application is and runs.

    Attributes:
        root: The device's folder.
        ports: Where each slot's application serves.
        host: Runs it.
        router: Leads clients to a slot; None where there is none.
    """

    root: Path
    ports: Mapping[str, int]
    host: Host
    router: Router | None = None


def load_place(path: Path) -> Place:
    """Read the settings at ``path``; everything else there is for the agent.

    Raises:
        SettingsError: The file cannot be read, or what is needed cannot be used.
    """
    try:
        tree = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name a readable file with --config") from error
    except ValueError as error:
        raise SettingsError(f"{path}: no valid TOML: {error}; correct that place") from error
    folder = tree.get("root")
    if not isinstance(folder, str):
        raise SettingsError(f"{path}: key 'root' is not the path of a folder; correct it")
    root = path.resolve().parent / folder
    try:
        host = host_of(root, _table(tree, "runtime"), _table(tree, "limits"))
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    if "router" not in tree:
        return Place(root, dict.fromkeys(SLOTS, _port(path, tree, "port")), host)
    try:
        table = _table(tree, "router")
        command = tuple(str(part) for part in table["reload"])
        template = path.resolve().parent / table["template"]
        router = Router(root, template, command, float(table.get("timeout_seconds", 10.0)))
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"{path}: table 'router' cannot be used: {error}; correct it") from error
    ports = {"blue": _port(path, tree, "port"), "green": _port(path, tree, "standby_port")}
    return Place(root, ports, host, router)


def _table(tree: dict[str, Any], key: str) -> dict[str, Any]:
    table = tree.get(key, {})
    if not isinstance(table, dict):
        raise TypeError(f"key '{key}' is not a table; correct it")
    return table


def _port(path: Path, tree: dict[str, Any], key: str) -> int:
    port = tree.get(key)
    if not isinstance(port, int) or isinstance(port, bool):
        raise SettingsError(f"{path}: key '{key}' is not a number; correct it")
    return port

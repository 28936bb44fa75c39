"""Agent and guardian as systemd's services: the units of this package with one device's paths in them."""

import pwd
import sys
from importlib.resources import files
from pathlib import Path
from typing import Final

from device_client.adapters.durable import write_durably
from device_client.settings import Settings, SettingsError

UNITS: Final = ("tidegate-agent.service", "tidegate-guardian.service")
APPLICATION: Final = "tidegate-app@.service"
RULES: Final = "50-tidegate.rules"
RULES_FOLDER: Final = "/etc/polkit-1/rules.d"
DESTINATION: Final = Path("/etc/systemd/system")
PODMAN: Final = "podman.conf"
PODMAN_USER: Final = "podman-user.conf"
_PRIVATE: Final = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - named because the units must not need them


def install_units(settings: Settings, config: Path, destination: Path, user: str) -> tuple[list[str], list[str]]:
    """Write the units and return their files' names, and the commands that are left to type.

    Args:
        settings: As checked.
        config: Where they stand.
        destination: An existing folder; systemd's own unless somebody packs an image.
        user: Whom agent and guardian run as.

    Raises:
        SettingsError: There is no such user or folder, or a path cannot stand in a unit.
        OSError: The folder cannot be written.
    """
    try:
        owner = pwd.getpwnam(user)
    except KeyError:
        remedy = f"make it with `useradd --system {user}`, or name another with --user"
        raise SettingsError(f"there is no user '{user}'; {remedy}") from None
    if not destination.is_dir():
        raise SettingsError(f"{destination}: no such folder; make it, or name another with --destination")
    root = Path(settings.root)
    values = {
        "@python@": _quote(sys.executable, in_command=True),
        "@config@": _quote(str(config.resolve()), in_command=True),
        "@root@": _quote(str(root), in_command=False),
        "@user@": user,
        "@port@": str(settings.port),
        "@standby_port@": str(settings.standby_port),
        "@unit@": settings.runtime.unit,
        "@podman_stores@": " ".join(_podman_stores(owner)),
        "@podman_run@": str(_podman_run(owner)),
    }
    root.mkdir(parents=True, exist_ok=True)  # systemd does not start what may write to a folder that is missing
    names = {name: name for name in UNITS}
    by_systemd, by_podman = (settings.runtime.kind == kind for kind in ("systemd", "podman"))
    if by_systemd:
        names.update({f"{settings.runtime.unit}.service": APPLICATION, RULES: RULES})
    for name, template in names.items():
        text = _template(template)
        if by_podman:
            text = _with(text, _template(PODMAN) + ("" if owner.pw_uid == 0 else _template(PODMAN_USER)))
        for place, value in values.items():
            text = text.replace(place, value)
        write_durably(destination / name, text.encode())
    owned = root.stat().st_uid == owner.pw_uid
    commands = [] if owned else [f"chown -R {user} {_quote(str(root), in_command=False)}"]
    if by_systemd and user != "root":
        commands.append(f"mv {_quote(str(destination / RULES), in_command=False)} {RULES_FOLDER}")
    if by_podman:
        commands += _podman_commands(owner)
    return list(names), [*commands, "systemctl daemon-reload", f"systemctl enable --now {' '.join(reversed(UNITS))}"]


def _template(name: str) -> str:
    return files("device_client").joinpath("systemd", name).read_text()


def _with(unit: str, block: str) -> str:
    """Put ``block`` at the end of a service; what it sets stands in place of what the unit sets."""
    keys = {line.partition("=")[0] for line in block.splitlines() if not line.startswith("#")}
    head, install, tail = unit.partition("[Install]\n")
    kept = "".join(line for line in head.splitlines(keepends=True) if line.partition("=")[0] not in keys)
    return f"{kept}{block}\n{install}{tail}"


def _podman_stores(owner: pwd.struct_passwd) -> list[str]:
    """Return where podman keeps images, and older ones addresses, unless its own settings say otherwise."""
    home = str(Path(owner.pw_dir, ".local/share/containers"))
    return ["/var/lib/containers", "/var/lib/cni"] if owner.pw_uid == 0 else [_quote(home, in_command=False)]


def _podman_run(owner: pwd.struct_passwd) -> Path:
    """Return where podman keeps what a boot forgets; as root in several folders that are not there after it."""
    return Path("/run") if owner.pw_uid == 0 else Path("/run/user", str(owner.pw_uid))


def _podman_commands(owner: pwd.struct_passwd) -> list[str]:
    """Return what makes the folders, without which systemd does not start the services."""
    stores = " ".join(_podman_stores(owner))
    if owner.pw_uid == 0:
        return [f"mkdir -p {stores}"]
    return [f"install -d -o {owner.pw_name} {stores}", f"loginctl enable-linger {owner.pw_name}"]


def hidden_paths(settings: Settings, config: Path) -> list[Path]:
    """Return what the services will not see, because the units give them a temporary folder of their own."""
    paths = (Path(sys.executable), config.resolve(), Path(settings.root))
    return [path for path in paths if any(path.is_relative_to(private) for private in _PRIVATE)]


def _quote(path: str, *, in_command: bool) -> str:
    """Write a path so that systemd reads it as one word and takes nothing in it for a specifier or a variable."""
    if not path.isprintable():
        raise SettingsError(f"the path {path!r} cannot stand in a unit; move it to one without control characters")
    text = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    if in_command:
        text = text.replace("$", "$$")
    return text if all(character.isalnum() or character in "/._-+@" for character in text) else f'"{text}"'

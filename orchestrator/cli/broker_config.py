"""``tidegate broker-config``: everything that a mosquitto and its users need, with passwords or with certificates."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from orchestrator.adapters import broker_folder, clock
from orchestrator.adapters.broker_folder import BrokerFolderError, Users
from orchestrator.adapters.inventories import read_inventory
from orchestrator.adapters.mosquitto_conf import Version
from orchestrator.cli.exits import reported
from orchestrator.cli.options import CLIENT_VARIABLE, SET_UP

app = typer.Typer()

_Named = list[str] | None
_SHOWN_MAX: Final = 3


@app.command("broker-config", rich_help_panel=SET_UP)
def broker_config(
    folder: Annotated[Path, typer.Argument(help="Made if it does not exist.")],
    operator: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A person; repeat it for more.")] = None,
    device: Annotated[list[str] | None, typer.Option(metavar="ID", help="A device; repeat it for more.")] = None,
    devices_file: Annotated[
        Path | None, typer.Option(help="Devices of an inventory: CSV, YAML or ansible-inventory's JSON.")
    ] = None,
    evaluator: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A further evaluator; `evaluator` is there already.")
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Certificates instead of passwords.")] = False,
    host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="The broker's name or address, as clients use it.")
    ] = None,
    mosquitto: Annotated[Version, typer.Option(help="Its version.")] = "2.0",
    place: Annotated[
        str | None, typer.Option(metavar="PATH", help="Where the broker will find FOLDER/broker, if not there.")
    ] = None,
    plugins: Annotated[str, typer.Option(metavar="PATH", help="Where mosquitto 2.1 has its plugins.")] = "/usr/lib",
    device_port: Annotated[int | None, typer.Option(help="For devices; 1883, or 8883 with --tls.")] = None,
    tools_port: Annotated[int | None, typer.Option(help="For all others; 1884, or 8884 with --tls.")] = None,
    browser_port: Annotated[
        int | None, typer.Option(help="With --tls, for browsers, with passwords; none if it is not given.")
    ] = None,
    without_brake: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An operator who may not pull the emergency brake.")
    ] = None,
    with_brake: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An operator who may pull it again.")
    ] = None,
    add_operator: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Let a person in, later.")] = None,
    add_device: Annotated[list[str] | None, typer.Option(metavar="ID", help="Let a device in, later.")] = None,
    add_evaluator: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Let one more in, later.")] = None,
    revoke: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Let somebody in no more.")] = None,
    renew: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Give a user another certificate.")] = None,
    sign: Annotated[
        list[Path] | None,
        typer.Option(metavar="CSR", help="Give the device that made this request a certificate for its own key."),
    ] = None,
    renew_server: Annotated[
        bool, typer.Option("--renew-server", help="Give the broker another certificate, with --host for a new name.")
    ] = False,
    rewrite: Annotated[
        bool,
        typer.Option("--rewrite", help="Write access list and passwords anew, with acl.local and passwords.local."),
    ] = False,
) -> None:
    """Make what mosquitto and its users need: configuration, access list, and passwords or certificates."""
    changes = (add_operator, add_device, add_evaluator, revoke, renew, sign, with_brake, renew_server, rewrite)
    with reported(), _disk_trouble():
        if not any(changes) and not (without_brake and broker_folder.exists(folder)):
            if not host and tls:
                raise BrokerFolderError("a certificate names the host under which clients connect; add --host NAME")
            users = Users(
                operators=tuple(operator or ()),
                without_brake=tuple(without_brake or ()),
                evaluators=tuple(evaluator or ()),
                devices=(*(device or ()), *(read_inventory(devices_file) if devices_file else ())),
                hosts=tuple(host or ("127.0.0.1",)),
                is_tls=tls,
                device_port=device_port or (8883 if tls else 1883),
                tools_port=tools_port or (8884 if tls else 1884),
                browser_port=browser_port if tls else None,
                version=mosquitto,
                place=place or str((folder / "broker").resolve()),
                plugins=plugins,
            )
            broker_folder.create(folder, users, _now())
            said = _steps(folder, users)
        else:
            if operator or device or devices_file or evaluator or tls:
                raise BrokerFolderError("to a folder that is there users are added with --add-device and its like")
            users = broker_folder.load(folder)
            said = _sign(folder, users, sign or ())
            users = broker_folder.load(folder)
            more, brakes = (add_operator, add_evaluator, add_device), (without_brake, with_brake)
            said += _write_anew(folder, users, more, brakes, is_asked=rewrite)
            said += _revoke(folder, revoke or ())
            users = broker_folder.load(folder)
            if renew_server:
                users = users.model_copy(update={"hosts": tuple(host)}) if host else users
                broker_folder.renew_server(folder, users, _now())
                said.append("the broker has a new certificate: restart it")
            said += _renew(folder, users, renew or ())  # last: what a person has written is no reason to refuse it
            said += ["", *_for_the_broker(folder, users, "send it SIGHUP")]
    print("\n".join(said))  # after the block: trouble with this output is none with the folder


def _write_anew(
    folder: Path, users: Users, more: tuple[_Named, _Named, _Named], brakes: tuple[_Named, _Named], *, is_asked: bool
) -> list[str]:
    """Let in who is new, with the rights that are said, and return what was done."""
    added = [name for names in more for name in names or ()]
    without, again = (names or [] for names in brakes)
    if not (added or without or again or is_asked):
        return []
    for name in again:
        if name not in users.without_brake:
            raise BrokerFolderError(f"{name[:80]!r} is nobody without emergency brake here; correct --with-brake")
    users = users.with_more(*(names or () for names in more)).with_brakes(without, again)
    broker_folder.extend(folder, users, _now())
    if not added:
        brakeless = ", ".join(users.without_brake) or "nobody"
        return [f"access list and passwords are written anew; without the emergency brake: {brakeless}"]
    return [f"added: {', '.join(added)}", *_for_clients(folder, users, added)]


def _revoke(folder: Path, names: Sequence[str]) -> list[str]:
    """Take users out, and return what was done and what is to be done for it to hold."""
    if not names:
        return []
    users = broker_folder.load(folder)
    broker_folder.revoke(folder, users, names, _now())
    said = [
        f"revoked: {', '.join(names)}",
        "A connection that is open stays open until it is cut: restart the broker after the next step.",
    ]
    people = [name for name in names if name in users.operators]
    if people and broker_folder.forgets_the_brake(folder):
        said.append(
            f"Write `check_retain_source false` into {folder / 'broker' / 'mosquitto.conf'} before: as it is, the "
            f"emergency brake, if {' or '.join(people)} pulled it, holds nobody who connects from now on."
        )
    return said


def _renew(folder: Path, users: Users, names: Sequence[str]) -> list[str]:
    """Give users another certificate, and return what was done."""
    if not names:
        return []
    broker_folder.renew(folder, users, names, _now())
    said = f"renewed: {', '.join(names)}; the certificates before hold until they run out"
    return [said, *_for_clients(folder, users, names)]


def _sign(folder: Path, users: Users, requests: Sequence[Path]) -> list[str]:
    """Sign requests of devices, and say what they are to be given."""
    said = []
    for request in requests:
        users, name = broker_folder.sign(folder, users, request, _now())
        said.append(
            f"signed: {name}, whose key stays where it was made; give it the files of {folder / 'clients' / name}"
        )
        said += _for_clients(folder, users, [name])
    return said


@contextmanager
def _disk_trouble() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BrokerFolderError(f"{error.filename}: {error.strerror}; make it readable and writable for you") from error


def _now() -> datetime:
    return datetime.fromtimestamp(clock.now(), UTC)


def _steps(folder: Path, users: Users) -> list[str]:
    """Say what to do with a new folder."""
    steps = [f"{folder} is ready", "", *_for_the_broker(folder, users, f"mosquitto -c {users.place}/mosquitto.conf")]
    if users.is_tls:
        steps.append(f"Keep {folder / 'authority'} off the broker: whoever has it can be anybody.")
    shown = [*users.operators[:1], *users.devices[:1]]
    return [*steps, "", *_for_clients(folder, users, ["orchestrator", *shown])]


def _for_the_broker(folder: Path, users: Users, then: str) -> list[str]:
    where = Path(users.place)
    copied = [] if where == (folder / "broker").resolve() else [f"  copy {folder / 'broker'} there as {where}"]
    return ["On the broker's machine:", *copied, f"  chown -R mosquitto {where}", f"  {then}"]


def _for_clients(folder: Path, users: Users, names: Sequence[str]) -> list[str]:
    """Say what clients are to be told, of the first of each kind."""
    lines: list[str] = []
    for name in names[:_SHOWN_MAX]:
        is_device = name in users.devices
        port = users.device_port if is_device else users.tools_port
        lines.append(f"{name}{', in agent.toml' if is_device else ''}:")
        lines += [f"  {line}" for line in _settings(folder, users, name, port, is_device=is_device)]
    if len(names) > _SHOWN_MAX:
        lines.append(f"and so on for {len(names) - _SHOWN_MAX} more")
    return lines


def _settings(folder: Path, users: Users, name: str, port: int, *, is_device: bool) -> list[str]:
    if not users.is_tls:
        host = f"[{users.hosts[0]}]" if ":" in users.hosts[0] else users.hosts[0]
        password = f"its password in {folder / 'credentials.json'}"
        if is_device:
            return [f'broker = "mqtt://{host}:{port}"', f'password_file = "password"   # {password}']
        return [f"export TIDEGATE_BROKER=mqtt://{name}:PASSWORD@{host}:{port}   # {password}"]
    client = folder / "clients" / name
    if is_device:
        key = "" if (client / "client.key").exists() else "     # its own, which it has made"
        return [
            f'broker = "{users.address(name)}"',
            f'ca_file = "ca.crt"               # from {client}, as the next{"" if key else " two"}',
            'certificate_file = "client.crt"',
            f'private_key_file = "client.key"{key}',
        ]
    return [f"export {CLIENT_VARIABLE}={client.absolute()}"]

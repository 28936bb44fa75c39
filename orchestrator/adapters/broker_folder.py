"""A folder with everything that a mosquitto and its users need.

Its configuration is written once and is then its owner's; what follows from who there is, is written with each change,
with what people have written beside it (``hand_written``), and never over what they have changed.
``broker/`` is for the broker's machine, ``clients/NAME/`` for each user, or ``credentials.json`` where they have
passwords. ``authority/`` signs certificates and belongs on neither. ``users.json`` says who there is.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.adapters.access import (
    SERVICES,
    check_users,
    hash_passwords,
    keep_passwords,
    read_passwords,
    write_private,
)
from orchestrator.adapters.broker_url import ADDRESS
from orchestrator.adapters.certificates import DEVICES, TOOLS, Authority, read_request
from orchestrator.adapters.hand_written import (
    ACL,
    PASSWORDS,
    check_passwords,
    check_rights,
    passwords_of_their_own,
    rights_of_their_own,
    write_known,
)
from orchestrator.adapters.mosquitto_conf import Version, mosquitto_conf
from schemas.access import Role, access_list
from schemas.errors import FleetError

_USERS: Final = "users.json"
_CREDENTIALS: Final = "credentials.json"
_CLIENT: Final = "client"
_REMEMBERS: Final = re.compile(r"^\s*check_retain_source\s+false\b", re.MULTILINE)  # mosquitto's default is true
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}|[0-9A-Fa-f:.]{2,45}")


class BrokerFolderError(FleetError):
    """The caller's fault: a folder that is not what was said, or a name that is nobody's. Names the remedy."""


class Users(BaseModel):
    """Who may connect, and how.

    Attributes:
        operators: People.
        without_brake: Those of them who may not pull the emergency brake.
        evaluators: Further evaluators, beside ``evaluator``.
        devices: Their ids.
        hosts: Names and addresses under which clients reach the broker; the first is the one that they are told.
        is_tls: They have certificates, no passwords.
        device_port: Where devices connect.
        tools_port: Where everybody else does.
        browser_port: With certificates, where browsers do, with people's passwords; None: nowhere.
        browser_is_tls: Whether that one is encrypted.
        version: Of mosquitto.
        place: Where the broker finds ``broker/``.
        data: Where it keeps what it must remember, if not in there.
        plugins: Where mosquitto 2.1 has its plugins.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    operators: tuple[str, ...] = ()
    without_brake: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    hosts: tuple[str, ...] = Field(min_length=1)
    is_tls: bool = False
    device_port: int = 1883
    tools_port: int = 1884
    browser_port: int | None = None
    browser_is_tls: bool = True
    version: Version = "2.0"
    place: str
    data: str | None = None
    plugins: str = "/usr/lib"

    def names(self) -> tuple[str, ...]:
        """Return everybody, services first."""
        return (*map(str, SERVICES), *self.operators, *self.evaluators, *self.devices)

    def with_passwords(self) -> tuple[str, ...]:
        """Return who logs in with a password."""
        if not self.is_tls:
            return self.names()
        return (Role.VIEWER, *self.operators) if self.browser_port is not None else ()

    def address(self, name: str) -> str:
        """Return the broker's address for somebody with a certificate."""
        host = f"[{self.hosts[0]}]" if ":" in self.hosts[0] else self.hosts[0]
        return f"mqtts://{host}:{self.device_port if name in self.devices else self.tools_port}"

    def with_more(self, operators: Iterable[str], evaluators: Iterable[str], devices: Iterable[str]) -> "Users":
        """Return these and others."""
        return self.model_copy(
            update={
                "operators": (*self.operators, *operators),
                "evaluators": (*self.evaluators, *evaluators),
                "devices": (*self.devices, *devices),
            }
        )

    def with_brakes(self, without: Iterable[str], again: Iterable[str]) -> "Users":
        """Return these, of whom some may not pull the emergency brake, and some may again."""
        names, given_back = dict.fromkeys((*self.without_brake, *without)), frozenset(again)
        return self.model_copy(update={"without_brake": tuple(name for name in names if name not in given_back)})

    def without(self, gone: frozenset[str]) -> "Users":
        """Return these without some."""
        kinds = ("operators", "without_brake", "evaluators", "devices")
        return self.model_copy(update={kind: tuple(n for n in getattr(self, kind) if n not in gone) for kind in kinds})


def create(folder: Path, users: Users, now: datetime) -> None:
    """Make the folder.

    Raises:
        BrokerFolderError: It is there already, or cannot be written.
        AccessError: Users could not be told apart.
        HandWrittenError: What people have put into it before is wrong.
    """
    check_users(users.names())
    _check_brakes(users)
    rights_of_their_own(folder)
    passwords_of_their_own(folder, users.with_passwords())
    _check_places(users)
    if exists(folder) or (folder / "broker").exists():
        raise BrokerFolderError(
            f"{folder} is there already, and nothing is overwritten; add users with --add-device, --add-operator or "
            "--add-evaluator, take them out with --revoke, or name another folder"
        )
    try:
        # The broker's user has to get through to its files; all others in here are for their owner alone.
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        (folder / "broker" / "data").mkdir(mode=0o700, parents=True)
        if users.is_tls:
            for name in (TOOLS, DEVICES):
                Authority.create(folder / "broker", name, folder / "authority", now)
            _vouch_for_server(folder, users, now)
        conf = mosquitto_conf(
            users.place,
            version=users.version,
            is_tls=users.is_tls,
            device_port=users.device_port,
            tools_port=users.tools_port,
            browser_port=users.browser_port,
            browser_is_tls=users.browser_is_tls,
            data=users.data,
            plugins=users.plugins,
        )
        write_private(folder / "broker" / "mosquitto.conf", conf)
        _write(folder, users, now)
    except OSError as error:
        raise BrokerFolderError(f"{error.filename}: {error.strerror}; choose a folder that is writable") from error


def _check_places(users: Users) -> None:
    for host in users.hosts:
        if not _HOST.fullmatch(host):
            raise BrokerFolderError(f"{host[:80]!r} is no name of a host: letters, digits, dots and -, or an address")
    for path in (users.place, users.plugins, users.data or ""):
        if not path.isprintable() or path != path.strip():
            raise BrokerFolderError(f"{path[:80]!r} cannot stand in mosquitto's configuration; choose another path")


def _check_brakes(users: Users) -> None:
    for name in users.without_brake:
        if name not in users.operators:
            raise BrokerFolderError(f"{name[:80]!r} is no operator here, so has no emergency brake; correct the name")


def exists(folder: Path) -> bool:
    """Say whether there is such a folder."""
    return (folder / _USERS).exists()


def load(folder: Path) -> Users:
    """Return who there is.

    Raises:
        BrokerFolderError: It is no such folder.
    """
    try:
        return Users.model_validate_json((folder / _USERS).read_bytes())
    except (OSError, ValidationError) as error:
        raise BrokerFolderError(f"{folder / _USERS}: cannot be read; make the folder first, without --add") from error


def extend(folder: Path, users: Users, now: datetime) -> None:
    """Let in who is new among ``users``, with the rights that they are said to have; everybody else keeps theirs.

    Raises:
        AccessError: Users could not be told apart.
        BrokerFolderError: Who is to have no emergency brake is no operator.
        HandWrittenError: Somebody has changed what would be written over; nothing was done.
    """
    check_users(users.names())
    _check_brakes(users)
    _check_unchanged(folder, users)
    _write(folder, users, now)


def renew(folder: Path, users: Users, names: Iterable[str], now: datetime) -> None:
    """Give users another certificate; the one before holds until it runs out or the user is revoked.

    Raises:
        BrokerFolderError: One of them is no user with a certificate.
    """
    known = frozenset(users.names()) if users.is_tls else frozenset()
    for name in names:
        if name not in known:
            raise BrokerFolderError(f"{name[:80]!r} has no certificate here; see {folder / _USERS}")
        client = folder / "clients" / name
        if (client / f"{_CLIENT}.crt").exists() and not (client / f"{_CLIENT}.key").exists():
            raise BrokerFolderError(f"{name} keeps its key to itself: let it make another request, and use --sign")
        _vouch(folder, users, name, now)


def sign(folder: Path, users: Users, request: Path, now: datetime) -> tuple[Users, str]:
    """Give the device that made a request a certificate for its own key, and let it in if it is new.

    A certificate that it had holds until it runs out or the device is revoked.

    Returns:
        Who there is now, and who the device is.

    Raises:
        CertificateError: It is no request, or none that can be signed.
        BrokerFolderError: Users have no certificates here.
        AccessError: The name is no device's id, or that of somebody who is no device.
        HandWrittenError: Somebody has changed what would be written over; nothing was done.
    """
    if not users.is_tls:
        raise BrokerFolderError(f"{folder} is one with passwords; make another with --tls")
    name, key = read_request(request)
    users = users if name in users.devices else users.with_more((), (), (name,))
    check_users(users.names())
    _check_unchanged(folder, users)
    _vouch(folder, users, name, now, key)
    _write(folder, users, now)
    return users, name


def renew_server(folder: Path, users: Users, now: datetime) -> None:
    """Give the broker another certificate, for the hosts that it has now.

    The pair before stays until the new one is complete beside it. Interrupted between the two, it is repeated.

    Raises:
        BrokerFolderError: It has none, or a host is no name.
        CertificateError: The authority is elsewhere; nothing was done.
        HandWrittenError: Somebody has changed what would be written over; nothing was done.
    """
    if not users.is_tls:
        raise BrokerFolderError(f"{folder} is one with passwords; make another with --tls")
    _check_places(users)
    _check_unchanged(folder, users)
    _vouch_for_server(folder, users, now)
    for name in users.names():
        if (folder / "clients" / name).is_dir():  # else it is made with everything in it
            write_private(folder / "clients" / name / ADDRESS, users.address(name))
    _write(folder, users, now)


def revoke(folder: Path, users: Users, names: Iterable[str], now: datetime) -> Users:
    """Let users in no more; whoever is left is returned.

    Raises:
        BrokerFolderError: One of them is nobody, or a service, without which nothing works.
        HandWrittenError: Somebody has changed what would be written over; nothing was done.
    """
    gone = frozenset(names)
    left = users.without(gone)
    for name in sorted(gone):
        if name not in users.names() or name in left.names():
            raise BrokerFolderError(f"{name[:80]!r} is no operator, evaluator or device here; see {folder / _USERS}")
    _check_unchanged(folder, left)
    if users.is_tls:
        for name in sorted(gone):
            client = folder / "clients" / name
            if client.exists():  # else a revocation was interrupted behind it
                _authority(folder, _issuer(users, name), now).revoke(
                    path for path in client.glob("*.crt") if path.name != "ca.crt"
                )
                (folder / "revoked").mkdir(mode=0o700, exist_ok=True)
                client.rename(folder / "revoked" / f"{name}-{now:%Y%m%dT%H%M%S.%f}")
    _write(folder, left, now)
    return left


def forgets_the_brake(folder: Path) -> bool:
    """Say whether its configuration, from before or changed, withholds what somebody has published who is revoked."""
    conf = folder / "broker" / "mosquitto.conf"
    return conf.exists() and not _REMEMBERS.search(conf.read_text(errors="replace"))


def _check_unchanged(folder: Path, after: Users) -> None:
    """Return if nothing would be lost that somebody has written into what follows from who there is.

    It may be for those who are there already, which is what is left where a command was interrupted, or what a person
    has done by hand and now has done here.
    """
    both = (load(folder), after)
    check_rights(folder, *(_rights(folder, users) for users in both))
    passwords_of_their_own(folder, after.with_passwords())
    if after.with_passwords():
        known = read_passwords(folder / _CREDENTIALS)
        check_passwords(folder, *({name: known.get(name, "") for name in users.with_passwords()} for users in both))


def _rights(folder: Path, users: Users) -> str:
    people = access_list(users.operators, (Role.EVALUATOR, *users.evaluators), without_brake=users.without_brake)
    return people + rights_of_their_own(folder)


def _write(folder: Path, users: Users, now: datetime) -> None:
    """Write what follows from who there is, the list of users last: an interrupted command is repeated."""
    texts = {ACL: _rights(folder, users)}
    if users.is_tls:
        for name in users.names():
            if not (folder / "clients" / name / f"{_CLIENT}.crt").exists():
                _vouch(folder, users, name, now)
    with_passwords = users.with_passwords()
    if with_passwords:
        own = passwords_of_their_own(folder, with_passwords)
        texts[PASSWORDS] = hash_passwords(keep_passwords(folder / _CREDENTIALS, with_passwords)) + own
    write_known(folder, texts)
    write_private(folder / _USERS, users.model_dump_json(indent=1))


def _vouch(folder: Path, users: Users, name: str, now: datetime, key: CertificatePublicKeyTypes | None = None) -> None:
    """Give a user a certificate, for a key that they keep to themselves if there is one.

    One that they had is put aside, so that it can be revoked.
    """
    authority = _authority(folder, _issuer(users, name), now)  # before anything changes: it may be elsewhere
    client = folder / "clients" / name
    client.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(client / "ca.crt", (folder / "broker" / f"{TOOLS}.crt").read_text())
    write_private(client / ADDRESS, users.address(name))
    if (client / f"{_CLIENT}.crt").exists():
        number = len(list(client.glob("*.crt")))
        (client / f"{_CLIENT}.crt").rename(client / f"before-{number}.crt")
    (client / f"{_CLIENT}.key").unlink(missing_ok=True)
    if key is None:
        authority.vouch_for(name, client / _CLIENT)
    else:
        authority.vouch_for_key(name, key, client / _CLIENT)


def _vouch_for_server(folder: Path, users: Users, now: datetime) -> None:
    """Put another pair in the place of the broker's, if there is one."""
    authority = _authority(folder, TOOLS, now)  # before anything changes: it may be elsewhere
    pending = folder / "broker" / ".server.pending"
    new = [pending.with_name(f"{pending.name}.{ending}") for ending in ("key", "crt")]
    for path in new:
        path.unlink(missing_ok=True)
    authority.vouch_for("broker", pending, hosts=users.hosts)
    for path in new:
        path.replace(path.with_name(f"server{path.suffix}"))


def _issuer(users: Users, name: str) -> str:
    return DEVICES if name in users.devices else TOOLS


def _authority(folder: Path, name: str, now: datetime) -> Authority:
    return Authority(folder / "broker", name, folder / "authority", now)

"""Users, passwords and the access list of a broker that tidegate starts itself.

The access list is that of a production mosquitto (``schemas/access.py``), with a block for each operator and each
evaluator. Passwords are made up once and kept in ``credentials.json``, readable by its owner only.

``tidegate broker-config`` does the same for a mosquitto that somebody else starts.
"""

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from schemas.access import Role, access_list
from schemas.errors import FleetError
from schemas.ids import is_id

SERVICES: Final = (Role.ORCHESTRATOR, Role.EVALUATOR, Role.VIEWER, Role.PIECES)
"""The roles whose user is named like the role."""
_CREDENTIALS: Final = "credentials.json"
_SALT_BYTES: Final = 12  # what mosquitto 2.0 expects
_ITERATIONS: Final = 101  # mosquitto's default; the passwords are 144 random bits, which no guessing finds


class AccessError(FleetError):
    """The operator's fault: a name that cannot be a user, or a folder that cannot hold secrets. Names the remedy."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a broker needs to tell its users apart, and what the users need to connect.

    Attributes:
        passwords: Of every user.
        acl_file: Access list for the broker.
        password_file: Hashed passwords for the broker.
    """

    passwords: Mapping[str, str] = field(repr=False)
    acl_file: Path
    password_file: Path


def find_broker_config() -> Path:
    """Return the folder with ``acl`` and ``mosquitto.conf``: beside this module when installed, else the checkout's."""
    installed = Path(__file__).with_name("broker-config")
    return installed if installed.is_dir() else Path(__file__).parents[2] / "broker-config"


def create_access(
    folder: Path, *, operators: Iterable[str], devices: Iterable[str], evaluators: Iterable[str] = ()
) -> Access:
    """Write what a broker in ``folder`` needs for these users; who was there before keeps the password.

    Raises:
        AccessError: A name is not allowed or used twice, or the folder cannot be written.
    """
    people, workers, things = tuple(operators), tuple(evaluators), tuple(devices)
    users = (*SERVICES, *people, *workers, *things)
    check_users(users)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        passwords = keep_passwords(folder / _CREDENTIALS, users)
        access = Access(passwords, folder / "acl", folder / "passwords")
        write_private(access.acl_file, access_list(people, (Role.EVALUATOR, *workers)))
        write_private(access.password_file, hash_passwords(passwords))
    except OSError as error:
        raise AccessError(f"{error.filename}: {error.strerror}; choose a folder that is writable") from error
    return access


def check_users(users: tuple[str, ...]) -> None:
    """Return if these can be told apart as users of one broker.

    Raises:
        AccessError: They cannot.
    """
    seen: set[str] = set()
    for user in users:
        if not is_id(user):
            raise AccessError(f"{user[:80]!r} is no name for a user: 1 to 64 of A-Z a-z 0-9 _ -; rename it")
        if user in seen:
            raise AccessError(f"two users are named {user!r}, or a device is named like a role; rename one")
        seen.add(user)


def keep_passwords(path: Path, users: tuple[str, ...]) -> dict[str, str]:
    """Write and return a password for each user; who had one in the file keeps it."""
    known = read_passwords(path)
    passwords = {user: known.get(user) or secrets.token_urlsafe(18) for user in users}
    write_private(path, json.dumps(passwords, indent=1))
    return passwords


def read_passwords(path: Path) -> dict[str, str]:
    """Return the passwords of a file; none if it is not there."""
    try:
        known = dict(json.loads(path.read_bytes())) if path.exists() else {}
    except (ValueError, TypeError) as error:
        raise AccessError(f"{path}: damaged; remove it, and everybody gets a new password") from error
    return {str(user): str(password or "") for user, password in known.items()}


def hash_passwords(passwords: Mapping[str, str]) -> str:
    """Return mosquitto's password file."""
    return "".join(map(_hash_line, passwords, passwords.values()))


def is_hashed(password: str, line: str) -> bool:
    """Say whether a line of a password file is that of the password, as it is written here and by mosquitto_passwd."""
    user, _, kept = line.partition(":")
    try:
        salt = base64.b64decode(kept.split("$")[3])
    except (ValueError, IndexError):
        return False
    return _hash_line(user, password, salt).rstrip() == line.rstrip()


def _hash_line(user: str, password: str, salt: bytes | None = None) -> str:
    """Return a line of mosquitto's password file: PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"{user}:$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def write_private(path: Path, text: str) -> None:
    """Write a file that is for its owner only: the old one or the new one, never a part of it."""
    pending = path.with_name(f".{path.name}.pending")
    pending.unlink(missing_ok=True)
    with os.fdopen(os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    pending.replace(path)

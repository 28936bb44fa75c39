"""Users, passwords and the access list of a broker that tidegate starts itself.

The access list is ``broker-config/acl``, the same file that a production mosquitto uses, with one copy of its operator
block for each operator and one of its evaluator block for each further evaluator. Passwords are made up once and kept
in ``credentials.json``, readable by its owner only.

``python -m orchestrator.adapters.access FOLDER --operator NAME... --device ID...`` does the same for a mosquitto that
somebody else starts.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from schemas.errors import FleetError
from schemas.ids import is_id

SERVICES: Final = ("orchestrator", "evaluator", "viewer")
"""The roles whose user is named like the role."""
OPERATOR: Final = "operator"
"""The role that has a block for each person."""
EVALUATOR: Final = "evaluator"
"""The role that has a block for each process, beside that of the service of its name."""
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
    _check_names(users)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        passwords = _keep_passwords(folder / _CREDENTIALS, users)
        access = Access(passwords, folder / "acl", folder / "passwords")
        _write_private(access.acl_file, write_acl((find_broker_config() / "acl").read_text(), people, workers))
        _write_private(access.password_file, "".join(map(_hash_line, passwords, passwords.values())))
    except OSError as error:
        raise AccessError(f"{error.filename}: {error.strerror}; choose a folder that is writable") from error
    return access


def write_acl(template: str, operators: Iterable[str], evaluators: Iterable[str] = ()) -> str:
    """Return ``template`` with its operator block once for each of ``operators``, and further evaluators' blocks."""
    named = {OPERATOR: tuple(operators), EVALUATOR: (EVALUATOR, *evaluators)}
    head, *blocks = re.split(r"^(?=user )", template, flags=re.MULTILINE)
    parts = [head]
    for block in blocks:
        role = block.removeprefix("user ").partition("\n")[0]
        if role in named:
            parts += [_renamed(block, role, name) for name in named[role]]
        else:
            parts.append(block)
    return "".join(parts)


def _renamed(block: str, role: str, name: str) -> str:
    """Return the block with the name in place of the role's; a level of the topic tree that is named like it stays."""
    return re.sub(rf"(?<=[ /]){role}(?=[/\n])(?!/{role}/)", name, block)


def _check_names(users: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for user in users:
        if not is_id(user):
            raise AccessError(f"{user[:80]!r} is no name for a user: 1 to 64 of A-Z a-z 0-9 _ -; rename it")
        if user in seen:
            raise AccessError(f"two users are named {user!r}, or a device is named like a role; rename one")
        seen.add(user)


def _keep_passwords(path: Path, users: tuple[str, ...]) -> dict[str, str]:
    try:
        known = dict(json.loads(path.read_bytes())) if path.exists() else {}
    except (ValueError, TypeError) as error:
        raise AccessError(f"{path}: damaged; remove it, and everybody gets a new password") from error
    passwords = {user: str(known.get(user) or secrets.token_urlsafe(18)) for user in users}
    _write_private(path, json.dumps(passwords, indent=1))
    return passwords


def _hash_line(user: str, password: str) -> str:
    """Return a line of mosquitto's password file: PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"{user}:$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def _write_private(path: Path, text: str) -> None:
    pending = path.with_name(f".{path.name}.pending")
    pending.unlink(missing_ok=True)
    with os.fdopen(os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    pending.replace(path)


def main(arguments: Sequence[str]) -> None:
    """Write the files for the users named in ``arguments``."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.adapters.access",
        description="Write acl, passwords and credentials.json for a broker; who is named again keeps the password.",
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--operator", action="append", default=[], metavar="NAME", help="a person; repeat it for more")
    parser.add_argument(
        "--evaluator", action="append", default=[], metavar="NAME", help="an evaluator process; repeat it for more"
    )
    parser.add_argument("--device", action="append", default=[], metavar="ID", help="a device; repeat it for more")
    options = parser.parse_args(arguments)
    try:
        create_access(options.folder, operators=options.operator, devices=options.device, evaluators=options.evaluator)
    except AccessError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main(sys.argv[1:])

"""The two signing keys: ``release`` vouches for what may run, ``command`` for what a device may do now.

The command key is used online by the orchestrator. The release key is needed only to publish a release and is best
kept on another machine.
"""

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from schemas.errors import FleetError

NAMES: Final = ("release", "command")
SIGNING: Final = "signing"
"""Folder of the release key in a fleet's folder, apart from what the orchestrator needs."""
_RAW_BYTES: Final = 32
_FILE_BYTES_MAX: Final = 16 * 1024
_OTHERS: Final = 0o077
_WRITABLE_BY_OTHERS: Final = 0o022


class KeyFileError(FleetError):
    """The operator's fault: a key file that is missing, exposed, in the way, or no Ed25519 key."""


def create_keys(folder: Path) -> None:
    """Write ``release.key`` and ``command.key`` for their owner only, and ``.pub`` files with the public keys in hex.

    Raises:
        KeyFileError: One of the files exists (nothing is overwritten), or the folder is not safe or not writable.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & _WRITABLE_BY_OTHERS:
            raise KeyFileError(f"{folder}: others may replace files in it; chmod 700 {folder}")
        for name in NAMES:
            for path in (folder / f"{name}.key", folder / f"{name}.pub"):
                if path.exists():
                    raise KeyFileError(f"{path} exists; use it, or choose another folder for new keys")
        for name in NAMES:
            _create(folder / f"{name}.key")
    except OSError as error:
        raise KeyFileError(f"{error.filename or folder}: {error.strerror}; choose a folder that is writable") from error


def create_key(path: Path) -> bytes:
    """Write one private key for its owner only, its public key beside it in a ``.pub`` file, and return that.

    Raises:
        KeyFileError: One of the files exists (nothing is overwritten), or they cannot be written.
    """
    for each in (path, path.with_suffix(".pub")):
        if each.exists():
            raise KeyFileError(f"{each} exists; use it, or choose another name for a new key")
    if path.suffix == ".pub":
        raise KeyFileError(f"{path}: that is where the public key goes; name it {path.with_suffix('.key')}")
    try:
        return _create(path)
    except OSError as error:
        raise KeyFileError(f"{error.filename or path}: {error.strerror}; choose a folder that is writable") from error


def find_release_key(folder: Path) -> Path:
    """Return where a fleet's folder has the private release key, whether it is there or not."""
    together = folder / "keys" / "release.key"
    return together if together.exists() else folder / SIGNING / "release.key"


def load_private(path: Path) -> Ed25519PrivateKey:
    """Read a private key that only its owner can read.

    Raises:
        KeyFileError: Missing, readable by others, or no unencrypted Ed25519 key in PEM.
    """
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & _OTHERS:
                raise KeyFileError(f"{path}: others may read this private key; chmod 600 {path}")
            key = load_pem_private_key(file.read(_FILE_BYTES_MAX), password=None)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; name the key file, or make new keys") from error
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{path}: no unencrypted private key in PEM; name another file") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: no Ed25519 key; name another file")
    return key


def load_public(path: Path) -> bytes:
    """Read a raw public key of 32 bytes that is written in hex.

    Raises:
        KeyFileError: Missing or something else.
    """
    try:
        with path.open("rb") as file:
            key = bytes.fromhex(file.read(_FILE_BYTES_MAX).decode())
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; name the .pub file that belongs to the private key") from error
    except ValueError as error:
        raise KeyFileError(f"{path}: no hex digits; name the .pub file that belongs to the private key") from error
    if len(key) != _RAW_BYTES:
        raise KeyFileError(f"{path}: {len(key)} bytes, expected {_RAW_BYTES} in hex; name another file")
    return key


def _create(path: Path) -> bytes:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    _write(path.with_suffix(".pub"), f"{public.hex()}\n".encode(), mode=0o644)
    return public


def _write(path: Path, data: bytes, *, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

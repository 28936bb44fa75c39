"""Trust roots on their way: drafts in files, to be signed one after the other by those who hold root keys."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.adapters.durable import write_durably
from orchestrator.adapters.keys import KeyFileError, load_private, load_public
from schemas.codec import TRUST, decode, encode
from schemas.dsse import Envelope, add_signature, key_id, read_envelope, signers, write_envelope
from schemas.errors import DecodeError, SignatureError
from schemas.trust import ROOT_TYPE, Role, Root


def read_key(text: str) -> str:
    """Return the public key in hex that ``text`` names: the path of a .pub file, or the key itself.

    Raises:
        KeyFileError: It is neither.
    """
    path = Path(text)
    if len(text) == 64 and not path.exists():  # noqa: PLR2004 - hex digits of a key
        try:
            return bytes.fromhex(text).hex()
        except ValueError:
            pass
    return load_public(path).hex()


def make_role(keys: Sequence[str], threshold: int) -> dict[str, Any]:
    """Return a role as it stands in a root; the root checks it."""
    return {"keys": tuple(keys), "threshold": threshold}


def change_role(role: Role, add: Sequence[str], remove: Sequence[str], threshold: int | None) -> dict[str, Any]:
    """Return ``role`` with other keys; those to remove are named like those to add, or by their key ids.

    Raises:
        KeyFileError: A key to remove is not there, or one to add is no key.
    """
    by_id = {key_id(bytes.fromhex(each)): each for each in role.keys}
    gone = [by_id.get(name) or read_key(name) for name in remove]
    for name, each in zip(remove, gone, strict=True):
        if each not in role.keys:
            raise KeyFileError(f"{name} is not there to be removed; there are {', '.join(by_id)}")
    new = [each for each in map(read_key, add) if each not in role.keys]
    kept = [each for each in role.keys if each not in gone]
    return make_role([*kept, *new], role.threshold if threshold is None else threshold)


def make_root(**values: object) -> Root:
    """Return the root with these fields.

    Raises:
        KeyFileError: Something about it is not allowed; the text names it.
    """
    try:
        return Root.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "root"
        raise KeyFileError(f"no such root can be: {place}: {first['msg']}") from error


def write_draft(root: Root, path: Path) -> None:
    """Write ``root`` without signatures.

    Raises:
        KeyFileError: The file exists, since it may hold signatures, or cannot be written.
    """
    if path.exists():
        raise KeyFileError(f"{path} exists and may hold signatures; remove it, or choose another name with -o")
    _write(path, write_envelope(ROOT_TYPE, encode(root), ()))


def read_draft(path: Path) -> tuple[Root, Envelope, bytes]:
    """Return a root in a file as it is, with the signatures that it has so far; none of them is verified.

    Raises:
        KeyFileError: It cannot be read, or is no root.
    """
    try:
        data = path.read_bytes()
        envelope = read_envelope(ROOT_TYPE, data, TRUST)
        return decode(Root, envelope.payload, TRUST), envelope, data
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; name a file that `tidegate keys root` has written") from error
    except (SignatureError, DecodeError) as error:
        raise KeyFileError(f"{path}: {error}; name a file that `tidegate keys root` has written") from error


def sign_draft(path: Path, keys: Sequence[Path]) -> None:
    """Add signatures to a root in a file.

    Raises:
        KeyFileError: Of the file, or of a key.
    """
    _, _, data = read_draft(path)
    for key in keys:
        data = add_signature(data, ROOT_TYPE, load_private(key), TRUST)
    _write(path, data)


def missing(role: Role, envelope: Envelope) -> tuple[int, tuple[str, ...]]:
    """Return how many signatures of ``role`` are missing, and the ids of the keys that have not signed yet."""
    signed = {key.hex() for key in signers(ROOT_TYPE, envelope, role.raw_keys)}
    others = tuple(key_id(bytes.fromhex(key)) for key in role.keys if key not in signed)
    return max(0, role.threshold - len(signed)), others


def _write(path: Path, data: bytes) -> None:
    try:
        write_durably(path, data)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; choose a place that is writable") from error

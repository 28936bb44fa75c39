"""What people write by hand for a broker is kept: it has files of its own, and nothing else of it is written over.

A folder's ``broker/acl`` and ``broker/passwords`` follow from who there is, and are written with each change of that.
``acl.local`` and ``passwords.local`` are people's, and are appended to them. Who has changed the written files
themselves is told so before anything happens.

``written.json`` knows what was written last, so that the words of another version of this program, or a password that
somebody has put into ``credentials.json``, are not taken for a change of the written file.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from orchestrator.adapters.access import is_hashed, write_private
from schemas.errors import FleetError

ACL, PASSWORDS = "acl", "passwords"
_RECORD: Final = "written.json"
_WORDS: Final = ("read", "write", "readwrite", "deny")
_SHOWN_MAX: Final = 6


class HandWrittenError(FleetError):
    """The caller's fault: a file that people may write is wrong, or one was changed that is not theirs to change."""


def rights_of_their_own(folder: Path) -> str:
    """Return what ``acl.local`` adds to the access list, with its heading; nothing if there is none.

    Raises:
        HandWrittenError: A line is none of the language, or names nobody whose it is.
    """
    path = folder / f"{ACL}.local"
    text = _text(path)
    if any(right.startswith("topic") for right in _rights(text, path)):
        raise HandWrittenError(f"{path}: a `topic` line belongs below the user whose it is; begin with `user NAME`")
    return f"\n# ---- From {path.name} -----\n\n{text.rstrip()}\n" if text.strip() else ""


def passwords_of_their_own(folder: Path, users: tuple[str, ...]) -> str:
    """Return what ``passwords.local`` adds to the hashed passwords of ``users``.

    Raises:
        HandWrittenError: A line is none of a password file, or is about one of ``users``.
    """
    path = folder / f"{PASSWORDS}.local"
    lines = _password_lines(_text(path), path)
    for name in lines:
        if name in users:
            raise HandWrittenError(
                f"{path}: {name!r} has a password already; write another into {folder / 'credentials.json'}, and take "
                "the line out here"
            )
    return "".join(f"{line}\n" for line in lines.values())


def check_rights(folder: Path, *wanted: str) -> None:
    """Return if the access list is as it was written, or gives the same rights as one of ``wanted``.

    Raises:
        HandWrittenError: Somebody has changed it; names what differs from the first.
    """
    path = folder / "broker" / ACL
    if not path.exists() or _is_as_written(folder, path):
        return
    there, expected = _rights(_text(path), path), [_rights(text, path) for text in wanted]
    if there in expected:
        return
    differences = [f"added: {right}" for right in sorted(there - expected[0])]
    differences += [f"taken out: {right}" for right in sorted(expected[0] - there)]
    raise HandWrittenError(
        f"{path} would be written over, and somebody has changed it ({_listed(differences)}); nothing was done. What "
        f"was added belongs into {folder / f'{ACL}.local'}, what was taken out too, as `topic deny`; who must not pull "
        f"the emergency brake is named with --without-brake. Then remove {path}, and type the same again"
    )


def check_passwords(folder: Path, *wanted: Mapping[str, str]) -> None:
    """Return if the hashed passwords are as they were written, or those of one of ``wanted``, and ``passwords.local``.

    Raises:
        HandWrittenError: Somebody has changed them; names whose differ from the first.
    """
    path = folder / "broker" / PASSWORDS
    if not path.exists() or _is_as_written(folder, path):
        return
    local = folder / f"{PASSWORDS}.local"
    own = _password_lines(_text(local), local)
    lines = {name: line for name, line in _password_lines(_text(path), path).items() if own.get(name) != line}
    differences = [list(_unlike(lines, passwords)) for passwords in wanted]
    if not all(differences):
        return
    raise HandWrittenError(
        f"{path} would be written over, and somebody has changed it ({_listed(differences[0])}); nothing was done. "
        f"Passwords of users belong into {folder / 'credentials.json'}, lines of others into "
        f"{local}, and who must not log in is taken out with --revoke. Then remove {path}, and "
        "type the same again"
    )


def write_known(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files of ``broker/``, after it was noted what they will be: a crash leaves none that looks changed."""
    known = _record(folder)
    for name, text in texts.items():
        path = folder / "broker" / name
        before = [_digest(path.read_bytes())] if path.exists() else []
        known[name] = [*before, _digest(text.encode())]
    write_private(folder / _RECORD, json.dumps(known, indent=1))
    for name, text in texts.items():
        write_private(folder / "broker" / name, text)


def _unlike(lines: Mapping[str, str], passwords: Mapping[str, str]) -> Iterator[str]:
    """Yield in what the lines are not those of the passwords."""
    for name in sorted(lines.keys() | passwords.keys()):
        if name not in passwords:
            yield f"added: {name}"
        elif name not in lines:
            yield f"taken out: {name}"
        elif not is_hashed(passwords[name], lines[name]):
            yield f"another password: {name}"


def _rights(text: str, path: Path) -> frozenset[str]:
    """Return each right with whose it is; in what order they stand means nothing to a broker."""
    found, user = set(), ""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        match words:
            case ["user", _, *_]:
                user = f"{' '.join(words)}: "
            case ["topic" | "pattern", access, *rest] if (access in _WORDS) == bool(rest):
                found.add(f"{user if words[0] == 'topic' else ''}{' '.join(words)}")
            case _:
                raise HandWrittenError(
                    f"{path}:{number}: {line[:80]!r} is no line of an access list: `user NAME`, or `topic` or "
                    f"`pattern` with {', '.join(_WORDS)} and a filter of topics"
                )
    return frozenset(found)


def _password_lines(text: str, path: Path) -> dict[str, str]:
    lines = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, kept = line.partition(":")
        if not (name and colon and kept.startswith("$")):
            raise HandWrittenError(f"{path}:{number}: is no hashed password; write it with mosquitto_passwd")
        lines[name] = line
    return lines


def _listed(differences: list[str]) -> str:
    more = len(differences) - _SHOWN_MAX
    return "; ".join([*differences[:_SHOWN_MAX], *([f"and {more} more"] if more > 0 else [])])


def _text(path: Path) -> str:
    """Return what is in a file, nothing if it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except ValueError as error:
        raise HandWrittenError(f"{path}: is no text in UTF-8; write it anew") from error


def _is_as_written(folder: Path, path: Path) -> bool:
    return _digest(path.read_bytes()) in _record(folder).get(path.name, ())


def _record(folder: Path) -> dict[str, list[str]]:
    """Return what was written; a record that is damaged knows nothing, and the files themselves are looked at."""
    try:
        return {str(name): list(digests) for name, digests in dict(json.loads(_text(folder / _RECORD))).items()}
    except (ValueError, TypeError):
        return {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

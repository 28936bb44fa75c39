"""Judging an OpenPGP signature by what gpgv says of it, for those whose release keys live in GnuPG.

``gpg --verify`` succeeds for any key in the keyring and for expired ones; so gpgv is asked with a pinned keyring, and
its status lines count, never its words for people.

Source:
    GnuPG, doc/DETAILS, section "Format of the --status-fd output".
"""

from collections.abc import Collection, Sequence
from typing import Annotated, Final

from pydantic import Field

from schemas.errors import SignatureError

Fingerprint = Annotated[str, Field(pattern="^([0-9A-F]{40}|[0-9A-F]{64})$")]
"""Of a primary key, in upper-case hex without spaces."""
_PREFIX: Final = "[GNUPG:] "
_REFUSED: Final = frozenset(
    {"BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NO_PUBKEY", "NODATA", "UNEXPECTED", "FAILURE"}
)
_BINARY: Final = "00"
"""The class of a signature over bytes as they are."""


def gpgv_arguments(home: str, keyring: str, signature: str) -> tuple[str, ...]:
    """Return what to start, with the signed bytes on standard input.

    Args:
        home: An empty folder, so that no keyring and no options of a user are read.
        keyring: Path with a slash in it, of the pinned keyring.
        signature: Path of the detached signature.
    """
    # A device need not know what time it is: a key from what looks like the future is a key.
    options = ("--homedir", home, "--keyring", keyring, "--status-fd", "1", "--ignore-time-conflict")
    weak = ("--weak-digest", "SHA1", "--weak-digest", "RIPEMD160")
    return ("gpgv", *options, *weak, "--", signature, "-")


def check_status(status: str, fingerprints: Collection[str]) -> None:
    """Accept exactly one valid signature, by a key that is pinned.

    Raises:
        SignatureError: Anything else; the sender's fault.
    """
    lines = [line.removeprefix(_PREFIX).split() for line in status.splitlines() if line.startswith(_PREFIX)]
    for line in lines:
        if line and line[0] in _REFUSED:
            raise SignatureError(f"gpgv says {line[0]}")
    valid = [line[1:] for line in lines if line and line[0] == "VALIDSIG"]
    if len(valid) != 1:
        raise SignatureError(f"gpgv found {len(valid)} valid signatures, expected exactly one")
    if not _is_pinned(valid[0], fingerprints):
        raise SignatureError("gpgv found a signature by a key that is not pinned")


def _is_pinned(fields: Sequence[str], fingerprints: Collection[str]) -> bool:
    """Fields: signing key, date, time, expiry, version, reserved, key and digest algorithm, class, primary key."""
    return len(fields) >= 10 and fields[8] == _BINARY and fields[9] in fingerprints  # noqa: PLR2004 - doc/DETAILS

"""Judging an OpenPGP signature by what gpgv says of it, for those whose release keys live in GnuPG.

``gpg --verify`` succeeds for any key in the keyring and for expired ones; so gpgv is asked with a pinned keyring, and
its status lines count, never its words for people.

Source:
    GnuPG, doc/DETAILS, section "Format of the --status-fd output".
"""

from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Final

from pydantic import Field

from schemas.codec import Bounds
from schemas.dsse import pre_authentication_encoding, read_envelope
from schemas.errors import SignatureError

Fingerprint = Annotated[str, Field(pattern="^([0-9A-F]{40}|[0-9A-F]{64})$")]
"""Of a primary key, in upper-case hex without spaces."""
_PREFIX: Final = "[GNUPG:] "
_REFUSED: Final = frozenset(
    {"BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NO_PUBKEY", "NODATA", "UNEXPECTED", "FAILURE"}
)
_BINARY: Final = "00"
"""The class of a signature over bytes as they are."""


Ask = Callable[[bytes, bytes], tuple[int, str]]
"""Asks gpgv about a signature and the signed bytes; returns its exit code and what it says on its status lines."""


def open_signed(payload_type: str, envelope: bytes, fingerprints: Collection[str], bounds: Bounds, ask: Ask) -> bytes:
    """Return the payload of an envelope whose one signature is by a key that is pinned.

    The signature is over the same bytes over which an Ed25519 one would be.

    Raises:
        SignatureError: No such envelope, or not so signed; the sender's fault.
    """
    opened = read_envelope(payload_type, envelope, bounds)
    if len(opened.signatures) != 1:
        raise SignatureError(f"{len(opened.signatures)} signatures, expected exactly one")
    code, status = ask(opened.signatures[0].data, pre_authentication_encoding(payload_type, opened.payload))
    check_status(status, fingerprints)
    if code != 0:
        raise SignatureError(f"gpgv ended with {code}")
    return opened.payload


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

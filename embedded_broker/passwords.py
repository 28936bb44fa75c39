"""Users and hashed passwords in mosquitto's ``password_file`` format, so that one file serves both brokers.

A line is ``user:$7$iterations$salt$hash``: PBKDF2 with SHA-512, salt and hash in base64, as ``mosquitto_passwd``
writes it. ``python -m embedded_broker --hash-password USER`` writes the same with more iterations.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from embedded_broker.errors import ConfigurationError

_ITERATIONS: Final = 100_000
_SALT_BYTES: Final = 16
_REMEDY: Final = "write it with 'python -m embedded_broker --hash-password USER' or mosquitto_passwd"


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """What is kept of a password."""

    iterations: int
    salt: bytes
    digest: bytes

    def fits(self, password: bytes) -> bool:
        """Tell whether this is the password; takes tens of milliseconds by intent."""
        digest = hashlib.pbkdf2_hmac("sha512", password, self.salt, self.iterations)
        return hmac.compare_digest(digest, self.digest)


class Passwords:
    """The users that may connect.

    A password that fitted once is remembered as a keyed digest of this process, so that a fleet that reconnects
    does not pay the slow hash again.
    """

    def __init__(self, hashes: dict[str, PasswordHash]) -> None:
        self._hashes = hashes
        self._key = secrets.token_bytes(32)
        self._fitted: dict[str, bytes] = {}
        self._stranger = PasswordHash(_ITERATIONS, bytes(_SALT_BYTES), b"")

    def is_remembered(self, user: str, password: bytes) -> bool:
        """Tell at once whether this password fitted before; ``False`` says nothing."""
        return hmac.compare_digest(self._fitted.get(user, b""), self._digest(password))

    def fits(self, user: str, password: bytes) -> bool:
        """Tell whether user and password fit; an unknown user takes as long as a wrong password."""
        if not self._hashes.get(user, self._stranger).fits(password):
            return False
        self._fitted[user] = self._digest(password)
        return True

    def hash_of(self, user: str) -> PasswordHash | None:
        """Return what is kept of a user's password; None for a stranger."""
        return self._hashes.get(user)

    def _digest(self, password: bytes) -> bytes:
        return hmac.digest(self._key, password, "sha256")


def hash_password(user: str, password: bytes) -> str:
    """Return the line of a password file for this user.

    Raises:
        ConfigurationError: The user name cannot stand in the file.
    """
    if not user or ":" in user or not user.isprintable():
        raise ConfigurationError(f"{user!r} is no user name: it is empty or holds ':' or a control character")
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password, salt, _ITERATIONS)
    return f"{user}:$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def parse_passwords(text: str, *, source: str) -> Passwords:
    """Parse a password file.

    Raises:
        ConfigurationError: A line is not of the format; names file, line and remedy, and nothing of the hash.
    """
    hashes: dict[str, PasswordHash] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        user, _, kept = line.partition(":")
        try:
            empty, scheme, iterations, salt, digest = kept.strip().split("$")
            if not user or empty or scheme != "7" or int(iterations) < 1:
                raise ValueError  # noqa: TRY301 - one answer for all that is wrong with a line
            hashes[user] = PasswordHash(int(iterations), base64.b64decode(salt), base64.b64decode(digest))
        except (ValueError, binascii.Error) as error:
            raise ConfigurationError(f"{source}:{number}: not 'user:$7$iterations$salt$hash'; {_REMEDY}") from error
    return Passwords(hashes)

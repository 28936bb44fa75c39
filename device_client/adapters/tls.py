"""How this device knows its broker by its certificate, and how the broker knows the device by its own.

The files are read for each attempt to connect. Renewed ones need no restart, and one that a power cut has torn keeps
nothing but the connection waiting until it is whole again.
"""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from schemas.errors import FleetError

_TORN: Final = "torn or half copied? put it there anew"


class TlsFilesError(FleetError):
    """A file cannot be used as it is now. Names its key in the settings and the file, never what is in it."""


@dataclass(frozen=True, slots=True)
class Tls:
    """A connection that nobody reads or changes on the way. Certificates and keys are in PEM.

    Attributes:
        ca_file: Who vouches for the broker; None for whom the system trusts.
        certificate_file: Vouches for us; None if a password does.
        private_key_file: Belongs to the certificate, not encrypted.
    """

    ca_file: str | None = None
    certificate_file: str | None = None
    private_key_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return what a connection is made with, from the files as they are now; the broker's name is checked.

        Raises:
            TlsFilesError: A file cannot be read, or is not what its key says.
        """
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_file is None:
            made.load_default_certs()
        else:
            _load_authorities(made, "ca_file", self.ca_file)
        if self.certificate_file is not None and self.private_key_file is not None:
            _load_own(made, self.certificate_file, self.private_key_file)
        return made

    def problem(self) -> str | None:
        """Say what is wrong with the files as they are now; None if nothing."""
        try:
            self.context()
        except TlsFilesError as error:
            return str(error)
        return None


class Renewed(ssl.SSLContext):
    """Makes each connection with the files as they were at the last ``renew``.

    paho takes one context for as long as it lives, and a context never lets go of an authority that it has learned.

    Args:
        tls: The files.
    """

    def __new__(cls, _tls: Tls) -> Self:
        """Make a context that vouches for nobody by itself."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._present: ssl.SSLContext | None = None

    def renew(self) -> None:
        """Read the files for the next connection.

        Raises:
            TlsFilesError: One of them cannot be used.
        """
        self._present = None  # whoever connects all the same must not do so with what was there before
        self._present = self._tls.context()

    def wrap_socket(  # noqa: PLR0917 - as Python has it
        self,
        sock: socket.socket,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the same
        do_handshake_on_connect: bool = True,  # noqa: FBT001, FBT002 - the same
        suppress_ragged_eofs: bool = True,  # noqa: FBT001, FBT002 - the same
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """As a context that was made from the files."""
        assert self._present is not None, "the files are read before anybody connects"
        return self._present.wrap_socket(
            sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname, session
        )


def _load_authorities(context: ssl.SSLContext, key: str, path: str) -> None:
    _check_readable(key, path)
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise TlsFilesError(f"key '{key}': {path}: {_reason(error, 'no certificates in PEM')}") from error


def _load_own(context: ssl.SSLContext, certificate: str, private_key: str) -> None:
    _check_readable("certificate_file", certificate)
    _check_readable("private_key_file", private_key)
    try:
        context.load_cert_chain(certificate, private_key, password=lambda: _refuse_to_ask(private_key))
    except OSError as error:
        # OpenSSL does not say which of the two it means.
        _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "certificate_file", certificate)
        why = _reason(error, "no private key in PEM")
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            why = f"does not belong to {certificate}; was only one of them renewed?"
        raise TlsFilesError(f"key 'private_key_file': {private_key}: {why}") from error


def _check_readable(key: str, path: str) -> None:
    """Find out what the ``ssl`` module reports without the file's name."""
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise TlsFilesError(
            f"key '{key}': {path}: {error.strerror}; correct the path, or put it there for the agent to read"
        ) from error


def _reason(error: OSError, unusable: str) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    return f"{unusable} ({error}); {_TORN}"


def _refuse_to_ask(private_key: str) -> NoReturn:
    raise TlsFilesError(
        f"key 'private_key_file': {private_key}: it is encrypted, and a service cannot ask for its password; decrypt it"
    )

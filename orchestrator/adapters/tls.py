"""How the broker is known by its certificate, and how it knows us by ours."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.errors import FleetError

_HINT: Final = "name them with --ca-file, --certificate-file and --private-key-file, or in TIDEGATE_CA_FILE and so on"


class TlsFilesError(FleetError):
    """The caller's fault: a file of certificates or keys that cannot be used. Names the file, never what is in it."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Certificates and keys in PEM. They are read for each connection, so that renewed ones need no restart.

    Attributes:
        ca_file: Who vouches for the broker; None for whom the system trusts.
        certificate_file: Vouches for us; None if a password does.
        private_key_file: Belongs to the certificate, not encrypted.

    Raises:
        TlsFilesError: Only one of certificate and key is given.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    private_key_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.private_key_file is None):
            raise TlsFilesError(f"a certificate and its private key belong together; {_HINT}")

    def context(self) -> ssl.SSLContext:
        """Return what a connection is made with: TLS 1.2 or newer, and the broker's name is checked.

        Raises:
            TlsFilesError: A file cannot be read or is none.
        """
        try:
            made = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            why = _reason(error, "no certificates in PEM")
            raise TlsFilesError(f"{self.ca_file}: {why}; {_HINT}") from error
        if self.certificate_file is not None:
            try:
                made.load_cert_chain(self.certificate_file, self.private_key_file, password=_refuse_to_ask)
            except OSError as error:
                both = f"{self.certificate_file} and {self.private_key_file}"
                why = _reason(error, "no certificate with its key in PEM")
                raise TlsFilesError(f"{both}: {why}; {_HINT}") from error
        return made

    def user(self) -> str | None:
        """Return the common name in our certificate: who we are to a broker that goes by certificates.

        Raises:
            TlsFilesError: There is a certificate and it cannot be read.
        """
        if self.certificate_file is None:
            return None
        from cryptography import x509  # noqa: PLC0415 - it takes long, and most connections have no certificate

        try:
            subject = x509.load_pem_x509_certificate(self.certificate_file.read_bytes()).subject
        except OSError as error:
            raise TlsFilesError(f"{self.certificate_file}: {error.strerror}; {_HINT}") from error
        except ValueError as error:
            raise TlsFilesError(f"{self.certificate_file}: no certificate in PEM; {_HINT}") from error
        names = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return str(names[0].value) if names else None


def _reason(error: OSError, unreadable: str) -> str:
    return unreadable if isinstance(error, ssl.SSLError) else error.strerror or str(error)


def _refuse_to_ask() -> str:
    raise TlsFilesError(
        "the private key is encrypted, and a service cannot ask for its password; decrypt it, mode 0600"
    )

"""Certificates for a broker and whoever connects to it: made here, kept in a folder, taken back by name.

There are two authorities. One vouches for the broker and for people and tools, the other for devices only, so that a
device is not let in where those connect, whatever it calls itself. Both are files; whoever has ``authority/`` can be
anybody.
"""

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.errors import FleetError

TOOLS, DEVICES = "ca", "devices-ca"
"""The two authorities, as their files are called."""
AUTHORITY_DAYS: Final = 3650
LEAF_DAYS: Final = 730
REQUEST_COMMAND: Final = (
    "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client.key -subj /CN=ID -out ID.csr"
)
"""What a device types, which keeps ``client.key``."""
_REQUEST_BYTES_MAX: Final = 65_536
_CURVE_BITS_MIN, _RSA_BITS_MIN = 256, 2048
_LATE: Final = timedelta(hours=1)  # clocks of clients that are behind ours
_SECRET, _PUBLIC = 0o600, 0o644


class CertificateError(FleetError):
    """The caller's fault: a folder that holds no authority, or one that is there already. Names it and the remedy."""


class Authority:
    """Vouches for others, and takes that back.

    Args:
        folder: With ``NAME.crt`` and ``NAME.crl``, which the broker needs.
        name: Of the two.
        secrets: The folder with ``NAME.key``.
        now: When certificates begin.

    Raises:
        CertificateError: Its files are not all there.
    """

    def __init__(self, folder: Path, name: str, secrets: Path, now: datetime) -> None:
        try:
            key = serialization.load_pem_private_key((secrets / f"{name}.key").read_bytes(), None)
            self._certificate = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
            self._revoked = x509.load_pem_x509_crl((folder / f"{name}.crl").read_bytes())
        except OSError as error:
            raise CertificateError(f"{error.filename}: {error.strerror}; put it back to issue certificates") from error
        except ValueError as error:
            raise CertificateError(f"{folder}: {name} is damaged; put its three files back from a copy") from error
        assert isinstance(key, ec.EllipticCurvePrivateKey), "we made it"
        self._key = key
        self._list = folder / f"{name}.crl"
        self._now = now

    @classmethod
    def create(cls, folder: Path, name: str, secrets: Path, now: datetime) -> None:
        """Make one that is not there yet."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(f"tidegate {name} {x509.random_serial_number():x}"[:60])  # two fleets' are told apart
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        made = (
            _builder(subject, key.public_key(), now, AUTHORITY_DAYS)
            .issuer_name(subject)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        secrets.mkdir(mode=0o700, exist_ok=True)
        write_new(secrets / f"{name}.key", _private(key), _SECRET)
        write_new(folder / f"{name}.crt", _pem(made), _PUBLIC)
        _write_list(folder / f"{name}.crl", made, key, [], now)

    def vouch_for(self, name: str, place: Path, *, hosts: Sequence[str] = (), days: int = LEAF_DAYS) -> None:
        """Write ``place.crt`` and ``place.key`` for ``name``.

        Args:
            name: The common name: the user's.
            place: The two files without their endings.
            hosts: Names and addresses of a server; without one it is a client's certificate.
            days: How long it holds.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certify(name, key.public_key(), hosts, days)
        write_new(place.with_name(f"{place.name}.key"), _private(key), _SECRET)
        write_new(place.with_name(f"{place.name}.crt"), _pem(certificate), _PUBLIC)

    def vouch_for_key(self, name: str, key: CertificatePublicKeyTypes, place: Path, *, days: int = LEAF_DAYS) -> None:
        """Write ``place.crt`` for a client that keeps its key to itself; see ``vouch_for``."""
        write_new(place.with_name(f"{place.name}.crt"), _pem(self._certify(name, key, (), days)), _PUBLIC)

    def _certify(self, name: str, key: CertificatePublicKeyTypes, hosts: Sequence[str], days: int) -> x509.Certificate:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(_named(name), key, self._now, days)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, hosts))), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def revoke(self, certificates: Iterable[Path]) -> None:
        """Write the list of what is taken back, with these; it holds as long as the authority does."""
        known = {each.serial_number: each for each in self._revoked}
        for path in certificates:
            serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(self._now).build()
            known.setdefault(serial, entry)
        _write_list(self._list, self._certificate, self._key, list(known.values()), self._now)


def read_request(path: Path) -> tuple[str, CertificatePublicKeyTypes]:
    """Return the name and the public key of a request for a certificate; nothing else of it counts.

    Raises:
        CertificateError: It is none, its key is weak or not the sender's own, or it names somebody else than the file
            does: who signs it has said by the file whom they mean.

    Source:
        RFC 2986 (PKCS #10).
    """
    try:
        request = x509.load_pem_x509_csr(path.read_bytes()[:_REQUEST_BYTES_MAX])
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        key, is_theirs = request.public_key(), request.is_signature_valid
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}; name the file that the device has made") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{path}: is no certificate request in PEM; make one with {REQUEST_COMMAND}") from error
    said = [str(each.value) for each in names]
    if said != [path.stem]:
        shown = ", ".join(repr(each[:80]) for each in said) or "nobody"
        raise CertificateError(
            f"{path}: asks for {shown}; a request of {path.stem!r} must name it, and nobody else (CN)"
        )
    is_strong = (isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= _CURVE_BITS_MIN) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS_MIN
    )
    if not is_strong or not is_theirs:
        why = "its signature is not by its own key" if is_strong else "its key is of a weak or rare kind"
        raise CertificateError(f"{path}: {why}; make another with {REQUEST_COMMAND}")
    return path.stem, key


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not be there yet.

    Raises:
        CertificateError: It is there, or cannot be written.
    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except FileExistsError as error:
        raise CertificateError(f"{path} is there already, and nothing is overwritten; move it away first") from error
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}; choose a folder that is writable") from error


def _write_list(
    path: Path,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    revoked: list[x509.RevokedCertificate],
    now: datetime,
) -> None:
    """Write a list that does not run out before the authority: one that has run out locks everybody out."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(now - _LATE)
        .next_update(certificate.not_valid_after_utc)
    )
    for each in revoked:
        builder = builder.add_revoked_certificate(each)
    pending = path.with_name(f".{path.name}.pending")
    pending.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    pending.replace(path)


def _builder(subject: x509.Name, key: CertificatePublicKeyTypes, now: datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _LATE)
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

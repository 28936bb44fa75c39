"""Where a broker is and who connects to it; apart from what starts brokers, so that asking one takes little."""

import re
import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from orchestrator.adapters.tls import TlsFiles
from schemas.errors import FleetError

ADDRESS: Final = "broker.url"
"""Beside a user's certificate: where the broker is."""
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


class BrokerUnavailableError(FleetError):
    """The world's fault: no broker answers, or none could be started. Names the address and the remedy."""


class BrokerUrlError(FleetError):
    """The caller's fault: no address of a broker. Never holds the password."""


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """Where a broker is and who connects to it."""

    host: str
    port: int
    is_tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    files: TlsFiles = field(default_factory=TlsFiles)

    @classmethod
    def parse(cls, text: str, files: TlsFiles = TlsFiles()) -> "BrokerUrl":  # noqa: B008 - frozen
        """Read ``mqtt://user:password@host:1883``, or ``mqtts://`` for TLS; without a port it is 1883 or 8883.

        Who is not named is whoever stands in the certificate.

        Raises:
            BrokerUrlError: It is something else, or there are certificates for a connection without TLS.
            TlsFilesError: The certificate cannot be read.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise BrokerUrlError(f"broker: {_refusal(text)}") from error
        is_broker = parts.scheme in _PORTS and parts.hostname and port != 0
        if not is_broker or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise BrokerUrlError(f"broker: {_refusal(text)}")
        if parts.scheme != "mqtts" and files != TlsFiles():
            raise BrokerUrlError(f"broker: certificates are for TLS; write mqtts://{parts.hostname}, or leave them out")
        return cls(
            host=parts.hostname or "",
            port=port or _PORTS[parts.scheme],
            is_tls=parts.scheme == "mqtts",
            username=unquote(parts.username) if parts.username else files.user(),
            password=unquote(parts.password) if parts.password else None,
            files=files,
        )

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what a connection is made with; None for a plain one.

        Raises:
            TlsFilesError: Certificates or keys cannot be used.
        """
        return self.files.context() if self.is_tls else None

    def __str__(self) -> str:
        user = f"{self.username}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.is_tls else 'mqtt'}://{user}{host}:{self.port}"


def _refusal(text: str) -> str:
    shown = re.sub(r"//[^/]*@", "//", text)[:200]
    return (
        f"{shown!r} is no address; write mqtt://host:1883 or mqtts://host:8883, with user:password@ in front of the "
        "host if it wants them (special characters as %XX)"
    )

"""Where a server may send this device: further to itself, and to the servers that the settings name.

What comes is proven by its digest, wherever it came from. But a request is made by asking, and whoever answers for a
registry must not make devices ask whatever else listens in their network.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_ANY: Final = "*."
_LABELS_MIN: Final = 2
_REMEDY: Final = "write https://host, https://*.domain.example for all names below it, or http://host:port"


@dataclass(frozen=True, slots=True)
class Redirects:
    """Servers to which others may send this device.

    Attributes:
        servers: Each as ``check_server`` takes it.
    """

    servers: tuple[str, ...] = ()

    def allow(self, here: str, there: str) -> bool:
        """Say whether the server of ``here`` may send this device to ``there``; both are addresses.

        It may to itself, to its own host over https, and to what is named. No name that begins with https allows http.

        Raises:
            ValueError: One of them is no address.
        """
        source, target = urlsplit(here), urlsplit(there)
        if _server(source) == _server(target) or (target.scheme == "https" and target.hostname == source.hostname):
            return True
        return any(_is_named(target, urlsplit(each)) for each in self.servers)


NOWHERE_ELSE: Final = Redirects()


def check_server(text: str) -> str:
    """Return the address of a server that others may send this device to.

    Raises:
        ValueError: It is none, or says more than scheme, host and port.
    """
    try:
        parts = urlsplit(text)
        scheme, host, _ = _server(parts)
    except ValueError as error:
        raise ValueError(f"this is no address; {_REMEDY}") from error
    plain = host.removeprefix(_ANY)
    if scheme not in _PORTS or not plain or "*" in plain or "@" in parts.netloc:
        raise ValueError(f"this is no server's address; {_REMEDY}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"a server is scheme, host and port, without a path; {_REMEDY}")
    if host.startswith(_ANY) and len(plain.split(".")) < _LABELS_MIN:
        raise ValueError(f"that is nearly everybody; {_REMEDY}")
    return text


def _server(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _is_named(target: SplitResult, named: SplitResult) -> bool:
    scheme, host, port = _server(named)
    has_name = host == target.hostname
    if host.startswith(_ANY):
        has_name = (target.hostname or "").endswith(host.removeprefix("*"))
    return has_name and (scheme, port) == (target.scheme, _server(target)[2])

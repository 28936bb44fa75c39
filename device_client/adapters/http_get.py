"""One GET over http or https, that ends whatever the server does.

Between any two bytes, of headers too, somebody is asked whether to go on; a server that drips cannot hold anybody for
longer than they want. Redirects are followed a few times, to http and https only; their bodies are not read.
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import urljoin, urlsplit, urlunsplit

from device_client.adapters.failure import StepError
from device_client.core.codes import ErrorCode

REDIRECTS_MAX: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LOOK_SECONDS: Final = 0.5
"""How often somebody is asked while nothing comes."""

GoOn = Callable[[], None]
"""Raises what ends the request."""


@contextmanager
def http_get(
    url: str, headers: Mapping[str, str], *, silence_seconds: float, go_on: GoOn
) -> Iterator[http.client.HTTPResponse]:
    """Give the response to a GET, whatever its status is.

    Args:
        url: Where to begin.
        headers: Sent with it, also after a redirect.
        silence_seconds: How long connecting, and every byte, may take.
        go_on: Asked again and again; what it raises comes out of the reading.

    Raises:
        StepError: ``download_failed``: it is not there, or not answering in HTTP. Also out of the reading.
    """
    try:
        here = url
        for _ in range(REDIRECTS_MAX + 1):
            go_on()
            with _asked(here, headers, silence_seconds, go_on) as response:
                elsewhere = response.headers.get("Location") if response.status in REDIRECTS else None
                if elsewhere is None:
                    yield response
                    return
            here = urljoin(here, elsewhere)
        raise StepError(ErrorCode.DOWNLOAD_FAILED, f"{without_secrets(url)}: redirects without end")
    except (http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
        raise StepError(
            ErrorCode.DOWNLOAD_FAILED, f"{without_secrets(url)}: {str(error) or type(error).__name__}"
        ) from error


def without_secrets(url: str) -> str:
    """Return an address as it may be logged and reported: without user, password and query, which may be a token."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def _asked(
    url: str, headers: Mapping[str, str], silence_seconds: float, go_on: GoOn
) -> Iterator[http.client.HTTPResponse]:
    """Give the response of one server."""
    with (
        closing(open_connection(url, silence_seconds)) as connection,
        request(connection, url, {"Connection": "close", **headers}, silence_seconds, go_on) as response,
    ):
        yield response


def open_connection(url: str, silence_seconds: float) -> http.client.HTTPConnection:
    """Return a connection to the server of ``url``, made with the first request.

    Raises:
        StepError: ``download_failed``: it is no address of http or https.
        ValueError: The same.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    match parts.scheme:
        case "http":
            return http.client.HTTPConnection(host, port, timeout=silence_seconds)
        case "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=silence_seconds, context=context)
        case _:
            raise StepError(ErrorCode.DOWNLOAD_FAILED, f"{without_secrets(url)[:80]}: only http and https are fetched")


def request(
    connection: http.client.HTTPConnection, url: str, headers: Mapping[str, str], silence_seconds: float, go_on: GoOn
) -> http.client.HTTPResponse:
    """Ask on ``connection``, which leads to the server of ``url``; reading the response is watched too.

    Raises:
        ConnectionError: It is not to be had.
        TimeoutError: It was silent for too long.
        HTTPException: It does not answer in HTTP.
    """
    response_class = partial(_Response, silence_seconds=silence_seconds, go_on=go_on)
    connection.response_class = response_class  # type: ignore[assignment] # it is called, and nothing else
    parts = urlsplit(url)
    try:
        connection.request("GET", urlunsplit(("", "", parts.path or "/", parts.query, "")), headers=dict(headers))
    except OSError as error:
        raise ConnectionError(str(error)) from error
    return connection.getresponse()


class _Response(http.client.HTTPResponse):
    """A response that is read from a watched socket."""

    def __init__(
        self,
        connected: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        *,
        silence_seconds: float,
        go_on: GoOn,
    ) -> None:
        super().__init__(connected, debuglevel, method)
        self.fp = io.BufferedReader(_Watched(connected, self.fp, silence_seconds, go_on))


class _Watched(io.RawIOBase):
    """The bytes of a socket, with errors of the network that are never mistaken for the disk's."""

    def __init__(
        self, connected: socket.socket, original: io.BufferedIOBase, silence_seconds: float, go_on: GoOn
    ) -> None:
        self._socket, self._original = connected, original
        self._silence_seconds, self._go_on = silence_seconds, go_on
        connected.settimeout(min(_LOOK_SECONDS, silence_seconds))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any buffer
        silent_until = time.monotonic() + self._silence_seconds
        while True:
            self._go_on()
            try:
                return self._socket.recv_into(buffer)
            except TimeoutError:
                if time.monotonic() >= silent_until:
                    raise
            except OSError as error:
                raise ConnectionError(str(error)) from error

    def close(self) -> None:
        self._original.close()  # it keeps the socket open
        super().close()

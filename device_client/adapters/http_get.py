"""One GET over http or https, that ends whatever the server does.

Between any two bytes, of headers too, somebody is asked whether to go on; a server that drips cannot hold anybody for
longer than they want. Redirects are followed a few times, to where the device's settings let them lead; their bodies
are not read. An address that was signed for a while, and has run out, is asked for anew.
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
from device_client.core.redirects import NOWHERE_ELSE, Redirects

REDIRECTS_MAX: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_RUN_OUT: Final = frozenset({400, 401, 403})
"""What an object store answers where a signed address is not good any more."""
_LOOK_SECONDS: Final = 0.5
"""How often somebody is asked while nothing comes."""

GoOn = Callable[[], None]
"""Raises what ends the request."""


@contextmanager
def http_get(
    url: str, headers: Mapping[str, str], *, silence_seconds: float, go_on: GoOn, redirects: Redirects = NOWHERE_ELSE
) -> Iterator[http.client.HTTPResponse]:
    """Give the response to a GET, whatever its status is.

    Args:
        url: Where to begin.
        headers: Sent with it, also after a redirect.
        silence_seconds: How long connecting, and every byte, may take.
        go_on: Asked again and again; what it raises comes out of the reading.
        redirects: Where servers may lead.

    Raises:
        StepError: ``download_failed``: it is not there, or not answering in HTTP. Also out of the reading.
    """
    try:
        here, may_run_out = url, True
        for _ in range(REDIRECTS_MAX + 1):
            go_on()
            with _asked(here, headers, silence_seconds, go_on) as response:
                elsewhere = response.headers.get("Location") if response.status in REDIRECTS else None
                has_run_out = here != url and may_run_out and response.status in _RUN_OUT
                if elsewhere is None and not has_run_out:
                    yield response
                    return
            if elsewhere is None:
                here, may_run_out = url, False
            else:
                here = led_to(here, elsewhere, redirects)
        raise StepError(ErrorCode.DOWNLOAD_FAILED, f"{without_secrets(url)}: redirects without end")
    except (http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
        raise StepError(
            ErrorCode.DOWNLOAD_FAILED, f"{without_secrets(url)}: {str(error) or type(error).__name__}"
        ) from error


def led_to(here: str, location: str, redirects: Redirects) -> str:
    """Return where a redirect leads.

    Args:
        here: Who redirects.
        location: What it says; it may hold a signature, so it is in no message.
        redirects: Where servers may lead.

    Raises:
        StepError: ``download_failed``: not there.
    """
    shown = without_secrets(here)
    if not location.isascii() or not location.isprintable() or " " in location:
        raise StepError(ErrorCode.DOWNLOAD_FAILED, f"{shown}: redirects to what is no address")
    there = urljoin(here, location)
    if not redirects.allow(here, there):
        parts = urlsplit(without_secrets(there))
        server = f"{parts.scheme}://{parts.netloc}"[:200]
        message = f"{shown}: redirects to {server}, which 'redirects' in the settings does not name"
        raise StepError(ErrorCode.DOWNLOAD_FAILED, message)
    return there


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

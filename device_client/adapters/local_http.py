"""Asking the application over HTTP, within a time that holds for the whole answer."""

import http.client
import io
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_OK: Final = 200


class _Patient(io.RawIOBase):
    """What a socket receives until a moment; without it, who sends a byte now and then would be waited for for ever."""

    def __init__(self, connection: socket.socket, deadline_at: float) -> None:
        self._connection = connection
        self._deadline_at = deadline_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        left_seconds = self._deadline_at - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError("no whole answer in time")
        self._connection.settimeout(left_seconds)
        return self._connection.recv_into(buffer)

    def makefile(self, *_: object) -> io.BufferedReader:
        """Do what ``http.client`` asks of a socket."""
        return io.BufferedReader(self)


def get(port: int, path: str, timeout_seconds: float, bytes_max: int) -> bytes | None:
    """Return the body of a 200 that was there in time, None for everything else."""
    deadline_at = time.monotonic() + timeout_seconds
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_seconds) as connection:
            connection.sendall(request.encode())
            response = http.client.HTTPResponse(_Patient(connection, deadline_at))  # type: ignore[arg-type] # its one use
            response.begin()
            body = response.read(bytes_max + 1)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return body if response.status == _OK and len(body) <= bytes_max else None

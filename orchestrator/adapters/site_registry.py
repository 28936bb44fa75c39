"""One registry as a site's cache sees it: how it is asked, and what its answers mean."""

import time
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from orchestrator.adapters.content import Item
from orchestrator.adapters.http_client import Answer, HttpError, without_secrets
from orchestrator.adapters.site_arrival import ArrivalError

_ABSENT: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


class AbsentError(Exception):
    """A registry says that it has no such thing."""


@dataclass(slots=True)
class Registry:
    """One of those that have everything.

    Attributes:
        url: Its base address; a user and a password in it are for it alone.
        avoided_until: It is asked last until then, on the monotonic clock.
    """

    url: str
    avoided_until: float = 0.0

    def __str__(self) -> str:
        """Return its address without secrets."""
        return without_secrets(urlsplit(self.url))

    def avoid(self, seconds: float) -> None:
        """Ask it last for so long."""
        self.avoided_until = time.monotonic() + seconds


def headers_for(item: Item, offset: int) -> dict[str, str]:
    """Return what a request for what is from ``offset`` on says."""
    headers = {"Accept-Encoding": "identity"}
    return headers | {"Range": f"bytes={offset}-", "If-Range": f'"{item.sha256}"'} if offset else headers


def place_of(registry: Registry, answer: Answer, item: Item, offset: int) -> tuple[int, int | None]:
    """Return where the body of an answer to a request from ``offset`` on begins, and how much the whole is.

    Raises:
        AbsentError: The registry has no such thing.
        HttpError: It answers something else.
        ArrivalError: It has less than came of it already.
    """
    where = f"{registry}/{item}"
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise HttpError(f"{where}: sends it encoded")
    total: int | None
    match answer.status:
        case HTTPStatus.OK:
            start, total = 0, answer.length_bytes
        case HTTPStatus.PARTIAL_CONTENT if offset:
            start, total = _span(where, answer.headers.get("content-range", ""))
            if start != offset:
                raise HttpError(f"{where}: sends from byte {start}, not {offset}")
        case status if status in _ABSENT:
            raise AbsentError("no registry has it")
        case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise ArrivalError("it is shorter than what came of it", HTTPStatus.BAD_GATEWAY)
        case status:
            raise HttpError(f"{where}: answers {status}")
    if total is not None and item.kind.bytes_max is not None and total > item.kind.bytes_max:
        raise HttpError(f"{where}: has {total} bytes, more than {item.folder} may have")
    return start, total


def _span(where: str, text: str) -> tuple[int, int | None]:
    """Return where a ``Content-Range`` begins and how much the whole is."""
    unit, _, span = text.partition(" ")
    first_to_last, _, total = span.partition("/")
    with suppress(ValueError):
        first, last = (int(each) for each in first_to_last.split("-"))
        whole = None if total == "*" else int(total)
        if unit == "bytes" and 0 <= first <= last and (whole is None or last == whole - 1):
            return first, whole
    raise HttpError(f"{where}: sends a part that it does not describe")

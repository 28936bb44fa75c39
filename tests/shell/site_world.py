"""A site's cache inside the test's loop, registries that say what a test wants, and devices that ask."""

import asyncio
import contextlib
import hashlib
import http.client
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.adapters.http_client import Patience
from orchestrator.adapters.site_cache import CacheSettings, serve_cache
from orchestrator.adapters.site_fetch import Effort

_DEVICES = ThreadPoolExecutor(max_workers=64)
"""Threads of their own, so that the cache has all of its own."""
QUICK = Effort(rounds_max=3, pause_seconds=0.02)


def name_of(data: bytes, folder: str = "artifacts") -> str:
    """Return where ``data`` is, below a base."""
    return f"/{folder}/{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Got:
    """What a device was answered; ``is_whole`` is False where the answer broke off."""

    status: int
    body: bytes
    is_whole: bool = True
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Site:
    """A cache that can be asked."""

    url: str

    async def get(self, path: str, **headers: str) -> Got:
        return await asyncio.get_running_loop().run_in_executor(_DEVICES, fetch, self.url, path, "GET", headers)

    async def head(self, path: str) -> Got:
        return await asyncio.to_thread(fetch, self.url, path, "HEAD", {})

    async def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads((await self.get("/status")).body)
        return answer

    async def settled(self) -> None:
        """Return once nothing is on its way to the cache or its disk."""
        await self.until(lambda status: status["fetching"] == 0)

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Return once the cache says of itself what ``condition`` wants to hear."""
        for _ in range(1000):
            if condition(await self.status()):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it did not happen in time")


def fetch(url: str, path: str, method: str, headers: dict[str, str]) -> Got:
    """Ask once, and read whatever comes."""
    address = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        try:
            return Got(response.status, response.read(), headers=told)
        except http.client.IncompleteRead as error:
            return Got(response.status, error.partial, is_whole=False, headers=told)
        except ConnectionError:
            return Got(response.status, b"", is_whole=False, headers=told)


def settings_of(folder: Path, *registries: str, **changes: Any) -> CacheSettings:  # noqa: ANN401 - any setting
    """Return the settings of a cache that is not patient for long."""
    usual = CacheSettings(registries, folder, 50_000_000, patience=Patience(2.0, 2.0), effort=QUICK)
    return replace(usual, **changes)


@contextlib.asynccontextmanager
async def site(folder: Path, *registries: str, **changes: Any) -> AsyncIterator[Site]:  # noqa: ANN401 - any setting
    """Run a cache."""
    async with serve_cache(settings_of(folder, *registries, **changes), "127.0.0.1", 0) as url:
        yield Site(url)


def files_in(folder: Path) -> set[str]:
    """Return what a cache has on its disk, with the parts."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}

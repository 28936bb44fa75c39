"""A registry of the kit's own: it knows when something was fetched, and can send other bytes than were ordered."""

from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.adapters.releases import ARTIFACTS, MANIFESTS

_NOT_FOUND = 404


class OnServed(Protocol):
    """Told of each artifact that was fetched, and whether other bytes were sent."""

    def __call__(self, sha256: str, *, is_tampered: bool) -> None:
        """Take note."""
        ...


class Depot:
    """Serves files of the release store by their digests.

    Args:
        folder: The release store.
        on_served: Told of each artifact that is fetched.
    """

    def __init__(self, folder: Path, on_served: OnServed) -> None:
        self._folder = folder
        self._on_served = on_served
        self.tampered = ""
        """Digest of the artifact of which one byte is changed on the way."""
        self.app = Starlette(
            routes=[
                Route("/manifests/{sha256:str}", self._send_manifest),
                Route("/artifacts/{sha256:str}", self._send_artifact),
            ]
        )

    async def _send_manifest(self, request: Request) -> Response:
        return Response(self._read(MANIFESTS, request), media_type="application/json")

    async def _send_artifact(self, request: Request) -> Response:
        content = self._read(ARTIFACTS, request)
        sha256 = str(request.path_params["sha256"])
        is_tampered = sha256 == self.tampered
        self._on_served(sha256, is_tampered=is_tampered)
        if is_tampered:
            content = content[:-1] + bytes([content[-1] ^ 1])
        return Response(content, media_type="application/gzip")

    def _read(self, kind: str, request: Request) -> bytes:
        path = self._folder / kind / str(request.path_params["sha256"])
        if path.parent != self._folder / kind or not path.is_file():
            raise HTTPException(_NOT_FOUND)
        return path.read_bytes()

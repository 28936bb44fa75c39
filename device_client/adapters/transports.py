"""How this device can fetch: over HTTP, over the bus, or both. Addresses that it does not reach are passed over."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from device_client.adapters.chunk_http import HttpChunks, chunk_bases
from device_client.adapters.chunk_sources import ChunkSource, GoOn
from device_client.core.redirects import NOWHERE_ELSE, Redirects
from schemas.pieces import is_on_bus, read_address

if TYPE_CHECKING:
    from device_client.adapters.pieces import Pieces


@dataclass(frozen=True, slots=True)
class Transports:
    """What this device reaches.

    Attributes:
        has_http: Whether it fetches from servers.
        pieces: What it asks with over the bus; None: it does not.
        redirects: Where servers may lead it.
    """

    has_http: bool = True
    pieces: "Pieces | None" = None
    redirects: Redirects = NOWHERE_ELSE

    def reached(self, urls: Iterable[str]) -> tuple[str, ...]:
        """Return those of an order's addresses that can be asked here, in their order."""
        return tuple(url for url in urls if (self.pieces is not None if is_on_bus(url) else self.has_http))

    def chunk_sources(self, urls: Iterable[str], artifact_sha256: str) -> list[ChunkSource]:
        """Return where chunks are, for each address of an archive that can be asked here."""
        found: list[ChunkSource] = []
        for url in self.reached(urls):
            if is_on_bus(url):
                found.append(self._over_the_bus())
            else:
                found += [HttpChunks(base, redirects=self.redirects) for base in chunk_bases((url,), artifact_sha256)]
        return found

    def blocks(self, url: str, start: int, size_bytes: int, go_on: GoOn) -> Generator[bytes] | None:
        """Return what comes over the bus for an address there, from ``start`` on; None for any other address."""
        address = read_address(url)
        if address is None or self.pieces is None:
            return None
        return self.pieces.blocks(*address, start, size_bytes, go_on)

    def _over_the_bus(self) -> ChunkSource:
        assert self.pieces is not None, "only what is reached is asked"
        from device_client.adapters.pieces import PieceChunks  # noqa: PLC0415 - held only where it is needed

        return PieceChunks(self.pieces)


HTTP_ALONE: Final = Transports()

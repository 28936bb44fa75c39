"""The devices of this site as a place where chunks come from: who has them is told over the bus, and not believed.

A peer that gives other bytes is not asked again while this agent lives, and reported. One that is gone, or does not
have what it is said to have, is given up until it is told of anew; one that is busy is asked again a little later, and
one that is quick before others. Nobody is waited for beyond what the order allows, and a minute for those that are
busy; what stands behind peers is asked then.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from device_client.adapters.chunk_http import HttpChunks
from device_client.adapters.chunk_sources import (
    ChunkAbsentError,
    ChunkBusyError,
    ChunkFailedError,
    ChunkFalseError,
    ChunkSource,
    GoOn,
)
from device_client.core.effects import Source
from schemas.chunks import Chunk, from_stored
from schemas.errors import DecodeError
from schemas.messages import PeersDocument
from schemas.peers import PEERS_MAX, is_peer_url

ORIGIN: Final = "peers"
SILENCE_SECONDS: Final = 5.0
SECONDS: Final = 15.0
FAILURES_MAX: Final = 3
BUSY_SECONDS: Final = 0.2
BUSY_SECONDS_MAX: Final = 3.0
"""So long a neighbour is left alone that is busy, at first and at last: it should give, and not say so to everybody."""
BUSY_WAIT_SECONDS: Final = 60.0
"""So long neighbours that are busy are waited for in all, also by who goes first: they have it, and spare the line."""
FAILED_SECONDS: Final = 0.5
GREETING_SECONDS: Final = 2.0
"""So long everybody waits for what is told of the neighbours, also who goes first: later waves have some already."""
_LOOK_SECONDS: Final = 0.05
_LIARS_MAX: Final = 256
_CURIOUS_ONCE_IN: Final = 8
"""Chunks of which one is asked of anybody, not of the quickest so far: others may be quicker by now."""


class Neighbours:
    """Who of this site has what, as the bus tells it.

    Args:
        own_url: Where this device itself gives chunks; None if it does not.
        report: Told the address of a peer that lied, and how.
    """

    def __init__(self, own_url: str | None, report: Callable[[str, str], None]) -> None:
        self._own_url = own_url
        self._report = report
        self._guard = threading.Lock()
        self._told: PeersDocument | None = None
        self._liars: set[str] = set()
        self._begun: tuple[str, float] = ("", 0.0)
        self._listen: Callable[[], None] = lambda: None
        self.key: str | None = None
        """Of the topic where this site's are told; None while nobody asks."""

    def listen_with(self, listen: Callable[[], None]) -> None:
        """Have ``listen`` called when there is a ``key``, or another one."""
        self._listen = listen

    def learn(self, key: str, told: PeersDocument | None) -> None:
        """Take what was told under ``key``; None: nobody has anything."""
        with self._guard:
            if key == self.key:
                self._told = told

    def sources(self, source: Source) -> Sequence[ChunkSource]:
        """Return this site's devices as one source for an order; none for an order that says nothing of them."""
        peers = source.artifact.peers
        if peers is None:
            return ()
        with self._guard:
            is_new, self.key = self.key != peers.key, peers.key
            if is_new:
                self._told = None
            if self._begun[0] != source.artifact.sha256:
                self._begun = (source.artifact.sha256, time.monotonic())
            begun_at = self._begun[1]
            wait_seconds = peers.wait_seconds if self._told is not None else max(peers.wait_seconds, GREETING_SECONDS)
        if is_new:
            self._listen()
        return (PeerChunks(self, source.artifact.sha256, begun_at=begun_at, wait_seconds=wait_seconds),)

    def urls(self, artifact_sha256: str) -> list[str]:
        """Return the addresses of those who have an artifact and have not lied."""
        with self._guard:
            told = self._told
            found = [] if told is None else [it.urls for it in told.artifacts if it.sha256 == artifact_sha256]
            urls = dict.fromkeys(url for each in found for url in each[:PEERS_MAX])
            return [url for url in urls if is_peer_url(url) and url != self._own_url and url not in self._liars]

    def distrust(self, url: str, reason: str) -> None:
        """Never ask ``url`` again, and report it."""
        with self._guard:
            is_known = url in self._liars
            if len(self._liars) < _LIARS_MAX:
                self._liars.add(url)
        if not is_known:
            self._report(url, reason)


@dataclass(slots=True)
class _Peer:
    """What is thought of one for this fetch."""

    url: str
    source: HttpChunks
    failures: int = 0
    busy: int = 0
    rests_until: float = 0.0
    seconds_per_byte: float | None = None

    def gave(self, size_bytes: int, seconds: float) -> None:
        """Note that it gave something, and how quickly."""
        self.failures = self.busy = 0
        self.rests_until = 0.0
        latest = seconds / max(1, size_bytes)
        self.seconds_per_byte = latest if self.seconds_per_byte is None else (self.seconds_per_byte + latest) / 2

    def is_busy(self) -> None:
        """Note that it has it, and gives it to others just now."""
        self.busy += 1
        self.rest(min(BUSY_SECONDS_MAX, BUSY_SECONDS * 2 ** min(self.busy - 1, 8)))

    def rest(self, seconds: float) -> None:
        self.rests_until = time.monotonic() + seconds * random.uniform(0.5, 1.5)  # noqa: S311 - spreads, keeps no secret


class PeerChunks:
    """The devices of this site that have one artifact; whoever joins them meanwhile is asked too.

    Args:
        neighbours: Knows them.
        artifact_sha256: Which artifact.
        begun_at: When it was first wanted, on the monotonic clock.
        wait_seconds: How long somebody is waited for, from then on and after each chunk that was given.
    """

    name = ORIGIN

    def __init__(self, neighbours: Neighbours, artifact_sha256: str, *, begun_at: float, wait_seconds: float) -> None:
        self._neighbours = neighbours
        self._artifact_sha256 = artifact_sha256
        self._wait_seconds = wait_seconds
        self._begun_at = self._given_at = begun_at
        self._peers: dict[str, _Peer] = {}
        self._told: set[str] = set()
        self._guard = threading.Lock()

    def get(self, chunk: Chunk, go_on: GoOn) -> bytes:
        """Return ``chunk``, proven, from whichever device gives it.

        Raises:
            ChunkAbsentError: None does, for as long as it may be waited for.
        """
        while True:
            go_on()
            for peer in self._awake():
                stored = self._ask(peer, chunk, go_on)
                if stored is not None:
                    self._given_at = time.monotonic()
                    return stored
            if not self._is_patient(time.monotonic()):
                raise ChunkAbsentError("no device of this site gives it")
            time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Let go of all connections."""
        for peer in self._peers.values():
            peer.source.close()

    def _is_patient(self, now: float) -> bool:
        if now - self._given_at < self._wait_seconds:
            return True
        return now - self._begun_at < BUSY_WAIT_SECONDS and any(peer.busy for peer in self._usable())

    def _usable(self) -> list[_Peer]:
        """Return those who have it, have not lied, and have not been given up since they are told of."""
        urls = self._neighbours.urls(self._artifact_sha256)
        with self._guard:
            for url in urls:
                if url not in self._peers:
                    source = HttpChunks(f"{url}/chunks/{{}}", silence_seconds=SILENCE_SECONDS, seconds=SECONDS)
                    self._peers[url] = _Peer(url, source)
                elif url not in self._told:
                    self._peers[url].failures = 0  # it was gone, and has come back
            self._told = set(urls)
            return [peer for url in urls if (peer := self._peers[url]).failures < FAILURES_MAX]

    def _awake(self) -> Iterator[_Peer]:
        """Yield those who may be asked now: who has given nothing yet, so that it is known, then the quickest."""
        peers = self._usable()
        random.shuffle(peers)  # so that not all devices ask the same one first
        if random.randrange(_CURIOUS_ONCE_IN):  # noqa: S311 - spreads, keeps no secret
            peers.sort(key=lambda peer: peer.seconds_per_byte or 0.0)
        for peer in peers:
            if peer.failures < FAILURES_MAX and peer.rests_until <= time.monotonic():
                yield peer

    def _ask(self, peer: _Peer, chunk: Chunk, go_on: GoOn) -> bytes | None:
        asked_at = time.monotonic()
        try:
            stored = peer.source.get(chunk, go_on)
            from_stored(stored, chunk)
        except ChunkBusyError:
            peer.is_busy()
        except (ChunkFalseError, DecodeError) as lie:
            self._neighbours.distrust(peer.url, str(lie))
        except (ChunkAbsentError, ChunkFailedError):
            peer.failures += 1
            peer.rest(FAILED_SECONDS * peer.failures)
        else:
            peer.gave(len(stored), time.monotonic() - asked_at)
            return stored
        return None

"""A device that asks over the bus, and whoever answers it; what is between them is a call."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.chunk_fetch import Receipt
from device_client.adapters.chunked import Chunked, registries_and
from device_client.adapters.pieces import Pieces
from device_client.adapters.slots import Slots
from device_client.adapters.transports import Transports
from device_client.adapters.trust import PinnedKeys
from device_client.core.effects import Source
from orchestrator.adapters.releases import BuiltRelease
from schemas.codec import decode, encode
from schemas.errors import DecodeError
from schemas.messages import PieceRefusal, PieceRequest
from schemas.pieces import MQTT_BASE, Piece, write_piece
from tests.device.chunk_world import HURRIED, both_published, source_of
from tests.device.device_driver import unpack_here
from tests.device.device_world import CHECK, RELEASE_KEY, public

Answer = Callable[[PieceRequest], Iterable[bytes]]
"""What somebody says to a device that asks."""


def honest(store: Path) -> Answer:
    """Answer with what a store has, as the wire contract says it."""

    def answer(asked: PieceRequest) -> list[bytes]:
        path = store / asked.folder / asked.sha256
        if not path.is_file():
            return [refusal(asked, "not_found")]
        data = path.read_bytes()
        part = data[asked.offset_bytes : asked.offset_bytes + asked.length_bytes]
        return [write_piece(Piece(asked.sha256, asked.offset_bytes, len(data), part))]

    return answer


def refusal(asked: PieceRequest, code: str, retry_after_seconds: float | None = None) -> bytes:
    return encode(
        PieceRefusal(
            code=code,
            sha256=asked.sha256,
            offset_bytes=asked.offset_bytes,
            retry_after_seconds=retry_after_seconds,
        )
    )


@dataclass
class Device:
    """A device that has no HTTP, and a store with two releases.

    Attributes:
        asked: How often each piece was asked for.
        undecodable: What it was told and could not read.
    """

    folder: Path
    answer: Answer | None = None
    asked: Counter[PieceRequest] = field(default_factory=Counter)
    undecodable: int = 0
    has_http: bool = False
    again_seconds: float = 0.05

    def __post_init__(self) -> None:
        self.store, self.built = both_published()
        self.slots = Slots(self.folder / "root")
        self.pieces = Pieces(random.Random(3), silence_seconds=1.0, again_seconds=self.again_seconds)
        self.pieces.ask_with(self._carry)
        self.pieces.set_session(is_there=True)
        self.answer = self.answer or honest(self.store)

    def source(self, version: str = "1.0.0", *urls: str) -> Source:
        return source_of(self.built[version], MQTT_BASE, *urls)

    def fetch(self, source: Source, is_cancelled: Callable[[], bool] = lambda: False) -> Receipt | None:
        self.artifacts = self._artifacts()
        return self.artifacts.fetch(source, is_cancelled, lambda _: None)

    def install(self, source: Source) -> Receipt | None:
        receipt = self.fetch(source)
        self.artifacts.verify(source)
        self.artifacts.install(source, "green", CHECK)
        self.slots.clear_staging()
        return receipt

    def holds(self, built: BuiltRelease) -> bool:
        """Say whether green is sealed and has the very files of a release."""
        manifest, folder = built.manifest, self.slots.folder("green")
        self.slots.check("green")
        return all((folder / entry.path).stat().st_size == entry.size_bytes for entry in manifest.files)

    def _artifacts(self) -> Artifacts:
        transports = Transports(self.has_http, self.pieces)
        chunked = Chunked(self.slots, registries_and(lambda _: (), transports), HURRIED)
        identity = Identity("aarch64", "pi4", PinnedKeys((public(RELEASE_KEY),)))
        return Artifacts(self.slots, identity, unpack_here, chunked, transports=transports)

    def _carry(self, question: bytes) -> None:
        asked = decode(PieceRequest, question)
        self.asked[asked] += 1
        assert self.answer is not None
        for payload in self.answer(asked):
            try:
                self.pieces.hear(payload)
            except DecodeError:  # as the bus does
                self.undecodable += 1


def at_first(times: int, badly: Answer, well: Answer) -> Answer:
    """Answer ``badly`` so often, and ``well`` from then on."""
    left = [times]

    def answer(asked: PieceRequest) -> Iterable[bytes]:
        if left[0]:
            left[0] -= 1
            return badly(asked)
        return well(asked)

    return answer

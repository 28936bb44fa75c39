"""What is normal, on disk beside the journal: after a restart a rollout need not wait a day for its baselines."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from orchestrator.adapters.caches import Cache
from orchestrator.telemetry.history import Interval

HISTORY_NAME: Final = "baselines.history"
WRITTEN_EACH_SECONDS: Final = 60.0
"""What a power cut can take of the history."""
_FORMAT: Final = 1

Histories = Mapping[str, Iterable[Interval]]

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(dict[str, tuple[Interval, ...]])


class KeptHistories:
    """The histories of one orchestrator's groups."""

    def __init__(self, path: Path) -> None:
        self._cache = Cache(path, "baselines are taken anew")

    def load(self) -> Histories:
        """Return what was kept; nothing if that cannot be used."""
        read = self._cache.read()
        if read is None:
            return {}
        about, data = read
        try:
            if about.get("format") == _FORMAT:
                return _DECODER.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._cache.refuse(error)
            return {}
        self._cache.refuse("another version's")
        return {}

    def write(self, histories: Histories) -> None:
        """Keep these; any thread may call it, and others get their turn between two groups."""
        groups = {group: msgspec.Raw(_ENCODER.encode(tuple(kept))) for group, kept in histories.items()}
        self._cache.write({"format": _FORMAT}, _ENCODER.encode(groups))

"""What an application pushes about itself: lines on a datagram socket, for those that serve no page of metrics.

``requests:1|c``, ``errors:1|c``, ``log_errors:1|c`` count; ``latency:12.5|ms`` is one request's; ``accuracy:0.93|g`` is
a measure of quality, the last of each name counts. A datagram holds one or more lines. What is no such line is counted,
said at most once a minute, and never an error.
"""

import logging
import math
import os
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from device_client.adapters.metrics import GAMMA, SKETCH_LENGTH_MAX
from schemas.messages import LatencySketch

SOCKET: Final = "metrics.sock"
DATAGRAM_BYTES_MAX: Final = 64 * 1024
LINES_MAX: Final = 1_000
QUALITIES_MAX: Final = 16
SILENCE_SECONDS: Final = 60.0
_LINE: Final = re.compile(r"([A-Za-z][A-Za-z0-9_.-]{0,63}):(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)\|(c|g|ms)")
_MS_MIN, _MS_MAX = 1e-3, 1e7
_TOTAL_MAX: Final = 2**53 - 1

_log = logging.getLogger(__name__)


@dataclass
class Totals:
    """Counters since the agent's start, the latencies since the last look, and the last measures of quality."""

    requests: int = 0
    errors: int = 0
    log_errors: int = 0
    malformed: int = 0
    has_requests: bool = False
    has_log_errors: bool = False
    quality: dict[str, float] = field(default_factory=dict)
    latencies: dict[int, int] = field(default_factory=dict)

    def take(self, line: str) -> bool:
        """Fold in a line and say whether it was one."""
        match = _LINE.fullmatch(line)
        if match is None:
            return False
        name, number, kind = match[1], float(match[2]), match[3]
        if kind == "c":
            return self._count(name, number)
        if kind == "g":
            is_known = name in self.quality or len(self.quality) < QUALITIES_MAX
            if is_known:
                self.quality[name] = number
            return is_known
        if name != "latency" or not 0 <= number <= _MS_MAX:
            return False
        index = math.ceil(math.log(max(number, _MS_MIN) / 1000, GAMMA) - 1e-9)
        self.latencies[index] = self.latencies.get(index, 0) + 1
        return True

    def sketch(self) -> LatencySketch | None:
        """Return the latencies since the last call; None if there were none."""
        counts, self.latencies = self.latencies, {}
        if not counts:
            return None
        offset = min(counts)
        length = min(max(counts) - offset + 1, SKETCH_LENGTH_MAX)
        return LatencySketch(
            gamma=GAMMA, offset=offset, counts=tuple(counts.get(offset + at, 0) for at in range(length))
        )

    def _count(self, name: str, number: float) -> bool:
        if number < 0 or not number.is_integer() or name not in ("requests", "errors", "log_errors"):
            return False
        setattr(self, name, min(_TOTAL_MAX, getattr(self, name) + int(number)))
        self.has_log_errors |= name == "log_errors"
        self.has_requests |= name != "log_errors"
        return True


class Pushed:
    """Listens, on a thread of its own.

    Args:
        path: Of the socket; one that was left there is replaced.
        mode: Its permission bits.
        owner: User id that it is given to; None is whom the agent runs as.
        clock: Seconds that never fall.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, path: Path, mode: int, owner: int | None, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said_at = -math.inf
        self._is_ended = False
        self._lock = threading.Lock()
        self._totals = Totals()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path.unlink(missing_ok=True)
        before = os.umask(0o777)  # nobody may write before it is whose it shall be
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(before)
        if owner is not None:
            os.chown(path, owner, -1)
        path.chmod(mode)
        self._path = path
        self._thread = threading.Thread(target=self._run, name="pushed", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def end(self) -> None:
        """Listen no more."""
        self._is_ended = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def read(self) -> tuple[Totals, LatencySketch | None]:
        """Return the totals as they are now, and the latencies since the last call."""
        with self._lock:
            sketch = self._totals.sketch()
            copied = Totals(**{**vars(self._totals), "quality": dict(self._totals.quality), "latencies": {}})
        return copied, sketch

    def _run(self) -> None:
        while not self._is_ended:
            lines = self._socket.recv(DATAGRAM_BYTES_MAX).decode(errors="replace").splitlines()
            with self._lock:
                bad = sum(not self._totals.take(line.strip()) for line in lines[:LINES_MAX]) + len(lines[LINES_MAX:])
                self._totals.malformed += bad
            if bad and self._clock() >= self._said_at + SILENCE_SECONDS:
                self._said_at = self._clock()
                _log.warning("metrics.malformed total=%d", self._totals.malformed)

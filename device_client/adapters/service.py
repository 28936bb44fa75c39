"""What the agent tells the system that runs it: ready, alive, ending.

systemd hears it on its datagram socket, the guardian by a heartbeat on disk. That nobody listens is no reason to end.

Source:
    sd_notify(3), sd_watchdog_enabled(3).
"""

import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from device_client.adapters.heartbeat import write_beat

BEAT_SECONDS: Final = 10.0
_BEATS_PER_WATCHDOG: Final = 3

_log = logging.getLogger(__name__)


class Service:
    """The agent as a service.

    Args:
        state: Where the heartbeat stands.
        boot_id: Of this boot.
        clock: Seconds on the boot clock.
        environment: What this process was started with; systemd's address and its watchdog's patience are in there.
    """

    def __init__(
        self, state: Path, boot_id: str, clock: Callable[[], float], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._state = state
        self._boot_id = boot_id
        self._clock = clock
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._beat_seconds = _beat_seconds(environment)
        self._beat_at: float | None = None
        self._status = ""

    def starting(self) -> None:
        """Say that there is an agent, which has yet to read its slots."""
        self._write_beat(is_starting=True)
        self._notify("STATUS=reading the slots")

    def ready(self) -> None:
        """Say that the agent has taken up its work."""
        self._notify("READY=1")

    def progressed(self, status: str) -> None:
        """Say that the agent's loop has gone round once, and where the device is; heard every few seconds only."""
        if status != self._status:
            self._status = status
            self._notify(f"STATUS={status}")
        now = self._clock()
        if self._beat_at is None or now >= self._beat_at + self._beat_seconds:
            self._beat_at = now
            self._write_beat(is_starting=False)
            self._notify("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the agent ends because it was told to."""
        self._notify("STOPPING=1")

    def _write_beat(self, *, is_starting: bool) -> None:
        try:
            write_beat(self._state, self._boot_id, self._clock(), is_starting=is_starting)
        except OSError as error:
            _log.warning("heartbeat.not_written reason=%s", error)

    def _notify(self, text: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0)  # a listener that does not listen must not hold us up
                sender.sendto(text.encode(), address)
        except OSError as error:
            _log.warning("service.not_heard reason=%s", error)


def _beat_seconds(environment: Mapping[str, str]) -> float:
    """Return the time between two beats: often enough for systemd's patience, if it has any."""
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or int(text) == 0:
        return BEAT_SECONDS
    return min(BEAT_SECONDS, int(text) / 1e6 / _BEATS_PER_WATCHDOG)

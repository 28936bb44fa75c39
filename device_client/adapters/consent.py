"""The consent of the person at the machine: a small file that the command line writes and the agent reads."""

import json
from pathlib import Path
from typing import Final

from device_client.adapters.durable import write_durably

CONSENT: Final = "consent.json"


class Consent:
    """Watches the file.

    Args:
        state: The folder in which it stands.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / CONSENT
        self._seen: tuple[int, int] | None = None

    def give(self, generation: int) -> None:
        """Write down that the order with this generation may be followed.

        Raises:
            OSError: It cannot be written.
        """
        write_durably(self._path, json.dumps({"generation": generation}).encode())

    def news(self) -> int | None:
        """Return the generation that was consented to since the last call, and with the first whenever that was."""
        try:
            status = self._path.stat()
            if (seen := (status.st_mtime_ns, status.st_ino)) == self._seen:
                return None
            self._seen = seen
            generation = json.loads(self._path.read_bytes())["generation"]
        except (OSError, ValueError, KeyError, TypeError):
            return None  # what cannot be read is no consent
        return generation if isinstance(generation, int) else None

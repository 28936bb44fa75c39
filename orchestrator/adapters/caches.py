"""Files that only save time: what is in one is used if it is whole, and done without if it is not."""

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path
from threading import Lock
from typing import Any

log = logging.getLogger(__name__)


class Cache:
    """One such file: a line of JSON that says what it is, and data.

    Args:
        path: Where it lies.
        loss: What its loss costs, for the log.
    """

    def __init__(self, path: Path, loss: str) -> None:
        self._path = path
        self._loss = loss
        self._writing = Lock()

    def read(self) -> tuple[dict[str, Any], bytes] | None:
        """Return what was written last; None if there is nothing, or not all of it."""
        try:
            head, _, data = self._path.read_bytes().partition(b"\n")
            about = json.loads(head)
            if about.pop("sha256") == hashlib.sha256(data).hexdigest():
                return about, data
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self.refuse(error)
            return None
        self.refuse("damaged")
        return None

    def refuse(self, why: object) -> None:
        """Say that what was read is not used."""
        log.warning("%s not used, %s: %s", self._path.name, self._loss, why)

    def write(self, about: dict[str, Any], data: bytes) -> None:
        """Put this in the place of what was there; if the disk refuses, what was there stays.

        Any thread may call it; one is written at a time.
        """
        head = json.dumps({**about, "sha256": hashlib.sha256(data).hexdigest()}).encode()
        new = self._path.with_suffix(".new")
        try:
            with self._writing, new.open("wb") as file:
                file.write(head + b"\n" + data)
                file.flush()
                os.fsync(file.fileno())
                new.replace(self._path)
        except OSError as error:
            log.warning("%s not written: %s", self._path.name, error)
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)

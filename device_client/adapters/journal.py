"""The record on disk: one document, replaced as a whole."""

import logging
from pathlib import Path

from pydantic import ValidationError

from device_client.adapters.durable import write_durably
from device_client.core.record import Record

_log = logging.getLogger(__name__)


class Journal:
    """Keeps the device's record.

    Args:
        path: Of the document; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Record:
        """Return what was remembered; the default if there is nothing.

        A damaged document is set aside, and the rest is recovered from the link and the markers.

        Raises:
            OSError: It is there and cannot be read.
        """
        try:
            return Record.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return Record()
        except ValidationError as error:
            kept = self._path.with_suffix(".corrupt")
            self._path.replace(kept)
            _log.error("record.damaged kept=%s errors=%d", kept, error.error_count())
            return Record()

    def save(self, record: Record) -> None:
        """Make ``record`` durable.

        Raises:
            OSError: It is not; the agent must not go on.
        """
        write_durably(self._path, record.model_dump_json().encode(), mode=0o600)

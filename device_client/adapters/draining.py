"""Asking an application to finish what it has begun and to begin nothing new, for a limited time.

Nothing here fails: what cannot be drained, or not in time, is stopped all the same.
"""

import http.client
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_client.adapters.commands import CommandError, run_command
from schemas.messages import SlotName

AGAIN: Final = 75
"""EX_TEMPFAIL of sysexits(3): a command says that it is to be run again."""
_POLL_SECONDS: Final = 0.2
_TIMEOUT_SECONDS: Final = 5.0
_BODY_BYTES_MAX: Final = 64 * 1024

_log = logging.getLogger(__name__)


class CannotDrainError(Exception):
    """The operator's fault: the application does not understand, or the command fails. There is nothing to wait for."""


@dataclass(frozen=True, slots=True)
class Draining:
    """How the application is drained.

    Attributes:
        path: Asked with POST on the application's port; ``in_flight`` in the answer says what is left.
        command: Run instead; 0: nothing is left, 75: run it again.
        grace_seconds: What the application has for it.
        log_path: Where the command's output goes.
    """

    path: str | None
    command: tuple[str, ...] | None
    grace_seconds: float
    log_path: Path

    def drain(self, slot: SlotName, port: int, is_cancelled: Callable[[], bool]) -> None:
        """Return when nothing is left to do for the application of ``slot``, or when its time is over."""
        deadline = time.monotonic() + self.grace_seconds
        while (left_seconds := deadline - time.monotonic()) > 0 and not is_cancelled():
            try:
                if self._is_done(slot, port, left_seconds, is_cancelled):
                    _log.info("drain.done slot=%s", slot)
                    return
            except CannotDrainError as error:
                _log.warning("drain.impossible slot=%s reason=%s", slot, error)
                return
            time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
        _log.warning("drain.unfinished slot=%s after_seconds=%g", slot, self.grace_seconds)

    def _is_done(self, slot: SlotName, port: int, left_seconds: float, is_cancelled: Callable[[], bool]) -> bool:
        if self.path is not None:
            return _in_flight(port, self.path, min(left_seconds, _TIMEOUT_SECONDS)) == 0
        assert self.command is not None, "it is drained in one of two ways"
        variables = {"TIDEGATE_SLOT": slot, "PORT": str(port)}
        try:
            code = run_command(
                self.command,
                left_seconds,
                folder=self.log_path.parent,
                log_path=self.log_path,
                variables=variables,
                is_cancelled=is_cancelled,
            )
        except CommandError as error:
            raise CannotDrainError(str(error)) from error
        if code not in (0, AGAIN):
            raise CannotDrainError(f"{self.command[0]} ended with {code}")
        return code == 0


def _in_flight(port: int, path: str, timeout_seconds: float) -> int | None:
    """Ask once, and return what the application still works on; None if it did not say."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.request("POST", path, headers={"Connection": "close", "Content-Length": "0"})
        response = connection.getresponse()
        status, body = response.status, response.read(_BODY_BYTES_MAX)
    except ConnectionRefusedError:
        return 0  # nobody listens, so there is nobody to wait for
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    if not 200 <= status < 300:  # noqa: PLR2004 - success, as HTTP has it
        raise CannotDrainError(f"POST {path} was answered with {status}")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    count = answer.get("in_flight") if isinstance(answer, dict) else None
    return count if isinstance(count, int) else None

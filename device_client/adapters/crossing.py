"""What clients notice of a change: where the router leads, whether a version answers, and how one is drained."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from device_client.adapters.failure import StepError
from device_client.adapters.health import probe
from device_client.adapters.router import Router, RouterError
from device_client.core.codes import ErrorCode
from device_client.core.record import SlotContent
from schemas.messages import SlotName

POLL_SECONDS: Final = 0.1
ANSWER_INTERVALS: Final = 2
ANSWER_SECONDS_MIN: Final = 15.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Public:
    """What clients see of a device with a router.

    Attributes:
        router: Leads them to a slot.
        port: Where they come.
    """

    router: Router
    port: int

    def lead_to(self, slot: SlotName, content: SlotContent, port: int, is_cancelled: Callable[[], bool]) -> None:
        """Lead clients to ``slot``, whose application listens on ``port``, and see that its version answers them.

        What answers is the truth: where a reload fails and clients reach the right version all the same, nothing is
        left to do.

        Raises:
            StepError: ``router_failed``.
        """
        failure = None
        try:
            self.router.lead_to(slot, content.version, port)
        except RouterError as error:
            failure = str(error)
        deadline = time.monotonic() + (0 if failure else self.router.timeout_seconds)
        while True:
            answer = probe(self.port, content.health_check)
            if answer.version == content.version:
                break
            if time.monotonic() >= deadline or is_cancelled():
                seen = f"answers as {answer.version}" if answer.version else "does not answer"
                raise StepError(
                    ErrorCode.ROUTER_FAILED, failure or f"public port {self.port} {seen}, not as {content.version}"
                )
            time.sleep(POLL_SECONDS)
        if failure:
            _log.warning("router.not_reloaded reason=%s", failure)


def await_answer(
    content: SlotContent, port: int, is_running: Callable[[], bool], is_cancelled: Callable[[], bool]
) -> str | None:
    """Wait for the first good answer of an application that was just started; return what is wrong, None if nothing."""
    check = content.health_check
    deadline = time.monotonic() + max(ANSWER_SECONDS_MIN, ANSWER_INTERVALS * check.interval_seconds)
    while time.monotonic() < deadline and not is_cancelled():
        answer = probe(port, check)
        if answer.ok:
            return None if answer.version == content.version else f"it says it is {answer.version}"
        if not is_running():
            return "it ended by itself"
        time.sleep(POLL_SECONDS)
    return "it did not say that it is well"

"""What every connection needs that should last: another attempt after each that was lost."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from orchestrator.adapters.broker_url import BrokerUnavailableError, BrokerUrl
from orchestrator.adapters.connection import Connection, DisconnectedError

log = logging.getLogger(__name__)

RETRY_SECONDS_MAX: Final = 30.0


def retry_seconds(attempt: int) -> float:
    """Return how long to wait before an attempt to connect again: longer each time, and never in step with others."""
    return min(RETRY_SECONDS_MAX, 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


async def keep_serving(
    broker: BrokerUrl,
    connect: Callable[[], Awaitable[Connection]],
    serve: Callable[[Connection], Awaitable[None]],
    has_begun: Callable[[], bool],
) -> NoReturn:
    """Connect and serve, and after each connection that is lost wait a while and do it again.

    Args:
        broker: For the error's text.
        connect: Makes a connection.
        serve: Serves on it until it is lost.
        has_begun: Whether a connection was ever good enough to serve on.

    Raises:
        BrokerUnavailableError: It was lost, or not made, before anything had begun.
    """
    attempt = 0
    while True:
        try:
            connection = await connect()
            attempt = 0
            await serve(connection)
        except DisconnectedError as error:
            if not has_begun():
                raise BrokerUnavailableError(f"{broker}: {error}; is the broker running?") from error
            delay = retry_seconds(attempt)
            log.warning("broker lost, next attempt in %.1f s: %s", delay, error)
            attempt += 1
            await asyncio.sleep(delay)


def log_refused(topic: str, reason: int) -> None:
    """Log a message that the broker did not take."""
    log.warning("the broker did not take a message topic=%r reason=%#x; may this user publish it?", topic, reason)

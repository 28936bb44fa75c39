"""What the shell may complete: it asks the broker that a command would ask."""

import asyncio
import os
from pathlib import Path
from typing import Final

from orchestrator.cli import bus
from orchestrator.cli.options import BROKER_VARIABLE, CLIENT_VARIABLE, DEFAULT_BROKER, broker_url, use_client
from schemas.errors import FleetError

_QUIET_SECONDS: Final = 0.5


def rollouts_of_the_broker() -> list[str]:
    """Return the names of the rollouts that it keeps; none when there is no broker."""
    try:
        if CLIENT_VARIABLE in os.environ:
            use_client(Path(os.environ[CLIENT_VARIABLE]))
        url = broker_url(os.environ.get(BROKER_VARIABLE, DEFAULT_BROKER))
        return sorted(asyncio.run(bus.find_rollouts(url, quiet_seconds=_QUIET_SECONDS)))
    except (FleetError, TimeoutError):
        return []

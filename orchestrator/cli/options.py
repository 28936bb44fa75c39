"""Options and arguments that the operator's commands share."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Final

import typer

from orchestrator.adapters.brokers import BrokerUrl
from orchestrator.cli import bus
from schemas.errors import FleetError

LOOK, DECIDE, ACCOUNT, SET_UP = "Look", "Decide", "Account", "Set up and run"
"""Panels of ``tidegate --help``."""
DEFAULT_BROKER: Final = "mqtt://127.0.0.1:1883"
BROKER_VARIABLE: Final = "TIDEGATE_BROKER"
_COMPLETION_SECONDS: Final = 0.5


def complete_rollouts(incomplete: str) -> list[str]:
    """Name the rollouts that a broker keeps, for the shell; silent when there is none."""
    try:
        url = BrokerUrl.parse(os.environ.get(BROKER_VARIABLE, DEFAULT_BROKER))
        found = asyncio.run(bus.find_rollouts(url, quiet_seconds=_COMPLETION_SECONDS))
    except (FleetError, TimeoutError):
        return []
    return sorted(name for name in found if name.startswith(incomplete))


BrokerOption = Annotated[
    str, typer.Option("--broker", envvar=BROKER_VARIABLE, help="mqtt://user:password@host:port, mqtts:// for TLS")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the audit.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the answer.")]
RolloutArgument = Annotated[
    str, typer.Argument(help="The rollout, for example r-042.", autocompletion=complete_rollouts, metavar="ROLLOUT")
]
PolicyArgument = Annotated[Path, typer.Argument(help="A policy file.", metavar="POLICY")]
ReleaseOption = Annotated[str, typer.Option("--release", help="A published release.")]
NameOption = Annotated[
    str | None, typer.Option("--rollout", help="Its name, from which the waves are drawn; the next number if omitted.")
]
ScaleOption = Annotated[float, typer.Option("--time-scale", help="Divide every duration of the policy by this.")]

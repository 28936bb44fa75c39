"""The router in front of the two slots: its configuration is written from a template, and it is told to read it.

Imports nothing but Python, since the guardian needs it too. The ``active`` link is the truth, and ``router.conf`` is
derived from it: doing this again is harmless, and it is done again after every start.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_client.adapters.commands import CommandError, run_command
from device_client.adapters.durable import write_durably
from device_client.adapters.layout import ROUTER, STATE

LOG: Final = "router.log"


class RouterError(Exception):
    """The router was not told, or did not want to hear. The text names file or command."""


@dataclass(frozen=True, slots=True)
class Router:
    """A device's router.

    Attributes:
        root: The device's folder, where ``router.conf`` stands.
        template: What ``router.conf`` is made from.
        reload: The command that has the router read it.
        timeout_seconds: What the command has.
    """

    root: Path
    template: Path
    reload: tuple[str, ...]
    timeout_seconds: float

    def lead_to(self, slot: str, version: str, port: int) -> None:
        """Write ``router.conf`` for ``slot``, durably, and reload the router.

        Raises:
            RouterError: One of the two failed; ``router.conf`` is the old one or the new one, never a part.
        """
        values = {"{slot}": slot, "{version}": version, "{port}": str(port)}
        try:
            text = self.template.read_text()
            for place, value in values.items():
                text = text.replace(place, value)
            write_durably(self.root / ROUTER, text.encode())
            code = run_command(
                self.reload, self.timeout_seconds, folder=self.root, log_path=self.root / STATE / LOG, variables={
                    "TIDEGATE_SLOT": slot, "TIDEGATE_VERSION": version, "PORT": str(port),
                },
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise RouterError(f"{ROUTER}: {error}") from error
        except CommandError as error:
            raise RouterError(f"reload: {error}") from error
        if code != 0:
            raise RouterError(f"reload: {self.reload[0]} ended with {code}; see {STATE}/{LOG}")

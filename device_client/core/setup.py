"""What a device has beside its two slots: the parts of its settings that rules look at. The default has nothing."""

from dataclasses import dataclass
from typing import Final

from device_client.core.events import Step
from schemas.manifest import NOARCH
from schemas.windows import MaintenanceWindow


@dataclass(frozen=True, slots=True)
class Setup:
    """How this device is equipped.

    Attributes:
        has_router: Clients come through a router, and each slot has a port of its own.
        drains: The application can be asked to finish what it has begun.
        hooks: Steps for which the operator has a command.
        needs_consent: Somebody at the device must agree before an install is activated.
        window: When an install may be activated.
        group: Of this device.
        arch: Of this device.
        media_wait_seconds: How long the bus must be away before an order on a medium takes the place of one that came
            from there.
    """

    has_router: bool = False
    drains: bool = False
    hooks: frozenset[Step] = frozenset()
    needs_consent: bool = False
    window: MaintenanceWindow | None = None
    group: str = ""
    arch: str = NOARCH
    media_wait_seconds: float = 600.0


BARE: Final = Setup()
"""Two slots and nothing else."""

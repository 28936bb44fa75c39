"""Orders that travel without a network: what lies on a medium, and the document that says what it is for.

A medium is a folder, laid out like the store that a registry serves, with the orders beside it::

    orders/<number>.json    orders, each in a signed envelope; written last, so half a copy holds none
    trust.json              the fleet's trust roots, if it has any, as they are told over the bus
    manifests/<sha256>      what the orders name: the signed manifests,
    chunks/<sha256>         the chunk lists and the chunks,
    artifacts/<sha256>      and the archives of releases without chunks
"""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.codec import Bounds
from schemas.ids import Id, Name, Sha256
from schemas.manifest import NOARCH
from schemas.messages import HealthCheck, Seconds, Strategy
from schemas.times import Timestamp

ORDERS: Final = "orders"
TRUST_FILE: Final = "trust.json"
ORDER: Final = Bounds(64 * 1024, text_length_max=64 * 1024)
"""One order."""
DEVICES_MAX: Final = 1000
"""So many devices an order may name; more of them are a group, or several orders."""


class _Signed(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class MediaTarget(_Signed):
    """What is ordered for one architecture."""

    arch: Name
    manifest_sha256: Sha256
    manifest_size_bytes: Annotated[int, Field(gt=0, lt=2**53)]
    artifact_sha256: Sha256
    artifact_size_bytes: Annotated[int, Field(gt=0, lt=2**53)]


class MediaOrder(_Signed):
    """An install that a command key has ordered beforehand. It is the permission too: nobody is asked again.

    Attributes:
        number: Grows with every order; a device follows none that is not above all that it took.
        made_at: By the clock of who made it: a clock that shows an earlier time is wrong.
        not_after: Until when it may be taken; None: as long as its number is above.
        devices: For whom it is,
        groups: and for whose groups. Neither is nobody.
        release: Name of the release.
        version: What its application reports.
        targets: What is installed, one for each architecture.
        strategy: How the device changes.
        health_check: How the application is asked for its health.
        min_ready_seconds: Continuous health it must show before it is committed.
        progress_deadline_seconds: What it has for that.
    """

    number: Annotated[int, Field(ge=1, lt=2**53)]
    made_at: Timestamp
    not_after: Timestamp | None
    devices: Annotated[tuple[Id, ...], Field(strict=False, max_length=DEVICES_MAX)]
    groups: Annotated[tuple[Id, ...], Field(strict=False, max_length=64)]
    release: Name
    version: Name
    targets: Annotated[tuple[MediaTarget, ...], Field(strict=False, min_length=1, max_length=16)]
    strategy: Strategy
    health_check: HealthCheck
    min_ready_seconds: Seconds
    progress_deadline_seconds: Seconds

    def is_for(self, device: str, group: str) -> bool:
        """Say whether a device of that group is meant."""
        return device in self.devices or group in self.groups

    def target_for(self, arch: str) -> MediaTarget | None:
        """Return what a device of that architecture installs; None if there is nothing for it."""
        found = {target.arch: target for target in self.targets}
        return found.get(arch) or found.get(NOARCH)


def order_name(number: int) -> str:
    """Return how the file of an order is called."""
    return f"{number}.json"

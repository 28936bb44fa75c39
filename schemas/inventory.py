"""What people declare about a device, beside what it says itself."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import Id
from schemas.messages import Label, Labels


class DeviceEntry(BaseModel):
    """One device of an inventory file; None leaves the device's own word."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", defer_build=True)

    device_type: Label | None = None
    arch: Label | None = None
    region: Label | None = None
    group: Id | None = None
    site: Label | None = None
    tags: Labels | None = None
    single_point_of_failure: bool | None = None
    maintenance: bool | None = None
    known_issues: Labels | None = None
    time_zone: Annotated[str, Field(max_length=64)] | None = None

"""Devices by a filter expression: for a policy's targets and for lists."""

from collections.abc import Callable

import numpy as np

from orchestrator.core.inventory import Device, Inventory
from orchestrator.core.members import Mask
from orchestrator.planning.columns import Column, mask
from schemas.filters import parse_filter
from schemas.messages import Info


def selected(devices: Inventory, expression: str) -> Mask:
    """Say for each device whether ``expression`` selects it.

    Raises:
        PolicyError: It does not parse; the author's fault.
    """
    return mask(parse_filter(expression), _columns(devices))


def _columns(devices: Inventory) -> dict[str, Column]:
    infos = devices.vocabularies["info"].values
    codes = devices.column(Device.info)

    def of_info(value: Callable[[Info], object]) -> Column:
        return Column(codes, [value(info) for info in infos])

    disk, places = np.unique(devices.column(Device.disk_free), return_inverse=True)
    quarantines = devices.vocabularies["quarantine"].values
    return {
        "device": Column(np.arange(len(devices), dtype=np.int32), devices.names),
        "type": of_info(lambda info: info.device_type),
        "arch": of_info(lambda info: info.arch),
        "region": of_info(lambda info: info.region),
        "group": of_info(lambda info: info.group),
        "site": of_info(lambda info: info.site),
        "tag": of_info(lambda info: info.tags),
        "signal": of_info(lambda info: info.signals),
        "maintenance": of_info(lambda info: info.maintenance),
        "single_point_of_failure": of_info(lambda info: info.single_point_of_failure),
        "version": Column(devices.column(Device.version), devices.vocabularies["version"].values),
        "quarantined": Column(devices.column(Device.quarantine), [bool(why) for why in quarantines]),
        "online": Column(devices.column(Device.is_online).astype(np.int32), [False, True]),
        "disk_free_bytes": Column(places.astype(np.int32), [None if np.isnan(it) else int(it) for it in disk]),
    }

"""Devices by a filter expression: for a policy's targets and for lists."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from orchestrator.core.inventory import Device, Inventory
from orchestrator.core.members import Mask
from schemas.filter_text import parse_filter
from schemas.filters import Comparison, evaluate
from schemas.messages import Info

OF_INFO: Final[Mapping[str, Callable[[Info], object]]] = {
    "type": lambda info: info.device_type,
    "arch": lambda info: info.arch,
    "region": lambda info: info.region,
    "group": lambda info: info.group,
    "site": lambda info: info.site,
    "tag": lambda info: info.tags,
    "signal": lambda info: info.signals,
    "known_issue": lambda info: info.known_issues,
    "maintenance": lambda info: info.maintenance,
    "single_point_of_failure": lambda info: info.single_point_of_failure,
}
"""Fields of filters that a birth document says, and an import may say otherwise."""
_Coded: TypeAlias = tuple[NDArray[Any], Sequence[object]]
"""For each device the place of its value, and each value once."""


def selected(devices: Inventory, expression: str) -> Mask:
    """Say for each device whether ``expression`` selects it; each distinct value is compared once.

    Raises:
        PolicyError: It does not parse; the author's fault.
    """

    def look(comparison: Comparison) -> tuple[Mask, Mask]:
        codes, values = _ASKED[comparison.field](devices)
        held = comparison.holds_for(values)
        return (
            np.array([each is True for each in held], dtype=np.bool_)[codes],
            np.array([each is False for each in held], dtype=np.bool_)[codes],
        )

    return evaluate(parse_filter(expression), look)[0]


def _of_info(value: Callable[[Info], object]) -> Callable[[Inventory], _Coded]:
    return lambda devices: (
        devices.column(Device.info),
        [value(info) for info in devices.vocabularies["info"].values],
    )


def _disk_free(devices: Inventory) -> _Coded:
    sizes, codes = np.unique(devices.column(Device.disk_free), return_inverse=True)
    return codes, [None if np.isnan(size) else size for size in sizes.tolist()]


_ASKED: Final[Mapping[str, Callable[[Inventory], _Coded]]] = {
    "device": lambda devices: (np.arange(len(devices)), devices.names),
    **{name: _of_info(said) for name, said in OF_INFO.items()},
    "version": lambda devices: (devices.column(Device.version), devices.vocabularies["version"].values),
    "quarantined": lambda devices: (
        devices.column(Device.quarantine),
        [bool(why) for why in devices.vocabularies["quarantine"].values],
    ),
    "online": lambda devices: (devices.column(Device.is_online).astype(np.intp), [False, True]),
    "disk_free_bytes": _disk_free,
}

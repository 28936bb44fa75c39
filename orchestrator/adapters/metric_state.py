"""The engine's state as metrics, read when somebody asks: columns are counted, nobody is looked at alone.

Labels come from small sets: groups, types and versions are the devices' own words, so the first of each have their
places and the rest are counted together.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from orchestrator.core.inventory import Device, Inventory
from orchestrator.service import Engine
from orchestrator.tally import OTHER
from orchestrator.version import VERSION

PAIRS_MAX: Final = 200
"""Pairs of a group and a type of devices that are counted apart."""
VERSIONS_MAX: Final = 20
UNKNOWN: Final = "unknown"
REASONS: Final = frozenset({
    "undecodable", "foreign_topic", "foreign_shard", "unknown_device", "flood", "retained_event", "unexpected_kind",
    "not_enrolled", "ready_without_order", "foreign_response_topic", "stale_lease",
})  # fmt: skip
"""Why messages are refused; an evaluator could name others."""
_STATES: Final = ("offline", "online", "sleeping", "quarantined")
_AT_ONCE: Final = 20_000
"""Kinds of devices that are learnt before it is the others' turn."""


class FleetMetrics:
    """The fleet and the process in numbers; mutable, because it remembers which kinds of devices it has seen.

    Args:
        engine: Whose state is read.
        is_connected: Whether the broker is there.
        tick_seconds: How often decisions by time should be taken.
        per_device: Name every device; as many series as there are devices.
    """

    def __init__(
        self, engine: Engine, is_connected: Callable[[], bool], *, tick_seconds: float, per_device: bool
    ) -> None:
        self._engine = engine
        self._is_connected = is_connected
        self._tick_seconds = tick_seconds
        self._per_device = per_device
        self._pairs: dict[tuple[str, str], int] = {(OTHER, OTHER): 0}
        self._pair_of_info = np.zeros(0, dtype=np.int32)

    async def learn(self) -> None:
        """Learn the kinds of devices that have come since, some at a time: each may be one of its kind."""
        infos = self._engine.state.devices.vocabularies["info"].values
        while len(self._pair_of_info) < len(infos):
            some = infos[len(self._pair_of_info) : len(self._pair_of_info) + _AT_ONCE]
            found = [self._pair(each.group, each.device_type) for each in some]
            self._pair_of_info = np.append(self._pair_of_info, np.array(found, dtype=np.int32))
            await asyncio.sleep(0)

    def collect(self, now: float) -> Iterator[Metric]:
        """Yield all families as they are now, after ``learn``."""
        state, tally = self._engine.state, self._engine.tally
        yield _gauge("build_info", "The version that runs.", 1, version=VERSION)
        yield _gauge("broker_connected", "Whether decisions can be sent to the broker now.", self._is_connected())
        yield _gauge(
            "fleet_frozen", "Whether nothing is decided, because too many fell silent at once.", state.frozen != ""
        )
        yield _gauge("fleet_held", "Whether the emergency brake is on.", state.is_held)
        yield _gauge("fleet_unread", "Whether a part of the fleet's health is read by nobody.", state.unread != "")
        yield _gauge(
            "reconcile_lag_seconds",
            "How late decisions by time were taken last, or how long they have been due.",
            self._lag_seconds(now),
        )
        yield self._devices(state.devices, now)
        yield self._versions(state.devices)
        if self._per_device:
            yield _every_device(state.devices)
        yield _counter(
            "messages_received", "Messages from the bus.", ["kind"], {(k,): n for k, n in tally.received.items()}
        )
        refused: dict[tuple[str, ...], int] = {}
        for (kind, reason), count in tally.refused.items():
            key = kind, reason if reason in REASONS else OTHER
            refused[key] = refused.get(key, 0) + count
        yield _counter("messages_invalid", "Messages that say nothing, and why.", ["kind", "reason"], refused)
        yield _counter(
            "commands", "Commands of people and tools, and what came of them.", ["verb", "status"], tally.answered
        )

    def _pair(self, group: str, device_type: str) -> int:
        number = self._pairs.get((group, device_type))
        if number is None:
            number = len(self._pairs) if len(self._pairs) <= PAIRS_MAX else 0
            if number:
                self._pairs[group, device_type] = number
        return number

    def _lag_seconds(self, now: float) -> float:
        tally = self._engine.tally
        if tally.ticked_at is None:
            return 0.0
        return max(0.0, max(tally.tick_gap_seconds, now - tally.ticked_at) - self._tick_seconds)

    def _devices(self, inventory: Inventory, now: float) -> Metric:
        family = GaugeMetricFamily(
            "tidegate_devices",
            "Devices by where they are; one in quarantine is counted as that alone.",
            labels=["group", "device_type", "state"],
        )
        online = inventory.column(Device.is_online)
        where = online.astype(np.int32)
        where[~online & (inventory.column(Device.sleeps_until) > now)] = _STATES.index("sleeping")
        where[inventory.column(Device.quarantine) != 0] = _STATES.index("quarantined")  # The empty text is the first.
        codes = inventory.column(Device.info)
        known = len(self._pair_of_info)
        pairs = np.where(codes < known, self._pair_of_info[np.minimum(codes, known - 1)], 0) if known else codes * 0
        counts = np.bincount(pairs * len(_STATES) + where, minlength=len(self._pairs) * len(_STATES))
        for (group, device_type), number in self._pairs.items():
            row = counts[number * len(_STATES) : (number + 1) * len(_STATES)].tolist()
            if any(row):
                for state, count in zip(_STATES, row, strict=True):
                    family.add_metric([group, device_type, state], count)
        return family

    def _versions(self, inventory: Inventory) -> Metric:
        family = GaugeMetricFamily(
            "tidegate_devices_running", "Devices by the version they say they run.", labels=["version"]
        )
        counts = np.bincount(inventory.column(Device.version))
        most = np.argsort(-counts, kind="stable")[:VERSIONS_MAX]
        values = inventory.vocabularies["version"].values
        shown = Counter({OTHER: int(counts.sum() - counts[most].sum())})
        for code in most.tolist():
            shown[values[code] or UNKNOWN] += int(counts[code])
        for version, count in shown.items():
            if count:
                family.add_metric([version], count)
        return family


def _every_device(inventory: Inventory) -> Metric:
    family = GaugeMetricFamily(
        "tidegate_device_version_info",
        "Each device with what it runs; only with --metrics-per-device.",
        labels=["device", "device_type", "region", "installed_version"],
    )
    infos, versions = inventory.vocabularies["info"].values, inventory.vocabularies["version"].values
    columns = inventory.column(Device.info).tolist(), inventory.column(Device.version).tolist()
    for name, info, version in zip(inventory.names, *columns, strict=True):
        family.add_metric([name, infos[info].device_type, infos[info].region, versions[version] or UNKNOWN], 1)
    return family


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(f"tidegate_{name}", text, labels=list(labels))
    family.add_metric(list(labels.values()), float(value))
    return family


def _counter(name: str, text: str, labels: Iterable[str], counts: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(f"tidegate_{name}", text, labels=list(labels))
    for key, count in counts.items():
        family.add_metric(list(key), count)
    return family

"""Measuring a device and its application: one sample at a time, and what cannot be measured stays unknown."""

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from device_client.adapters.hardware import Hardware
from device_client.adapters.hosting import Instance
from device_client.adapters.local_http import get
from device_client.adapters.metrics import Counters, Names, parse_metrics
from device_client.adapters.processes import Usage
from device_client.adapters.pushed import Pushed
from device_client.core.events import Probed
from schemas.messages import HealthSample

SCRAPE_SECONDS: Final = 5.0
SCRAPE_BYTES_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sources:
    """Where figures come from.

    Attributes:
        usage: Measures what runs.
        hardware: The device's sensors.
        names: Which of the application's metrics are ours.
        path: Of its page of metrics.
        port: Of that page; None is where it serves.
        pushed: What it pushes instead; None if it serves that page.
    """

    usage: Callable[[Instance], Usage | None]
    hardware: Hardware = field(default_factory=Hardware)
    names: Names = field(default_factory=Names)
    path: str = "/metrics"
    port: int | None = None
    pushed: Pushed | None = None


class Sampler:
    """Takes samples.

    Args:
        root: The folder whose disk is measured.
        boot_id: Stands in every sample.
        clock: Seconds that never fall.
        sources: Where figures come from.
        found: What ran already; what it counted before was an earlier agent's to tell.
    """

    def __init__(
        self,
        root: Path,
        boot_id: str,
        clock: Callable[[], float],
        sources: Sources,
        found: Collection[Instance] = (),
    ) -> None:
        self._root = root
        self._boot_id = boot_id
        self._clock = clock
        self._sources = sources
        self._started_at = clock()
        self._counters = Counters()
        self._counted: Instance | None = None
        self._known = {instance.slot: instance for instance in found}
        self._cpu: tuple[Instance, float, float] | None = None
        self._seq = 0

    def take(self, instance: Instance | None, port: int | None, last: Probed, restarts_total: int) -> HealthSample:
        """Measure.

        Args:
            instance: What runs; None while it waits for its next start.
            port: Where it serves; None if nothing is to serve.
            last: The last answer to a question for its health.
            restarts_total: How often it has ended by itself.
        """
        self._seq += 1
        now, hardware = self._clock(), self._sources.hardware
        usage = self._sources.usage(instance) if instance is not None else None
        return HealthSample(
            seq=self._seq,
            boot_id=self._boot_id,
            version=last.version,
            uptime_seconds=now - self._started_at,
            memory_bytes=usage.memory_bytes if usage is not None else None,
            cpu_ratio=self._cpu_ratio(instance, usage.cpu_seconds, now) if instance is not None and usage else None,
            disk_free_bytes=shutil.disk_usage(self._root).free,
            temperature_celsius=hardware.temperature_celsius(),
            throttle_events_total=hardware.throttle_events_total(),
            restarts_total=restarts_total,
            healthy=last.ok,
            endpoint_up=last.ok or last.version is not None,
            **(self._scrape(instance, port) if self._sources.pushed is None else self._collect(self._sources.pushed)),
        )

    def _scrape(self, instance: Instance | None, port: int | None) -> dict[str, Any]:
        """Return what the application's page of metrics says."""
        if port is None:
            return {}
        if self._counted != instance:
            self._turn_to(instance)
        body = get(self._sources.port or port, self._sources.path, SCRAPE_SECONDS, SCRAPE_BYTES_MAX)
        if body is None:
            return {}
        metrics = parse_metrics(body.decode(errors="replace"), self._sources.names)
        latency = self._counters.update(metrics)
        if metrics.requests is None:
            return {"latency": latency}
        totals = self._counters
        return {"requests_total": totals.requests_total, "errors_total": totals.errors_total, "latency": latency}

    def _turn_to(self, instance: Instance | None) -> None:
        """Count another application from now on: from zero, unless it was counted before."""
        self._counted = instance
        if instance is None:
            self._counters.forget()
        elif self._known.get(instance.slot) == instance:
            self._counters.join()
        else:
            self._known[instance.slot] = instance  # of each slot the last, since its others have ended
            self._counters.forget()

    def _collect(self, pushed: Pushed) -> dict[str, Any]:
        """Return what the application has pushed."""
        totals, latency = pushed.read()
        return {
            "requests_total": totals.requests if totals.has_requests else None,
            "errors_total": totals.errors if totals.has_requests else None,
            "log_errors_total": totals.log_errors if totals.has_log_errors else None,
            "latency": latency,
            "quality": totals.quality or None,
        }

    def _cpu_ratio(self, instance: Instance, cpu_seconds: float, now: float) -> float | None:
        """Return the share of one processor since the last sample of the same instance."""
        before, self._cpu = self._cpu, (instance, cpu_seconds, now)
        if before is None or before[0] != instance or now <= before[2]:
            return None
        return max(0.0, cpu_seconds - before[1]) / (now - before[2])

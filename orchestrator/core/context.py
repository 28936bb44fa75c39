"""What the core may look at beside its state: telemetry, and what the operator has put on the shelf."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.core.distribution import Caches, Limits
from orchestrator.core.enrolment import OPEN, Enrolment
from orchestrator.core.leases import Readers
from orchestrator.core.releases import StoredRelease
from orchestrator.telemetry.monitor import Monitor
from schemas.policy import Policy


@dataclass(frozen=True, slots=True)
class Context:
    """Evidence and materials for decisions.

    Attributes:
        monitor: The fleet's telemetry as folded so far.
        releases: Releases that may be rolled out, by name.
        policies: Policies that a command may name.
        registry_url: Where devices fetch from.
        enrolment: Which devices may introduce themselves.
        caches: Returns each site's caches as they are known now, or raises ``SitesError``.
        limits: Returns what each device of a site may take of its line, or raises ``SitesError``.
        readers: Returns who reads the fleet's health at a moment.
        traced: Spans of rollouts are sent somewhere, so orders shall name their trace.
    """

    monitor: Monitor
    releases: Mapping[str, StoredRelease]
    policies: Mapping[str, Policy]
    registry_url: str
    enrolment: Enrolment = OPEN
    caches: Callable[[], Caches] = dict
    limits: Callable[[], Limits] = dict
    readers: Callable[[float], Readers] = lambda _now: Readers()
    traced: bool = False

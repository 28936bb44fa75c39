"""Health with hysteresis: what a row of probes says.

One failure ends a run of successes, and so does silence: what nobody saw is neither continuous health nor continuous
illness. A device that was suspended for an hour with a failed probe before and after has been ill for a moment.
"""

from dataclasses import dataclass
from typing import Final

from schemas.messages import HealthCheck

REFERENCE_INTERVAL_SECONDS: Final = 30.0
CRASHES_MAX: Final = 3
CRASH_WINDOW_SECONDS: Final = 300.0
UNREACHABLE_SECONDS: Final = 120.0
"""The last three are for one probe in 30 s and scale with the interval."""
MISSED_PROBES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Health:
    """What the probes since the application's last planned start say.

    Attributes:
        successes: In a row, up to the last probe.
        failures: In a row, up to the last probe.
        well_since: First success of the present row.
        ill_since: First failure of the present row, since when it was watched without a gap.
        seen_at: The last probe.
        was_healthy: It has been healthy at least once.
    """

    successes: int = 0
    failures: int = 0
    well_since: float | None = None
    ill_since: float | None = None
    seen_at: float | None = None
    was_healthy: bool = False


def observe(health: Health, check: HealthCheck, now: float, *, ok: bool) -> Health:
    """Fold in one probe."""
    patience_seconds = MISSED_PROBES_MAX * (check.interval_seconds + check.timeout_seconds)
    was_watched = health.seen_at is not None and now - health.seen_at <= patience_seconds
    if not ok:
        ill_since = health.ill_since if was_watched else None
        return Health(
            failures=health.failures + 1,
            ill_since=now if ill_since is None else ill_since,
            seen_at=now,
            was_healthy=health.was_healthy,
        )
    unbroken = was_watched and health.well_since is not None
    successes = health.successes + 1 if unbroken else 1
    return Health(
        successes=successes,
        well_since=health.well_since if unbroken else now,
        seen_at=now,
        was_healthy=health.was_healthy or successes >= check.success_threshold,
    )


def interrupt(health: Health) -> Health:
    """Fold in an exit: the row of successes ends, and the next probe tells the rest."""
    return Health(
        failures=health.failures,
        ill_since=health.ill_since,
        seen_at=health.seen_at,
        was_healthy=health.was_healthy,
    )


def is_proven(health: Health, check: HealthCheck, min_ready_seconds: float) -> bool:
    """Say whether the last probe completed enough successes over enough time."""
    if health.well_since is None or health.seen_at is None:
        return False
    return health.successes >= check.success_threshold and health.seen_at - health.well_since >= min_ready_seconds


def has_relapsed(health: Health, check: HealthCheck) -> bool:
    """Say whether it was healthy and has failed too often in a row since."""
    return health.was_healthy and health.failures >= check.failure_threshold


def is_unreachable(health: Health, check: HealthCheck, now: float) -> bool:
    """Say whether it has failed for more than two minutes of its own time scale.

    Source:
        Reference, "Automatic Rollback Triggers": health_endpoint_down.
    """
    return health.ill_since is not None and now - health.ill_since > scaled(UNREACHABLE_SECONDS, check)


def is_crash_loop(exits: tuple[float, ...], check: HealthCheck, now: float) -> bool:
    """Say whether it ended more than three times in five minutes of its own time scale.

    Source:
        Reference, "Automatic Rollback Triggers": crash_loop.
    """
    window_seconds = scaled(CRASH_WINDOW_SECONDS, check)
    return sum(1 for at in exits if now - at <= window_seconds) > CRASHES_MAX


def scaled(seconds: float, check: HealthCheck) -> float:
    """Scale a duration that the reference gives for one probe in 30 s."""
    return seconds * check.interval_seconds / REFERENCE_INTERVAL_SECONDS

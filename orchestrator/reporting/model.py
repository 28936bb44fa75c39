"""The report of one rollout: everything that its HTML page, its JSON and its tables are made from.

As JSON it is stable: fields are added and never repurposed, moments are RFC 3339 in UTC, durations seconds, rates
fractions 0..1, ``null`` means unknown or not yet.

Source:
    Reference, "Rollout Completion" (deployment report with full audit trail) and "Fleet-wide Rollback" (incident).
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from schemas.documents import CheckResult
from schemas.times import format_timestamp, parse_timestamp
from schemas.verdicts import VerdictWord


def _moment(value: object) -> object:
    """Read RFC 3339 as well; milliseconds are all that is kept, so that JSON reads back as the same report."""
    moment = parse_timestamp(value) if isinstance(value, str) else value
    return round(moment, 3) if isinstance(moment, float | int) else moment


Moment = Annotated[float, BeforeValidator(_moment), PlainSerializer(format_timestamp, when_used="json")]
"""Seconds since the epoch; RFC 3339 in JSON."""

Activity = Literal["progressing", "soaking", "waiting", "rolling_back", "frozen"]
"""What a rollout's time is spent on; ``waiting`` is for a person, ``frozen`` for a fleet that has fallen silent."""

Progress = Literal[
    "pending", "ordered", "granted", "returning", "held", "proven", "committed", "failed", "returned", "stranded",
    "skipped",
]  # fmt: skip
"""Where a device is; ``stranded``: ordered back and could not, a person must look."""


ORIGINS: Final = ("slots", "peers", "cache", "registry", "mqtt")
"""Where a release can come from on its way to a device; ``slots``: it had that already."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True)


class Durations(_Part):
    """Where the time went, in seconds."""

    total_seconds: float
    progressing_seconds: float
    soaking_seconds: float
    waiting_seconds: float
    rolling_back_seconds: float
    frozen_seconds: float


class Header(_Part):
    """What is asked first.

    Attributes:
        outcome: ``completed``, ``rolled_back`` and so on, or the phase it is in.
        verdict: The same in one or two plain sentences.
        from_versions: What the devices ran when they were ordered, with how many did.
        counts: Devices by progress.
        failed_ever: Devices that count as failed, whatever they run by now.
        unread: Entries that this version could not understand; they stand in the audit, and the rest may lack them.
        restarts: How often an orchestrator took over while it ran.
        fetched: Bytes by origin, of the devices that committed or fetched ahead of their wave and said it.
        activated_at: When a staged rollout was let begin, and by whom; None and empty for others.
        staged: Devices that had the release ready then, or have it so far; None where nothing was staged.
        warnings: What the plan and the lint said before the start, where it was journaled.
    """

    rollout: str
    release: str
    version: str
    from_versions: Mapping[str, int]
    outcome: str
    verdict: str
    started_at: Moment
    started_by: str
    started_reason: str
    ended_at: Moment | None
    ended_by: str
    ended_reason: str
    generated_at: Moment
    durations: Durations
    targets: int
    counts: Mapping[str, int]
    failed_ever: int
    plan_digest: str
    policy_digest: str
    baselines_digest: str
    seed: int | None
    restarts: int
    unread: int
    warnings: tuple[str, ...] = ()
    fetched: Mapping[str, int] = {}
    activated_at: Moment | None = None
    activated_by: str = ""
    staged: int | None = None


class Span(_Part):
    """A stretch of time that was spent on one thing; ``phase`` says it more precisely than ``activity``."""

    activity: Activity
    phase: str
    wave: int
    start: Moment
    end: Moment


class Wave(_Part):
    """One wave; number 0 is the canary. ``ended_at`` is when the next began or the rollout stopped or ended."""

    number: int
    name: str
    devices: int
    started_at: Moment | None
    soak_started_at: Moment | None
    ended_at: Moment | None
    soaked_seconds: float
    extensions: int
    counts: Mapping[str, int]
    failed_ever: int
    fetched: Mapping[str, int] = {}


class Evaluation(_Part):
    """A gate's verdict that changed or was acted upon, with its checks: observed, baseline, limit, samples, why."""

    seq: int
    at: Moment
    wave: int
    gate: str
    phase: str | None
    verdict: VerdictWord
    decision: str
    devices: int
    checks: tuple[CheckResult, ...]


class Point(_Part):
    """One evaluation of one check."""

    at: Moment
    wave: int
    observed: float | None
    baseline: float | None
    limit: float | None
    samples: int
    verdict: VerdictWord


class Series(_Part):
    """A check over all its evaluations, for plotting; of a trigger only what it fired on is known."""

    check: str
    limit_expr: str
    points: tuple[Point, ...]


class Decision(_Part):
    """A command of a person or a tool, and what came of it."""

    seq: int
    at: Moment
    actor: str
    verb: str
    subject: str
    status: str
    code: str
    reason: str


class Approval(_Part):
    """A person's approval after a wave, bound to the plan."""

    seq: int
    at: Moment
    wave: int
    by: str
    reason: str
    plan_digest: str


class Stop(_Part):
    """The system halted the rollout for a person."""

    seq: int
    at: Moment
    wave: int
    reason: str


class Verification(_Part):
    """What the devices that went back showed afterwards."""

    at: Moment
    scope: str
    verdict: str
    healthy: int
    not_healthy: tuple[str, ...]
    not_back: tuple[str, ...]
    checks: tuple[CheckResult, ...]


class Rollback(_Part):
    """Devices that were ordered back, why, and how far that came.

    Attributes:
        devices: Those that ran the new version, or might have, and were ordered back.
        ordered_at: When the last device's desired state was written.
        back: How many have said that they run what they ran before.
        last_back_at: When the last of them said so.
        not_back: The others, by name.
    """

    seq: int
    at: Moment
    wave: int
    scope: str
    trigger: str
    action: str
    by: str
    reason: str
    devices: tuple[str, ...]
    evidence: tuple[CheckResult, ...]
    ordered_at: Moment | None
    back: int
    last_back_at: Moment | None
    not_back: tuple[str, ...]
    verification: Verification | None


class DeviceRow(_Part):
    """One target of the rollout.

    Attributes:
        to_version: What it runs now, as far as it said.
        install_seconds: From the last grant to the commit.
        failed: It counts as failed, whatever it runs by now.
        staged_at: When it had the release ready that it was ordered ahead of its wave.
        attempts: Orders to install it was given, but for those ahead of its wave.
        quarantine: Why it is kept out of waves; empty if it is not.
        media: What it took from media, beside all rollouts; empty if nothing.
    """

    device: str
    device_type: str = ""
    region: str = ""
    group: str = ""
    wave: int
    progress: Progress
    from_version: str | None = None
    to_version: str | None = None
    staged_at: Moment | None = None
    ordered_at: Moment | None = None
    granted_at: Moment | None = None
    committed_at: Moment | None = None
    failed_at: Moment | None = None
    returned_at: Moment | None = None
    install_seconds: float | None = None
    failed: bool = False
    excused: bool = False
    attempts: int = 0
    code: str = ""
    message: str = ""
    quarantine: str = ""
    media: str = ""
    from_slots_bytes: int | None = None
    from_peers_bytes: int | None = None
    from_cache_bytes: int | None = None
    from_registry_bytes: int | None = None
    from_mqtt_bytes: int | None = None


class Excluded(_Part):
    """Devices that the plan left out, by reason."""

    reason: str
    devices: tuple[str, ...]


class BaselineRow(_Part):
    """A group's normal operation, frozen before the first order."""

    group: str
    error_rate: float | None = None
    latency_p50_seconds: float | None = None
    latency_p95_seconds: float | None = None
    latency_p99_seconds: float | None = None
    request_count: int | None = None
    sample_count: int | None = None
    device_count: int | None = None
    window_seconds: float | None = None


class AuditRow(_Part):
    """One journal entry about the rollout or one of its devices; ``hash`` chains it to all before.

    Attributes:
        actor: The person, tool or device that it comes from; ``orchestrator`` for its own decisions.
        outcome: One word of what came of it, where there is one.
        text: The entry in plain words, or the beginning of its body where this version does not know the kind.
    """

    seq: int
    at: Moment
    kind: str
    actor: str
    device: str
    outcome: str
    text: str
    hash: str


class Report(_Part):
    """Everything the journal says about one rollout."""

    format: Literal["tidegate-report/1"] = "tidegate-report/1"
    header: Header
    waves: tuple[Wave, ...]
    spans: tuple[Span, ...]
    evaluations: tuple[Evaluation, ...]
    series: tuple[Series, ...]
    decisions: tuple[Decision, ...]
    approvals: tuple[Approval, ...]
    stops: tuple[Stop, ...]
    rollbacks: tuple[Rollback, ...]
    devices: tuple[DeviceRow, ...]
    excluded: tuple[Excluded, ...]
    baselines: tuple[BaselineRow, ...]
    policy: Annotated[Mapping[str, object], Field(description="As it was frozen with the start.")]
    audit: tuple[AuditRow, ...]

    def wave_name(self, number: int) -> str:
        """Return the name of a wave; a number that the plan does not have is shown as it is."""
        return self.waves[number].name if 0 <= number < len(self.waves) else f"wave {number}"

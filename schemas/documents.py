"""What the orchestrator says of rollouts, groups and itself, and which kind holds which document.

The rules are those of ``schemas.messages``, where what devices say and hear stands: a device need not hold the others.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from schemas.ids import SHARD_COUNT, Id, Name, Sha256
from schemas.messages import (
    Count,
    Desired,
    DeviceEvent,
    HealthSample,
    Hold,
    Info,
    Label,
    Labels,
    Message,
    PeersDocument,
    PieceRequest,
    Ready,
    Reported,
    Seconds,
    Sync,
    Text,
    TrustDocument,
)
from schemas.times import Timestamp
from schemas.topics import Kind
from schemas.verdicts import VerdictWord


class CheckResult(Message):
    """One check of a gate with the numbers behind its verdict."""

    check: Label
    limit_expr: Label
    observed: float | None
    baseline: float | None
    limit: float | None
    samples: Count
    verdict: VerdictWord
    why: Text
    dry_run: Annotated[bool, Field(exclude_if=lambda dry_run: not dry_run)] = False
    """It is only shown; the gate's verdict is that of the others. Written only where it is so."""


class GateResult(Message):
    """A gate's verdict: the worst of its checks without the dry runs. What the rollout does stands in ``decision``."""

    gate: Id
    verdict: VerdictWord
    decision: Id
    evaluated_at: Timestamp
    devices: Count
    checks: Annotated[tuple[CheckResult, ...], Field(strict=False)]
    phase: Id | None = None
    """Of the canary's watch: ``immediate``, ``short_term`` or ``soak``; None for the gate itself."""
    not_judged: Labels = ()
    """Checks of that phase that have nothing to look at on these devices, each with the reason."""


class RolloutEvent(Message):
    """A fact about a rollout; the kind stands in the topic, the rest depends on it."""

    rollout: Id
    wave: Id | None = None
    device: Id | None = None
    message: Text = ""
    detail: Mapping[str, Any] = {}
    ts: Timestamp


class RollbackOrder(Message):
    """An evaluator's or a person's order to go back, with its evidence; the scope stands in the topic."""

    trigger: Label
    scope: Literal["device", "wave", "fleet"]
    action: Id
    devices: Annotated[tuple[Id, ...], Field(strict=False)]
    device_count: Count
    evidence: Annotated[tuple[CheckResult, ...], Field(strict=False)] = ()
    ts: Timestamp


class HealthSummary(Message):
    """How devices that belong together were over the last five minutes, for people; None: not known.

    Its numbers have no bounds: they are sums of what devices say, and nothing is judged by them.

    Attributes:
        fresh: Devices with a fresh sample.
        healthy: Of these, how many are healthy.
    """

    fresh: int
    healthy: int
    requests: int
    error_rate: float | None = None
    latency_p50_seconds: float | None = None
    latency_p95_seconds: float | None = None
    latency_p99_seconds: float | None = None


class GroupSummary(HealthSummary):
    """One group, on whatever versions its devices run."""

    group: Id
    devices: int


class WaveDocument(Message):
    """The wave command and where its members are.

    Attributes:
        health: How those of its devices are that run the new version; None while nothing is known of them, and once
            the rollout has ended.
    """

    rollout: Id
    wave: Id
    release: Name
    version: Name
    device_count: Count
    members: Annotated[tuple[Id, ...], Field(strict=False)] | None
    members_sha256: Sha256
    state: Id
    counts: Mapping[str, int]
    started_at: Timestamp | None = None
    health: HealthSummary | None = None


class WaveStatus(Message):
    """Where one wave is, in numbers.

    Attributes:
        done: Members that run the new version in proven health.
        healthy: Those of them whose last fresh sample says so; the others are unknown or not healthy.
        offline: Members that are not connected and have not been updated; they are queued.
        state: ``waiting``, ``done``, or the rollout's phase while it is the current wave.
        gate: The last verdict of the wave's gate.
    """

    wave: Id
    devices: Count
    done: Count
    healthy: Count
    failed: Count
    offline: Count
    state: Id
    soaked_seconds: Seconds
    soak_required_seconds: Seconds
    gate: VerdictWord | None = None


class StagingStatus(Message):
    """How far members are that were ordered ahead of their wave: to fetch and install, and to activate nothing.

    Attributes:
        devices: Have it verified in standby, and their wave is not open.
        of: All whose wave is not open and that no person left out.
        fetched_bytes: What the first have fetched for it over the network, as far as they said.
        activates_at: From when on the canary may begin; None: when a person says so, or it has begun.
    """

    devices: Count
    of: Count
    fetched_bytes: Count
    activates_at: Timestamp | None = None


class StatusDocument(Message):
    """Where a rollout is, why, and what may be commanded now."""

    rollout: Id
    release: Name
    version: Name
    phase: Id
    wave: Id | None
    paused: bool
    counts: Mapping[str, int]
    reasons: Labels
    allowed: Labels
    next_decision_at: Timestamp | None = None
    started_at: Timestamp
    started_by: Id
    ts: Timestamp
    ended_at: Timestamp | None = None
    plan_digest: Sha256 | None = None
    from_versions: Mapping[str, int] = {}
    """What the targets ran when they were ordered, with how many did."""
    waves: Annotated[tuple[WaveStatus, ...], Field(strict=False)] = ()
    frozen: bool = False
    """The orchestrator suspects itself or the broker and decides nothing."""
    staged: Annotated[StagingStatus | None, Field(exclude_if=lambda staged: staged is None)] = None
    """Written only where members are ordered ahead of their waves."""
    blocking_devices: Annotated[Count, Field(exclude_if=lambda count: count == 0)] = 0
    """Devices not seen to be healthy for which healthy ones wait, by ``min_available``; written only where they do."""


class ShardLease(Message):
    """The shards that one evaluator reads for now, and under which term it says so."""

    term: Label
    shards: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=SHARD_COUNT)], ...], Field(max_length=SHARD_COUNT, strict=False)
    ]


class OrchestratorInfo(Message):
    """Who orchestrates, and the public keys it signs with (raw Ed25519, hex)."""

    version: Label
    started_at: Timestamp
    epoch: Count
    command_keys: Labels
    release_keys: Labels
    root_version: Count | None = None
    journal_entries: Count | None = None
    """How many entries the journal had when this was said; with the hash of the last it shows a journal that was put
    back from a backup."""
    journal_head: Sha256 | None = None


class ReplyError(Message):
    """What was wrong with a command and what to do about it."""

    code: Literal[
        "invalid_payload", "unknown_command", "not_found", "not_allowed", "four_eyes", "wrong_phase", "conflict",
        "expired", "retained_command", "lint_failed", "busy", "internal",
    ]  # fmt: skip
    message: Text
    field: Label | None = None
    allowed: Labels | None = None
    phase: Label | None = None
    did_you_mean: Labels | None = None


class Reply(Message):
    """The answer to one command."""

    status: Literal["ok", "error"]
    data: Mapping[str, Any] | None = None
    error: ReplyError | None = None
    transaction: Label | None = None


class AuditRecord(Message):
    """One journal entry as it is published: each holds the hash of the one before."""

    seq: Count
    at: Timestamp
    epoch: Count
    kind: Label
    body: Mapping[str, Any]
    previous_hash: Sha256
    hash: Sha256


MODELS: Final[Mapping[Kind, type[Message]]] = {
    Kind.INFO: Info,
    Kind.DESIRED: Desired,
    Kind.REPORTED: Reported,
    Kind.READY: Ready,
    Kind.DEVICE_EVENT: DeviceEvent,
    Kind.FETCH: PieceRequest,
    Kind.HEALTH: HealthSample,
    Kind.GROUP_SUMMARY: GroupSummary,
    Kind.HOLD: Hold,
    Kind.SYNC: Sync,
    Kind.TRUST: TrustDocument,
    Kind.PEERS: PeersDocument,
    Kind.STATUS: StatusDocument,
    Kind.WAVE: WaveDocument,
    Kind.GATE: GateResult,
    Kind.ROLLBACK: RollbackOrder,
    Kind.ROLLOUT_EVENT: RolloutEvent,
    Kind.REPLY: Reply,
    Kind.ORCHESTRATOR_INFO: OrchestratorInfo,
    Kind.EVALUATOR_LEASE: ShardLease,
    Kind.AUDIT: AuditRecord,
}
"""What each kind's payload is, for the kinds whose payload is one document.

Availability is the plain text ``online`` or ``offline``; a grant is a DSSE envelope around ``Grant``; a command's
payload depends on its verb; a piece is binary, or a ``PieceRefusal`` (``schemas.pieces``); a plan is the accepted
policy with its waves; what evaluators hand on is packed in columns, see ``orchestrator.telemetry.bundle``.
"""

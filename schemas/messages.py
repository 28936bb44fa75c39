"""Every message of the wire contract, one model each.

Fields may be added and are never repurposed; receivers ignore what they do not know; ``null`` means unknown. Numbers
are strict (no text for a number, no NaN), names end in their unit, times are RFC 3339 for people, because the
receiver's clock judges. What is signed refuses unknown fields instead.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import SHARD_COUNT, Id, Name, Nonce, Sha256
from schemas.peers import PEERS_MAX
from schemas.times import Timestamp
from schemas.topics import Kind
from schemas.verdicts import VerdictWord
from schemas.windows import WallTime

Count = Annotated[int, Field(ge=0, lt=2**53)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Text = Annotated[str, Field(max_length=1024)]
Label = Annotated[str, Field(max_length=128)]
Labels = Annotated[tuple[Label, ...], Field(strict=False, max_length=64)]
Shard = Annotated[int, Field(ge=0, lt=SHARD_COUNT)]
Url = Annotated[str, Field(max_length=2048)]
PIECE_BYTES_MAX: Final = 32 * 1024
"""Of one piece over the bus; with its head it stays far below what any broker takes."""
BYTES_PER_SECOND_MIN: Final = 16 * 1024
"""A device that may take less would be taken for one that hangs."""
BootId = Annotated[str, Field(min_length=1, max_length=64)]
Traceparent = Annotated[Label | None, Field(exclude_if=lambda traceparent: traceparent is None)]
"""W3C Trace Context, written only where there is one. Nobody checks more than its length: it costs no order."""

Action = Literal["install", "rollback", "hold"]
Strategy = Literal["blue_green", "rolling"]
CommitOn = Literal["local_health", "round_trip", "gate"]
Step = Literal["activate", "commit"]
SlotName = Literal["blue", "green"]
PieceFolder = Literal["manifests", "artifacts", "chunks"]
DeviceState = Literal[
    "idle", "waiting", "downloading", "verifying", "installing", "ready", "draining", "switching", "trial",
    "rolling_back", "rolled_back", "failed",
]  # fmt: skip


class Message(BaseModel):
    """Ground rules of everything on the bus.

    Validators are built when they are first needed: a device never needs most of them, and they would be held.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True)


class Info(Message):
    """Birth document, published on every connect and on ``all/sync``."""

    session: Count
    boot_id: BootId
    agent: Label
    device_type: Label
    arch: Label
    region: Label
    group: Id
    site: Label | None = None
    slots: Labels = ("blue", "green")
    strategies: Labels = ("blue_green",)
    encodings: Labels = ("json", "msgpack")
    formats: Labels = ()
    """Of archives that it can unpack; none means that it does not say."""
    transports: Annotated[Labels, Field(exclude_if=lambda transports: not transports)] = ()
    """How it can fetch: ``http``, ``mqtt``. None means that it does not say, which is taken for HTTP alone."""
    disk_free_bytes: Count | None = None
    memory_total_bytes: Count | None = None
    tags: Labels = ()
    single_point_of_failure: bool = False
    maintenance: bool = False
    known_issues: Labels = ()
    signals: Labels = ()
    version: Name | None = None
    peer_url: Url | None = None
    sleeping_until: Timestamp | None = None
    time_zone: Label | None = None
    """IANA name, for maintenance windows in local time."""
    root_version: Count | None = None
    """Of the trust root that it follows."""
    ts: Timestamp | None = None


class ManifestRef(Message):
    """Where the signed manifest is, and its digest."""

    sha256: Sha256
    size_bytes: Count
    urls: Annotated[tuple[Url, ...], Field(strict=False, max_length=16)]


class PeersRef(Message):
    """That devices of the same site give each other this artifact's chunks, and how one that fetches it goes about it.

    Attributes:
        key: Where they are told: the last level of ``all/peers/{key}``.
        rank: How many of the artifact's ``sources`` are asked before them.
        wait_seconds: How long somebody waits for one that has it; 0 for those who are to have it first.
    """

    key: Id
    rank: Annotated[int, Field(ge=0, le=16)] = 0
    wait_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0


class FetchWindow(Message):
    """Hours of each day in which artifact bytes may be fetched, by the clock on the wall.

    Attributes:
        end: From then on none are; before ``start``, it is of the next day.
        time_zone: IANA name.
    """

    start: WallTime
    end: WallTime
    time_zone: Label = "UTC"


class FetchLimits(Message):
    """What one device may take of its site's line.

    Attributes:
        bytes_per_second: On average; None: all that it gets.
        window: None: at any time. A device whose clock is not to be believed fetches at any time as well.
    """

    bytes_per_second: Annotated[int, Field(ge=BYTES_PER_SECOND_MIN, lt=2**53)] | None = None
    window: FetchWindow | None = None


class ArtifactRef(Message):
    """Where the archive is, and its digest; the signed manifest says the same and wins."""

    sha256: Sha256
    size_bytes: Count
    arch: Label
    sources: Annotated[tuple[Url, ...], Field(strict=False, max_length=16)]
    peers: Annotated[PeersRef | None, Field(exclude_if=lambda peers: peers is None)] = None
    """Written only where there are any."""
    limits: Annotated[FetchLimits | None, Field(exclude_if=lambda limits: limits is None)] = None
    """Written only where there are any; an agent that does not know them fetches as it always did."""


class HealthCheck(Message):
    """How a device asks its application for its health."""

    path: Annotated[str, Field(pattern="^/[!-~]{0,255}$")] = "/health"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    interval_seconds: Annotated[float, Field(gt=0, le=86400)] = 30.0
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    success_threshold: Annotated[int, Field(ge=1, le=1000)] = 3
    failure_threshold: Annotated[int, Field(ge=1, le=1000)] = 3


class Fallback(Message):
    """What the device ran before, as far as the orchestrator knows."""

    version: Name
    sha256: Sha256 | None = None


class Desired(Message):
    """What one device shall run. The generation only grows; a lower one changes nothing."""

    generation: Count
    epoch: Count
    rollout: Id
    wave: Id
    action: Action
    release: Name
    version: Name
    strategy: Strategy = "blue_green"
    manifest: ManifestRef | None = None
    artifact: ArtifactRef | None = None
    health_check: HealthCheck = HealthCheck()
    min_ready_seconds: Seconds = 60.0
    progress_deadline_seconds: Seconds = 300.0
    commit_on: CommitOn = "round_trip"
    not_before: Timestamp | None = None
    not_after: Timestamp | None = None
    fallback: Fallback | None = None
    traceparent: Traceparent = None
    """The wave's span, for whoever adds spans of his own; its trace is that of the rollout."""


class ErrorReport(Message):
    """Why a device is where it is."""

    code: Id
    step: Id
    message: Text
    retryable: bool = False


class Fetched(Message):
    """What the fetch of an order took, in bytes; of one that was interrupted, what the attempt took that completed it.

    Attributes:
        slots: Of the release, were in a slot already.
        peers: Came from devices of the same site.
        sources: Came from each of the order's ``sources``, in their order.
    """

    slots: Count = 0
    peers: Count = 0
    sources: Annotated[tuple[Count, ...], Field(strict=False, max_length=16)] = ()


class MediaRefusal(Message):
    """An order on a medium that a device did not take, and why.

    Attributes:
        order: Its number; None where nobody knows, because its signature is no good.
        code: As of an error.
        message: For people.
    """

    order: Count | None = None
    code: Id
    message: Text = ""


class MediaReport(Message):
    """What a device took from media, and what it did not take.

    Attributes:
        order: Number of the order at hand, which came from a medium: the rest of the report is about it. None where the
            order at hand came over the bus.
        refused: The last that was refused.
    """

    order: Count | None = None
    refused: MediaRefusal | None = None


class Reported(Message):
    """What a device runs and where it is in the generation it has observed."""

    observed_generation: Count
    seq: Count
    state: DeviceState
    installed_version: Name | None = None
    latest_version: Name | None = None
    in_progress: bool = False
    update_percentage: Annotated[float, Field(ge=0, le=100)] | None = None
    slot: SlotName | None = None
    previous_version: Name | None = None
    boot_id: BootId
    error: ErrorReport | None = None
    fetched: Annotated[Fetched | None, Field(exclude_if=lambda fetched: fetched is None)] = None
    """For the order at hand, once it is fetched; written only then."""
    media: Annotated[MediaReport | None, Field(exclude_if=lambda media: media is None)] = None
    """Written only where there was a medium with an order."""
    traceparent: Traceparent = None
    """That of the order at hand."""
    ts: Timestamp | None = None


class Ready(Message):
    """A device asks: may I take this step? The nonce is fresh for every request and used once."""

    generation: Count
    step: Step
    nonce: Nonce
    manifest_sha256: Sha256 | None = None


class PieceRequest(Message):
    """A device asks for a piece of something that is addressed by its digest, as it lies in a store.

    Attributes:
        folder: Where it lies, below a registry as below a store.
        length_bytes: Of the piece, at most; only the end of the whole gives fewer.
    """

    folder: PieceFolder
    sha256: Sha256
    offset_bytes: Count = 0
    length_bytes: Annotated[int, Field(ge=1, le=PIECE_BYTES_MAX)] = PIECE_BYTES_MAX


class PieceRefusal(Message):
    """Why a piece is not given.

    Attributes:
        code: ``not_found``, ``busy``, ``out_of_range``, ``invalid_payload`` or ``internal``.
        sha256: As asked; None where the request could not be read, and so for ``offset_bytes``.
        retry_after_seconds: With ``busy``: no sooner.
    """

    code: Id
    message: Text = ""
    sha256: Sha256 | None = None
    offset_bytes: Count | None = None
    retry_after_seconds: Seconds | None = None


class Grant(Message):
    """The signed answer; the payload of a DSSE envelope, so unknown fields are refused.

    The device judges freshness by the age of its own nonce against ``ttl_seconds`` and needs no clock for it.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    device: Id
    generation: Count
    step: Step
    epoch: Count
    seq: Count
    nonce: Nonce
    decision: Literal["go", "wait"]
    desired_sha256: Sha256
    ttl_seconds: Seconds
    server_time: Timestamp
    retry_after_seconds: Seconds | None = None
    reason: Label | None = None


class DeviceEvent(Message):
    """Something that happened on a device; the kind stands in the topic."""

    generation: Count | None = None
    version: Name | None = None
    slot: SlotName | None = None
    message: Text = ""
    error: ErrorReport | None = None
    ts: Timestamp | None = None


class LatencySketch(Message):
    """A mergeable histogram of the last interval's latencies.

    Count ``i`` is for latencies in ``(gamma^(offset+i-1), gamma^(offset+i)]`` seconds, so every value is known within a
    factor of ``gamma``.

    Source:
        DDSketch (Masson, Rim, Lee; VLDB 2019), logarithmic mapping.
    """

    gamma: Annotated[float, Field(gt=1.0, le=4.0)]
    offset: Annotated[int, Field(ge=-100_000, le=100_000)]
    counts: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(strict=False, max_length=1024)]


class HealthSample(Message):
    """One sample of a device's health. Counters since boot and never rates, so that loss and repetition do no harm."""

    seq: Count
    boot_id: BootId
    version: Name | None = None
    uptime_seconds: Seconds | None = None
    requests_total: Count | None = None
    errors_total: Count | None = None
    latency: LatencySketch | None = None
    latency_p50_seconds: Seconds | None = None
    latency_p95_seconds: Seconds | None = None
    latency_p99_seconds: Seconds | None = None
    memory_bytes: Count | None = None
    cpu_ratio: Annotated[float, Field(ge=0, le=1024)] | None = None
    disk_free_bytes: Count | None = None
    temperature_celsius: Annotated[float, Field(ge=-100, le=300)] | None = None
    throttle_events_total: Count | None = None
    restarts_total: Count | None = None
    healthy: bool | None = None
    endpoint_up: bool | None = None
    log_errors_total: Count | None = None
    quality: Mapping[Label, float] | None = None


class Hold(Message):
    """The emergency brake; while it is retained, no device activates an install."""

    reason: Text = ""
    by: Label = ""


class Sync(Message):
    """All devices send ``info`` and ``reported`` again, spread over the given time."""

    spread_seconds: Seconds = 10.0


class TrustDocument(Message):
    """Trust roots in their order, as signed; what a device does not know of them it follows one by one.

    Attributes:
        first: Version of the first of them, so that nobody parses what he has not verified.
        roots: Envelopes as they were written.
    """

    first: Annotated[int, Field(ge=1, lt=2**53)]
    roots: Annotated[tuple[str, ...], Field(strict=False, max_length=256)]


class ArtifactPeers(Message):
    """Who has the chunks of one artifact."""

    sha256: Sha256
    urls: Annotated[tuple[Url, ...], Field(strict=False, max_length=PEERS_MAX)]


class PeersDocument(Message):
    """Which devices of a site give which artifact's chunks to the others; nobody need believe them.

    Attributes:
        artifacts: Those that active rollouts are bringing, as far as somebody has them.
    """

    site: Label
    artifacts: Annotated[tuple[ArtifactPeers, ...], Field(strict=False, max_length=64)]


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

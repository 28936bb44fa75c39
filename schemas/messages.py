"""What devices say and hear, one model for each message; what the orchestrator says of rollouts is in ``documents``.

Fields may be added and are never repurposed; receivers ignore what they do not know; ``null`` means unknown. Numbers
are strict (no text for a number, no NaN), names end in their unit, times are RFC 3339 for people, because the
receiver's clock judges. What is signed refuses unknown fields instead.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import SHARD_COUNT, Id, Name, Nonce, Sha256
from schemas.peers import PEERS_MAX
from schemas.times import Timestamp
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

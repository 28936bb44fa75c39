"""The documents that are published, each a pure function of the state; the same state gives the same bytes."""

import hashlib
import json
from collections import Counter
from typing import Final

import numpy as np

from orchestrator.core.allowed import allowed_verbs
from orchestrator.core.explain_floor import awaited_count
from orchestrator.core.inventory import Device
from orchestrator.core.members import Mask, Member
from orchestrator.core.peers import peers_ref
from orchestrator.core.rollout import TERMINAL, Rollout
from orchestrator.core.soaking import watched_until
from orchestrator.core.state import State
from orchestrator.core.status import counts, next_decision_at, reasons, staging_status, wave_state, wave_status
from orchestrator.core.summaries import fitted, plan_summary
from orchestrator.core.trace_ids import traceparent
from orchestrator.telemetry.baseline import digest
from schemas.codec import RETAINED, encode
from schemas.documents import HealthSummary, StatusDocument, WaveDocument
from schemas.messages import ArtifactRef, Desired, Fallback, HealthCheck, ManifestRef
from schemas.times import format_timestamp

MEMBERS_MAX: Final = 200
"""A wave document names so many members; above that it gives their digest and count."""
FROM_VERSIONS_MAX: Final = 20
_DISPENSABLE: Final = ("members", "canary", "policy", "uncovered", "not_canary", "excluded", "warnings", "waves")
"""What a plan's document goes without if it would be too large, the first first."""


def desired_bytes(state: State, device: Device, made: dict[tuple[object, ...], bytes] | None = None) -> bytes:
    """Return the desired state of a device that was ordered something; a grant names the digest of these bytes.

    They depend on nothing but the journal: the same after a restart, and whatever the device says meanwhile.

    Args:
        state: As it is.
        device: Whose document.
        made: Those made from the same state so far: the devices of an order mostly get the same bytes.
    """
    assert device.rollout is not None, "only an ordered device has a desired state"
    rollout = state.rollouts[device.rollout]
    member = rollout.members[device.id]
    if made is None:
        return _desired(rollout, device, member)
    of_device = (rollout.id, device.generation, device.action, device.epoch)
    key = (*of_device, member.wave, member.arch, member.site, member.from_version, member.goes_first)
    document = made.get(key)
    if document is None:
        document = made[key] = _desired(rollout, device, member)
    return document


def _desired(rollout: Rollout, device: Device, member: Member) -> bytes:
    assert device.action is not None, "an order has an action"
    installs = device.action == "install"
    version = rollout.release.version if installs else member.from_version or "unknown"
    fallback = None if member.from_version is None else Fallback(version=member.from_version)
    manifest, artifact = _references(rollout, member) if installs else (None, None)
    document = Desired(
        generation=device.generation,
        epoch=device.epoch,
        rollout=rollout.id,
        wave=rollout.plan.waves[member.wave].name,
        action=device.action,
        release=rollout.release.release,
        version=version,
        strategy=rollout.policy.strategy,
        manifest=manifest,
        artifact=artifact,
        health_check=_health_check(rollout),
        min_ready_seconds=rollout.policy.rolling_update.min_ready_seconds,
        progress_deadline_seconds=rollout.policy.rolling_update.progress_deadline,
        commit_on=rollout.policy.commit_on,
        fallback=fallback,
        traceparent=traceparent(rollout, member.wave) if rollout.traced else None,
    )
    return encode(document)


def _references(rollout: Rollout, member: Member) -> tuple[ManifestRef, ArtifactRef]:
    stored = rollout.release.artifact_for(member.arch)
    assert stored is not None, "the plan holds only devices that have an artifact"
    manifest, artifact = stored.references(rollout.bases(member.site))
    added = {"peers": peers_ref(rollout, member), "limits": rollout.limits.get(member.site)}
    return manifest, artifact.model_copy(update=added)


def _health_check(rollout: Rollout) -> HealthCheck:
    return rollout.policy.rolling_update.health_check


def status_document(state: State, rollout: Rollout, now: float, healthy: Mask | None = None) -> StatusDocument:
    """Say where the rollout is, why, and what may be commanded; ``healthy`` marks the members seen to be well."""
    seen_until = watched_until(state, now)
    return StatusDocument(
        rollout=rollout.id,
        release=rollout.release.release,
        version=rollout.release.version,
        phase=rollout.phase.value,
        wave=None if rollout.phase in TERMINAL else rollout.wave_name,
        paused=rollout.paused,
        counts=counts(rollout),
        reasons=reasons(rollout, seen_until),
        allowed=allowed_verbs(state, rollout),
        next_decision_at=None if state.frozen else next_decision_at(rollout, now),
        started_at=format_timestamp(rollout.started_at),
        started_by=rollout.by,
        ts=format_timestamp(now),
        ended_at=None if rollout.ended_at is None else format_timestamp(rollout.ended_at),
        plan_digest=rollout.plan.digest,
        from_versions=dict(_from_versions(rollout).most_common(FROM_VERSIONS_MAX)),
        waves=tuple(wave_status(rollout, number, seen_until, healthy) for number in range(len(rollout.plan.waves))),
        frozen=bool(state.frozen) and rollout.phase not in TERMINAL,
        staged=staging_status(rollout),
        blocking_devices=awaited_count(rollout),
    )


def _from_versions(rollout: Rollout) -> Counter[str]:
    """Count what the members ran when they were ordered; of the others nothing is on record yet."""
    versions = rollout.members.vocabularies["from_version"].values
    counted = np.bincount(rollout.members.column(Member.from_version)).tolist()
    return Counter({versions[code]: count for code, count in enumerate(counted) if count and versions[code]})


def wave_document(rollout: Rollout, wave: int, health: HealthSummary | None = None) -> WaveDocument:
    """Say what a wave was told, where its members are, and how they do."""
    planned = rollout.plan.waves[wave]
    names = rollout.members.names[rollout.members.of_wave(wave)]
    return WaveDocument(
        rollout=rollout.id,
        wave=planned.name,
        release=rollout.release.release,
        version=rollout.release.version,
        device_count=len(names),
        members=tuple(names) if len(names) <= MEMBERS_MAX else None,
        members_sha256=hashlib.sha256("\n".join(names).encode()).hexdigest(),
        state=wave_state(rollout, wave),
        counts=counts(rollout, wave),
        started_at=format_timestamp(rollout.wave_started_at) if wave == rollout.wave else None,
        health=health,
    )


def plan_document(rollout: Rollout) -> bytes:
    """Return the accepted plan: policy, waves, digest, seed, author; members only of waves that are small enough.

    It never exceeds what a retained document may: a plan that would names what it goes without under ``shortened``.
    """
    plan = rollout.plan
    members = {wave.name: list(wave.members) for wave in plan.waves if len(wave.members) <= MEMBERS_MAX}
    document = {
        **plan_summary(rollout.id, plan, rollout.release, rollout.policy),
        "started_by": rollout.by,
        "members": members,
        "baselines_digest": digest(rollout.baselines),
        "policy": rollout.policy.model_dump(mode="json", by_alias=True),
    }
    return json.dumps(fitted(document, RETAINED.bytes_max, _DISPENSABLE), separators=(",", ":")).encode()

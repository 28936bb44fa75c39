"""The documents that are published, each a pure function of the state; the same state gives the same bytes."""

import hashlib
import json
from typing import Final

from orchestrator.core.operator import allowed_verbs
from orchestrator.core.state import TERMINAL, Device, Member, Rollout, State
from orchestrator.core.status import counts, next_decision_at, reasons
from orchestrator.telemetry.baseline import digest
from schemas.codec import encode
from schemas.messages import (
    ArtifactRef,
    Desired,
    Fallback,
    HealthCheck,
    ManifestRef,
    StatusDocument,
    WaveDocument,
)
from schemas.times import format_timestamp

MEMBERS_MAX: Final = 200
"""A wave document names so many members; above that it gives their digest and count."""


def desired_bytes(state: State, device: Device) -> bytes:
    """Return the desired state of a device that was ordered something; a grant names the digest of these bytes.

    They depend on nothing but the journal: the same after a restart, and whatever the device says meanwhile.
    """
    assert device.rollout is not None, "only an ordered device has a desired state"
    assert device.action is not None, "an order has an action"
    rollout = state.rollouts[device.rollout]
    member = rollout.members[device.id]
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
    )
    return encode(document)


def _references(rollout: Rollout, member: Member) -> tuple[ManifestRef, ArtifactRef]:
    stored = rollout.release.artifact_for(member.arch)
    assert stored is not None, "the plan holds only devices that have an artifact"
    url = rollout.registry_url
    manifest = ManifestRef(
        sha256=stored.manifest_sha256,
        size_bytes=stored.manifest_size_bytes,
        urls=(f"{url}/manifests/{stored.manifest_sha256}",),
    )
    artifact = ArtifactRef(
        sha256=stored.artifact_sha256,
        size_bytes=stored.artifact_size_bytes,
        arch=stored.arch,
        sources=(f"{url}/artifacts/{stored.artifact_sha256}",),
    )
    return manifest, artifact


def _health_check(rollout: Rollout) -> HealthCheck:
    return rollout.policy.rolling_update.health_check


def status_document(rollout: Rollout, now: float) -> StatusDocument:
    """Say where the rollout is, why, and what may be commanded."""
    return StatusDocument(
        rollout=rollout.id,
        release=rollout.release.release,
        version=rollout.release.version,
        phase=rollout.phase.value,
        wave=None if rollout.phase in TERMINAL else rollout.wave_name,
        paused=rollout.paused,
        counts=counts(rollout),
        reasons=reasons(rollout, now),
        allowed=allowed_verbs(rollout),
        next_decision_at=next_decision_at(rollout, now),
        started_at=format_timestamp(rollout.started_at),
        started_by=rollout.by,
        ts=format_timestamp(now),
    )


def wave_document(rollout: Rollout, wave: int) -> WaveDocument:
    """Say what a wave was told and where its members are."""
    planned = rollout.plan.waves[wave]
    is_open = wave <= rollout.wave
    state = "waiting" if not is_open else "done" if wave < rollout.wave else rollout.phase.value
    return WaveDocument(
        rollout=rollout.id,
        wave=planned.name,
        release=rollout.release.release,
        version=rollout.release.version,
        device_count=len(planned.members),
        members=planned.members if len(planned.members) <= MEMBERS_MAX else None,
        members_sha256=hashlib.sha256("\n".join(planned.members).encode()).hexdigest(),
        state=state,
        counts=counts(rollout, wave),
        started_at=format_timestamp(rollout.wave_started_at) if wave == rollout.wave else None,
    )


def plan_document(rollout: Rollout) -> bytes:
    """Return the accepted plan: policy, waves, digest, seed, author; members only of waves that are small enough."""
    plan = rollout.plan
    document = {
        "rollout": rollout.id,
        "release": rollout.release.release,
        "version": rollout.release.version,
        "plan_digest": plan.digest,
        "seed": plan.seed,
        "started_by": rollout.by,
        "waves": [
            {
                "wave": wave.name,
                "devices": len(wave.members),
                "members": list(wave.members) if len(wave.members) <= MEMBERS_MAX else None,
            }
            for wave in plan.waves
        ],
        "canary": dict(list(plan.chosen.items())[:MEMBERS_MAX]),
        "excluded_count": len(plan.excluded),
        "dropped_waves": list(plan.dropped_waves),
        "uncovered": list(plan.uncovered),
        "baselines_digest": digest(rollout.baselines),
        "policy": rollout.policy.model_dump(mode="json", by_alias=True),
    }
    return json.dumps(document, separators=(",", ":")).encode()

"""Who a rollout is for: every device it can update, and for each other one the reason why not.

Source:
    Reference, "Canary Selection Algorithm", step 3, and "When Blue-Green is Not Feasible"; DECISIONS.md, 3.
"""

import hashlib
from dataclasses import dataclass

from orchestrator.core.context import Context
from orchestrator.core.releases import StoredRelease
from orchestrator.core.state import Device, State
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import Candidate, plan_rollout
from orchestrator.telemetry.baseline import Baseline
from schemas.policy import Policy


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rollout cannot start, and what would help."""

    message: str


def make_plan(state: State, release: StoredRelease, policy: Policy, rollout: str) -> Plan | Refusal:
    """Plan ``release`` for the whole inventory; the seed follows from the rollout's name, so it can be repeated."""
    excluded: dict[str, str] = {}
    candidates: list[Candidate] = []
    for device in state.devices.values():
        reason = exclusion(state, device, release)
        if reason:
            excluded[device.id] = reason
        else:
            candidates.append(_candidate(device))
    if not candidates:
        reasons = "; ".join(sorted(set(excluded.values()))) or "no device has announced itself"
        return Refusal(f"no device to update: {reasons}")
    seed = int.from_bytes(hashlib.sha256(f"{rollout}/{release.release}".encode()).digest()[:6])
    try:
        return plan_rollout(candidates, policy, excluded=excluded, seed=seed)
    except ValueError:
        unfit = "; ".join(sorted({each.unfit for each in candidates}))
        return Refusal(f"no device may be a canary: {unfit}")


def exclusion(state: State, device: Device, release: StoredRelease) -> str:
    """Return why ``device`` is no target of ``release``; empty if it is one."""
    artifact = release.artifact_for(device.info.arch)
    if artifact is None:
        return f"no artifact for {device.info.arch}"
    if artifact.device_types and device.info.device_type not in artifact.device_types:
        return f"not for {device.info.device_type}"
    if device.version == release.version:
        return f"runs {release.version} already"
    if device.quarantine:
        return f"quarantined: {device.quarantine}"
    if device.info.maintenance:
        return "in maintenance"
    rollout = next((each.id for each in state.active if device.id in each.members), None)
    if rollout is not None:
        return f"in rollout {rollout}"
    free, needed = device.disk_free_bytes, 2 * artifact.artifact_size_bytes + artifact.unpacked_bytes
    if free is not None and free < needed:
        return f"{free} bytes free, {needed} needed"
    return ""


def take_baselines(
    state: State, plan: Plan, release: StoredRelease, policy: Policy, *, context: Context, now: float
) -> dict[str, Baseline] | Refusal:
    """Freeze the baseline of every group in ``plan``; a group without one blocks a policy that compares with it."""
    groups = sorted({state.devices[device].info.group for device in plan.targets})
    wanted = policy.baseline
    baselines: dict[str, Baseline] = {}
    for group in groups:
        baseline = context.monitor.baseline(
            group, now=now, seconds=wanted.window, excluding_version=release.version, min_samples=wanted.min_samples
        )
        if baseline is not None:
            baselines[group] = baseline
        elif _compares(policy):
            return Refusal(
                f"group {group!r} has no baseline yet: fewer than {wanted.min_samples} requests observed; "
                "let it run longer, or declare absolute limits in the policy's checks and triggers"
            )
    return baselines


def _compares(policy: Policy) -> bool:
    gates = policy.health_gates
    checks = [
        check for gate in (gates.canary_gate, gates.wave_gate, gates.completion_gate) if gate for check in gate.checks
    ]
    conditions = [check.threshold for check in checks]
    conditions += [trigger.condition for trigger in policy.rollback_triggers.all]
    return any(condition.needs_baseline for condition in conditions)


def _candidate(device: Device) -> Candidate:
    info = device.info
    unfit = ""
    if info.single_point_of_failure:
        unfit = "single point of failure"
    elif info.known_issues:
        unfit = f"known issue: {info.known_issues[0]}"
    elif not device.is_online:
        unfit = "offline"
    return Candidate(device.id, info.device_type, info.region, len(info.signals), unfit)

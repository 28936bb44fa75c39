"""What is normal: the baselines that a rollout's evidence is compared with, frozen before anything is touched.

Source:
    Reference, "Health Gate Criteria".
"""

import numpy as np

from orchestrator.core.context import Context
from orchestrator.core.inventory import Device
from orchestrator.core.releases import StoredRelease
from orchestrator.core.state import State
from orchestrator.core.targets import Refusal
from orchestrator.planning.plan import Plan
from orchestrator.telemetry.baseline import Baseline
from schemas.policy import Policy


def take_baselines(
    state: State, plan: Plan, release: StoredRelease, policy: Policy, *, context: Context, now: float
) -> dict[str, Baseline] | Refusal:
    """Freeze the baseline of every group in ``plan``; a group without one blocks a policy that compares with it."""
    baselines = known_baselines(state, plan, release, policy, context=context, now=now)
    missing = sorted(_groups(state, plan) - baselines.keys())
    if missing and _compares(policy):
        return Refusal(
            f"group {missing[0]!r} has no baseline yet: fewer than {policy.baseline.min_samples} requests or health "
            "samples seen; let it run longer, or declare absolute limits in the policy's checks and triggers"
        )
    return baselines


def known_baselines(
    state: State, plan: Plan, release: StoredRelease, policy: Policy, *, context: Context, now: float
) -> dict[str, Baseline]:
    """Return the baseline of each group in ``plan`` that has one."""
    wanted = policy.baseline
    found = {
        group: context.monitor.baseline(
            group, now=now, seconds=wanted.window, excluding_version=release.version, min_samples=wanted.min_samples
        )
        for group in sorted(_groups(state, plan))
    }
    return {group: baseline for group, baseline in found.items() if baseline is not None}


def _groups(state: State, plan: Plan) -> set[str]:
    infos = state.devices.vocabularies["info"].values
    codes = np.unique(state.devices.column(Device.info)[state.devices.rows(plan.targets)])
    return {infos[code].group for code in codes}


def _compares(policy: Policy) -> bool:
    gates = policy.health_gates
    checks = [
        check for gate in (gates.canary_gate, gates.wave_gate, gates.completion_gate) if gate for check in gate.checks
    ]
    conditions = [check.threshold for check in checks if not check.dry_run]
    conditions += [trigger.condition for trigger in policy.rollback_triggers.all]
    return any(condition.needs_baseline for condition in conditions)

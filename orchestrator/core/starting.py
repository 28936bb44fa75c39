"""``plan`` and ``start``: what would be done, and the same done.

Source:
    Wire contract, "Ops commands"; DECISIONS.md, 22 and 23.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from orchestrator.core import events as e
from orchestrator.core.answers import Outcome, accept, refuse, summary, unknown
from orchestrator.core.baselines import known_baselines, take_baselines
from orchestrator.core.context import Context
from orchestrator.core.distribution import SitesError, bases_by_site, choose_distribution, peer_ranks
from orchestrator.core.facts import fleet_facts
from orchestrator.core.inputs import CommandReceived
from orchestrator.core.members import Member
from orchestrator.core.orders import order_hold
from orchestrator.core.releases import ReleaseError, StoredRelease
from orchestrator.core.rollout import Phase, Rollout
from orchestrator.core.state import State
from orchestrator.core.summaries import SHOWN_MAX, distribution_summary, fitted, plan_summary
from orchestrator.core.targets import Refusal, make_plan
from orchestrator.lint.catalogue import lint_rollout
from orchestrator.lint.finding import Finding
from orchestrator.planning.plan import Plan
from orchestrator.telemetry.baseline import Baseline
from schemas.codec import MESSAGE
from schemas.commands import StartCommand
from schemas.errors import PolicyError
from schemas.policy import Policy

FINDINGS_MAX: Final = 40
"""Findings in an answer; it must fit into one message."""
DATA_BYTES_MAX: Final = MESSAGE.bytes_max - 1024
_DISPENSABLE: Final = ("baselines", "uncovered", "canary", "not_canary", "excluded", "distribution", "lint", "waves")
"""What an answer goes without if it would be too large, the first first."""


def decide_start(
    state: State, received: CommandReceived, command: StartCommand, context: Context, now: float
) -> Outcome:
    """Answer ``plan`` and ``start``; a plan changes nothing."""
    try:
        release = context.releases.get(command.release)
    except ReleaseError as error:
        return refuse("not_allowed", str(error))
    if release is None:
        return unknown("release", command.release, context.releases)
    policy = _policy(command, context)
    if isinstance(policy, Outcome):
        return policy
    name = command.rollout or _next_name(state)
    running = state.rollouts.get(name)
    if running is not None:
        if running.release == release and running.policy == policy:
            return summary(running, now, already_applied=True)
        return refuse("conflict", f"rollout {name!r} exists with another release or policy")
    moment = policy.distribution.activates_at
    if moment is not None and moment <= now:
        message = f"distribution.activate: {policy.distribution.activate} has passed; write a later one, or at_once"
        return refuse("invalid_payload", message, field="policy.distribution.activate")
    plan = _plan(state, command, release, policy, name=name, now=now)
    if isinstance(plan, Refusal):
        return _nothing_to_do(received, name, release, plan)
    try:
        caches, limits = context.caches(), context.limits()
    except SitesError as error:
        return refuse("not_allowed", str(error))
    distribution = choose_distribution(state, plan, release, policy, caches, limits=limits)
    yielding = _giving_way(state, plan)
    baselines = take_baselines(state, plan, release, policy, context=context, now=now)
    refusal = _not_yet(command, plan, baselines) if received.verb == "start" else None
    if refusal is not None:
        return refusal
    frozen = (
        known_baselines(state, plan, release, policy, context=context, now=now)
        if isinstance(baselines, Refusal)
        else baselines
    )
    facts = fleet_facts(state, plan, release, frozen, distribution, time_scale=command.time_scale)
    findings = lint_rollout(policy, facts)
    document = {
        **plan_summary(name, plan, release, policy),
        "supersedes": [each.id for each in yielding],
        "distribution": distribution_summary(distribution),
        "activate": policy.distribution.activate,
        "baselines": sorted(frozen)[:SHOWN_MAX],
        **_shown(findings),
    }
    data = fitted(document, DATA_BYTES_MAX, _DISPENSABLE)
    if received.verb == "plan":
        return accept(data)
    refusal = _against_lint(command, findings)
    if refusal is not None:
        return refusal
    started = e.RolloutStarted(
        rollout=name,
        by=received.actor,
        reason=command.reason,
        release=release,
        registry_url=context.registry_url,
        policy=policy,
        plan=plan,
        baselines=frozen,
        limits={each.site: each.limits for each in distribution.sites if each.limits is not None},
        sources=bases_by_site(distribution, context.registry_url, caches),
        peer_ranks=peer_ranks(distribution, context.registry_url, caches),
        traced=context.traced,
    )
    ended = _superseded(state, yielding, name, received.actor)
    stages = policy.distribution.stages
    first: e.AnyEvent = e.StagingStarted(rollout=name) if stages else e.WaveStarted(rollout=name, wave=0)
    return accept(data, [*ended, started, first])


def _plan(
    state: State, command: StartCommand, release: StoredRelease, policy: Policy, *, name: str, now: float
) -> Plan | Refusal:
    """Plan without the devices of other rollouts, or with those of rollouts that end for it; say what would help."""
    against = {each.id: _stands_against(each, policy) for each in state.active}
    may_end = {rollout for rollout, why in against.items() if why is None}
    plan = make_plan(state, release, policy, name, now=now, superseding=may_end if command.supersede else ())
    if isinstance(plan, Plan):
        return plan
    if command.supersede:
        return Refusal("; ".join([plan.message, *(why for why in against.values() if why is not None)]))
    freed = make_plan(state, release, policy, name, now=now, superseding=may_end)
    if isinstance(freed, Refusal):
        return plan
    ended = ", ".join(each.id for each in _giving_way(state, freed))
    return Refusal(f"{plan.message}; start with --supersede to end {ended}" if ended else plan.message)


def _not_yet(command: StartCommand, plan: Plan, baselines: dict[str, Baseline] | Refusal) -> Outcome | None:
    if command.plan is not None and command.plan != plan.digest:
        message = f"the plan would be {plan.digest[:16]}… now, not the approved one: the fleet has changed; plan again"
        return refuse("conflict", message)
    if isinstance(baselines, Refusal):
        return refuse("conflict", baselines.message)
    return None


def _against_lint(command: StartCommand, findings: Sequence[Finding]) -> Outcome | None:
    errors = [each for each in findings if each.severity == "error" and each.silenced is None]
    if not errors or command.ignore_lint:
        return None
    return refuse("lint_failed", "; ".join(f"{each.id} {each.message} ({each.remedy})" for each in errors))


def _shown(findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "lint": [each.model_dump(mode="json") for each in findings[:FINDINGS_MAX]],
        "lint_count": len(findings),
    }


def _nothing_to_do(received: CommandReceived, name: str, release: StoredRelease, refusal: Refusal) -> Outcome:
    if received.verb == "plan":
        data = {"rollout": name, "release": release.release, "version": release.version}
        return accept({**data, "nothing_to_do": True, "reason": refusal.message})
    return refuse("conflict", refusal.message)


def _stands_against(rollout: Rollout, policy: Policy) -> str | None:
    """Say why a newer rollout under ``policy`` may not end ``rollout``; None if it may."""
    if rollout.policy.priority > policy.priority:
        return f"{rollout.id} has a higher priority than {policy.priority}"
    return f"{rollout.id} is rolling back, which nothing supersedes" if rollout.phase is Phase.ROLLING_BACK else None


def _giving_way(state: State, plan: Plan) -> list[Rollout]:
    """Return the active rollouts that hold a target of ``plan``."""
    is_target = np.zeros(len(state.devices), dtype=np.bool_)
    is_target[state.devices.rows(plan.targets)] = True
    return [each for each in state.active if is_target[each.members.column(Member.device_row)].any()]


def _superseded(state: State, rollouts: Sequence[Rollout], newer: str, by: str) -> list[e.AnyEvent]:
    """End older rollouts, and hold those of their devices that were not granted anything yet."""
    ended: list[e.AnyEvent] = [
        e.RolloutEnded(rollout=each.id, outcome="superseded", by=by, reason=f"superseded by {newer}")
        for each in rollouts
    ]
    held: list[e.AnyEvent] = []
    for each in rollouts:
        held += order_hold(state, each, after=len(held))
    return [*ended, *held]


def _next_name(state: State) -> str:
    numbers = itertools.count(len(state.rollouts) + 1)
    return next(name for number in numbers if (name := f"r-{number:03d}") not in state.rollouts)


def _policy(command: StartCommand, context: Context) -> Policy | Outcome:
    if isinstance(command.policy, str):
        try:
            policy = context.policies.get(command.policy)
        except PolicyError as error:
            return refuse("invalid_payload", str(error), field="policy")
        if policy is None:
            return unknown("policy", command.policy, context.policies)
    else:
        try:
            policy = Policy.model_validate(command.policy)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(("policy", *map(str, first["loc"])))
            return refuse("invalid_payload", f"{field}: {first['msg']}", field=field[:128])
    if command.activate is not None:
        where = policy.distribution.model_copy(update={"activate": command.activate})
        policy = policy.model_copy(update={"distribution": where})
    return policy.scaled(command.time_scale)

# ruff: noqa: ANN401 - what stands in for a product function takes whatever it takes
"""Bugs of the product, one at a time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from device_client.core import installing
from device_client.core import walk as walks
from device_client.core.device import advance
from device_client.core.effects import Effect, SwitchSlot, Verify
from device_client.core.events import Step, StepSucceeded
from device_client.core.grant import judge_grant
from device_client.core.record import Record
from orchestrator.adapters.journal import Journal
from orchestrator.core import concluding, grants, reports, soaking, staging, state, verifying
from orchestrator.core import events as e
from orchestrator.core.effects import PublishStatus
from orchestrator.core.judging import judged
from orchestrator.core.members import Member, Members, Progress
from orchestrator.core.orders import order
from orchestrator.core.rollout import Phase, Rollout
from orchestrator.intake import Located
from orchestrator.publishing import Publisher
from orchestrator.service import Engine
from orchestrator.telemetry.gates import CHECKS, judge_gate
from orchestrator.telemetry.limiter import Limiter
from orchestrator.telemetry.places import Place
from schemas.policy_rollout import GlobalPolicy
from schemas.verdicts import Verdict
from simulator.process import WatchedJournal

Plant = Callable[[pytest.MonkeyPatch], None]


def ignore_capacity(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("orchestrator.core.grants._refuse_room", lambda device, rollout, there: None)


def take_everybody_for_healthy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("orchestrator.service.observe_health", lambda state, monitor, now: None)


def grant_after_a_stop(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("orchestrator.core.grants._OPEN", frozenset(Phase))
    patch.setattr("orchestrator.core.stopping.order_hold", lambda *args, **rest: [])
    patch.setattr("orchestrator.core.orders.order_hold", lambda *args, **rest: [])


def forget_quarantine(patch: pytest.MonkeyPatch) -> None:
    everybody = property(lambda members: members.column(Member.wave) < 0)
    patch.setattr(Members, "quarantined", everybody)
    real = grants._refuse_install

    def forgetful(state: Any, device: Any, rollout: Any, member: Any) -> Any:
        reason = real(state, device, rollout, member)
        return None if reason is grants.WaitReason.QUARANTINED else reason

    patch.setattr("orchestrator.core.grants._refuse_install", forgetful)


def go_on_with_what_is_revoked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("device_client.core.device.obey_root", lambda device: (device, ()))


def accept_every_grant(patch: pytest.MonkeyPatch) -> None:
    real = judge_grant

    def gullible(grant: Any, *, question: Any, **rest: Any) -> Any:
        answers_something = question is not None and grant.step == question.step
        return None if answers_something else real(grant, question=question, **rest)

    patch.setattr("device_client.core.asking.judge_grant", gullible)


def pass_without_evidence(patch: pytest.MonkeyPatch) -> None:
    real = judge_gate

    def lenient(*args: Any, **kwargs: Any) -> Any:
        verdict, checks = real(*args, **kwargs)
        if verdict is not Verdict.INCONCLUSIVE:
            return verdict, checks
        return Verdict.PASS, tuple(check.model_copy(update={"verdict": "pass"}) for check in checks)

    for module in ("judging", "phases"):
        patch.setattr(f"orchestrator.core.{module}.judge_gate", lenient)


def overlook_latency(patch: pytest.MonkeyPatch) -> None:
    real = CHECKS["latency_p95"]

    def blind(*args: Any) -> Any:
        found = real(*args)
        return found.model_copy(update={"verdict": "pass"}) if found.verdict == "fail" else found

    patch.setitem(CHECKS, "latency_p95", blind)


def count_crashes_thrice(patch: pytest.MonkeyPatch) -> None:
    real = CHECKS["crash_count"]

    def exaggerating(*args: Any) -> Any:
        found = real(*args)
        return found.model_copy(update={"observed": 3 * (found.observed or 0)})

    patch.setitem(CHECKS, "crash_count", exaggerating)


def forget_what_was_due(patch: pytest.MonkeyPatch) -> None:
    real = Publisher._perform

    def forgetful(publisher: Any, known: Any, effect: Any, now: float, made: Any) -> Any:
        if isinstance(effect, PublishStatus):
            publisher._progressed.pop(effect.rollout, None)
        return real(publisher, known, effect, now, made)

    patch.setattr(Publisher, "_perform", forgetful)


def skip_the_short_term(patch: pytest.MonkeyPatch) -> None:
    real = soaking.phases_left

    def hasty(rollout: Any) -> Any:
        left = real(rollout)
        return tuple(phase for phase in left if phase != "short_term" or rollout.canary_phase == phase)

    patch.setattr("orchestrator.core.concluding.phases_left", hasty)


def extend_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("orchestrator.core.concluding.halt", lambda *args: [])

    real = concluding._extend

    def patient(state: Any, rollout: Any, *args: Any, **rest: Any) -> Any:
        known, rollout.extensions = rollout.extensions, 0
        facts = real(state, rollout, *args, **rest)
        rollout.extensions = known
        return facts

    patch.setattr("orchestrator.core.concluding._extend", patient)


def decide_in_the_silence(patch: pytest.MonkeyPatch) -> None:
    real = state.evolve

    def deaf(known: Any, event: Any, at: float) -> None:
        if not isinstance(event, e.FleetFrozen):
            real(known, event, at)

    patch.setattr("orchestrator.service.evolve", deaf)


def stay_on_trial(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("device_client.core.device.on_time", lambda device, now: (device, ()))


def order_every_wave(patch: pytest.MonkeyPatch) -> None:
    real = order

    def eager(facts: Any, rollout: Any, action: Any, names: Any, **rest: Any) -> Any:
        everybody = [name for name, member in rollout.members.items() if member.progress.value in {"pending", "held"}]
        return real(facts, rollout, action, everybody if action == "install" and names else names, **rest)

    patch.setattr("orchestrator.core.progress.order", eager)


def go_on_after_another_took_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WatchedJournal, "confirm", lambda journal: None)


def switch_before_persisting(patch: pytest.MonkeyPatch) -> None:
    real = advance

    def hasty(device: Any, event: Any, now: float) -> tuple[Any, Sequence[Effect]]:
        device, effects = real(device, event, now)
        return device, sorted(effects, key=lambda effect: not isinstance(effect, SwitchSlot))

    patch.setattr("simulator.device.advance", hasty)


def lose_audit_rows(patch: pytest.MonkeyPatch) -> None:
    real = Journal.append

    def lossy(self: Journal, rows: Sequence[tuple[str, str]], at: float) -> Any:
        records = real(self, rows, at)
        if rows and rows[0][0] == "grant_issued":
            self._database.execute("DELETE FROM entries WHERE seq = ?", (records[-1].seq,))
        return records

    patch.setattr(Journal, "append", lossy)


def let_the_staged_go(patch: pytest.MonkeyPatch) -> None:
    real = grants._refuse_install

    def hasty(state: Any, device: Any, rollout: Any, member: Any) -> Any:
        reason = real(state, device, rollout, member)
        return None if reason in {grants.WaitReason.NOT_ACTIVATED, grants.WaitReason.WAVE_NOT_OPEN} else reason

    patch.setattr("orchestrator.core.grants._refuse_install", hasty)


def skip_approval(patch: pytest.MonkeyPatch) -> None:
    def hasty(rollout: Any, gate: str, checks: Any) -> list[Any]:
        if rollout.is_last_wave:
            ended = e.RolloutEnded(rollout=rollout.id, outcome="completed", by="orchestrator", reason="")
            return [judged(rollout, gate, Verdict.PASS, "complete", checks), ended]
        return [judged(rollout, gate, Verdict.PASS, "proceed", checks), concluding.next_wave(rollout)]

    patch.setattr("orchestrator.core.concluding._pass", hasty)


def complete_after_the_canary(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rollout, "is_last_wave", True)


def end_a_rollback_unseen(patch: pytest.MonkeyPatch) -> None:
    real = verifying.finish_rollback

    def blind(*args: Any) -> list[Any]:
        return [fact for fact in real(*args) if fact.kind != "rollback_verified"]

    patch.setattr("orchestrator.core.progress.finish_rollback", blind)


def try_for_ever(patch: pytest.MonkeyPatch) -> None:
    def patient(rollout: Any, member: Any, reported: Any) -> bool:
        return bool(reported.error is not None and reported.error.retryable and rollout.phase.value != "rolling_back")

    patch.setattr("orchestrator.core.reports._may_pass", patient)


def give_up_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("orchestrator.core.reports._may_pass", lambda *args: False)


def try_at_once(patch: pytest.MonkeyPatch) -> None:
    real = staging.is_due
    for module in ("progress", "staging"):
        patch.setattr(f"orchestrator.core.{module}.is_due", lambda rollout, now: real(rollout, math.inf))


def lose_patience(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GlobalPolicy, "deploy_timeout_seconds", property(lambda limits: limits.deploy_timeout_minutes * 30))


def hear_old_failures(patch: pytest.MonkeyPatch) -> None:
    real = reports._installed

    def forgetful(device: Any, rollout: Any, member: Any, reported: Any, now: float) -> Any:
        if member.progress is Progress.PENDING and reported.state in {"failed", "rolled_back"}:
            return [reports._failed(device, rollout, reported), reports._quarantine(device, reported)]
        return real(device, rollout, member, reported, now)

    patch.setattr(reports, "_installed", forgetful)


def suspect_everybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("orchestrator.core.clones.RETURNS_MAX", 0)
    patch.setattr("orchestrator.core.clones._returns", lambda _device, _info: True)


def commit_without_health(patch: pytest.MonkeyPatch) -> None:
    for module in ("asking", "trial"):
        patch.setattr(f"device_client.core.{module}.is_proven", lambda *args: True)


def count_downtime_as_soak(patch: pytest.MonkeyPatch) -> None:
    real = state.evolve

    def forgetful(known: Any, event: Any, at: float) -> None:
        since = {rollout.id: rollout.soak_since for rollout in known.active}
        real(known, event, at)
        if isinstance(event, e.EpochOpened):
            for rollout in known.active:
                rollout.soak_since = since[rollout.id]

    for module in ("orchestrator.service", "simulator.endings"):
        patch.setattr(f"{module}.evolve", forgetful)


def decide_beside_the_journal(patch: pytest.MonkeyPatch) -> None:
    real = state._order

    def adding(known: Any, event: Any, at: float) -> None:
        real(known, event, at)
        known.generation += any(device.is_online for device in known.devices.values())

    patch.setattr("orchestrator.core.state._order", adding)


def install_what_was_not_verified(patch: pytest.MonkeyPatch) -> None:
    real = installing.on_prepared

    def hasty(device: Any, event: Any) -> Any:
        device, told = real(device, event)
        if event.step is not Step.FETCH:
            return device, told
        device, more = real(device, StepSucceeded(Step.VERIFY, device.ticket))
        return device, (*(each for each in told if not isinstance(each, Verify)), *more)

    patch.setattr("device_client.core.device.on_prepared", hasty)


def switch_without_reading(patch: pytest.MonkeyPatch) -> None:
    for walk in ("ONE_BY_ONE", "SIDE_BY_SIDE"):
        steps = getattr(walks, walk)
        patch.setattr(walks, walk, tuple(step for step in steps if step is not Step.CHECK))


def write_what_serves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Record, "standby", property(lambda record: record.active or "blue"))


def install_for_ever(patch: pytest.MonkeyPatch) -> None:
    real = installing.on_preparation_failed
    patch.setattr(installing, "ATTEMPTS_MAX", 100)
    patch.setattr(installing, "BACKOFF_SECONDS_MAX", 5.0)
    patch.setattr(
        "device_client.core.device.on_preparation_failed",
        lambda device, event, now: real(device, replace(event, retryable=True), now),
    )


def take_everything_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Limiter, "admit", lambda limiter, rows, now: np.ones(len(rows), dtype=np.bool_))


def know_everybody(patch: pytest.MonkeyPatch) -> None:
    real = Engine._locate
    guest = Located(Place("guests", "", is_normal=True), 0)
    patch.setattr(Engine, "_locate", lambda engine, name: real(engine, name) or guest)


def answer_later(patch: pytest.MonkeyPatch) -> None:
    real = Engine._answer_ready

    def slow(engine: Engine, given: Any, now: float) -> Any:
        answer = real(engine, given, now)
        return [] if engine.tally.refused_by_reason["flood"] else answer

    patch.setattr(Engine, "_answer_ready", slow)


def call_everything_normal(patch: pytest.MonkeyPatch) -> None:
    real = Engine._locate

    def blind(engine: Engine, name: str) -> Any:
        located = real(engine, name)
        return None if located is None else located._replace(place=located.place._replace(is_normal=True))

    patch.setattr(Engine, "_locate", blind)


def move_the_baseline(patch: pytest.MonkeyPatch) -> None:
    real = state.evolve

    def drifting(known: Any, event: Any, at: float) -> None:
        real(known, event, at)
        for rollout in known.active:
            rollout.baselines = {
                group: each.model_copy(update={"error_rate": min(1.0, each.error_rate * 1.01)})
                for group, each in rollout.baselines.items()
            }

    patch.setattr("orchestrator.service.evolve", drifting)


def forget_what_was_done(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("orchestrator.core.operator.done_before", lambda done, received, now: None)


def always_offer_a_rollback(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("orchestrator.core.allowed.taken_by", lambda known, rollout: None)


def advise_what_is_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("orchestrator.core.explain_device.allowed_verbs", lambda known, rollout: ("retry", "skip"))


def refuse_for_who_has_yet_to_come(patch: pytest.MonkeyPatch) -> None:
    def taken_by(known: Any, rollout: Any) -> Any:
        homes = {known.devices[name].rollout for name in rollout.members.names} - {None, rollout.id}
        return known.rollouts[min(homes)] if homes else None

    patch.setattr("orchestrator.core.deciding.taken_by", taken_by)

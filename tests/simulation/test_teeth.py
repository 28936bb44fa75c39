# ruff: noqa: ANN401 - what stands in for a product function takes whatever it takes
"""Planted bugs: each must be caught by its invariant within a few seeds, or the simulation proves nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from device_client.core.device import advance
from device_client.core.effects import Effect, SwitchSlot
from device_client.core.grant import judge_grant
from orchestrator.adapters.journal import Journal
from orchestrator.core import events as e
from orchestrator.core import progress, state
from orchestrator.core.judging import judged
from orchestrator.core.orders import order
from orchestrator.telemetry.gates import judge_gate
from schemas.verdicts import Verdict
from simulator import Faults, simulate

SEEDS = range(60)
Plant = Callable[[pytest.MonkeyPatch], None]


def ignore_capacity(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("orchestrator.core.grants._refuse_capacity", lambda state, rollout: None)


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

    patch.setattr("orchestrator.core.judging.judge_gate", lenient)


def order_every_wave(patch: pytest.MonkeyPatch) -> None:
    real = order

    def eager(facts: Any, rollout: Any, action: Any, names: Any, **rest: Any) -> Any:
        everybody = [name for name, member in rollout.members.items() if member.progress.value in {"pending", "held"}]
        return real(facts, rollout, action, everybody if action == "install" and names else names, **rest)

    patch.setattr("orchestrator.core.progress.order", eager)


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


def skip_approval(patch: pytest.MonkeyPatch) -> None:
    def hasty(rollout: Any, gate: str, checks: Any) -> list[Any]:
        if rollout.is_last_wave:
            ended = e.RolloutEnded(rollout=rollout.id, outcome="completed", by="orchestrator", reason="")
            return [judged(rollout, gate, Verdict.PASS, "complete", checks), ended]
        return [
            judged(rollout, gate, Verdict.PASS, "proceed", checks),
            progress.next_wave(rollout),
        ]

    patch.setattr("orchestrator.core.progress._pass", hasty)


def commit_without_health(patch: pytest.MonkeyPatch) -> None:
    for module in ("asking", "trial"):
        patch.setattr(f"device_client.core.{module}.is_proven", lambda *args: True)


def count_downtime_as_soak(patch: pytest.MonkeyPatch) -> None:
    def forgetful(known: Any, event: Any, at: float) -> None:
        known.epoch = event.epoch

    patch.setattr("orchestrator.core.state._open_epoch", forgetful)


def decide_beside_the_journal(patch: pytest.MonkeyPatch) -> None:
    real = state._order

    def adding(known: Any, event: Any, at: float) -> None:
        real(known, event, at)
        known.generation += any(device.is_online for device in known.devices.values())

    patch.setattr("orchestrator.core.state._order", adding)


@pytest.mark.parametrize(
    ("plant", "invariant", "faults"),
    [
        (ignore_capacity, "INV-8", None),
        (accept_every_grant, "INV-14", None),
        (pass_without_evidence, "INV-11", None),
        (order_every_wave, "INV-10", None),
        (switch_before_persisting, "INV-1 ", Faults(power_cut=0.02)),
        (lose_audit_rows, "INV-15", None),
        (skip_approval, "INV-7", None),
        (commit_without_health, "INV-4", None),
        (count_downtime_as_soak, "INV-11", Faults(orchestrator_kills_per_hour=6.0)),
        (decide_beside_the_journal, "INV-17", None),
    ],
)
def test_planted_bug_is_caught(
    plant: Plant, invariant: str, faults: Faults | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for seed in SEEDS:
        violations = simulate(seed, device_count=10, faults=faults).violations
        if any(invariant in violation for violation in violations):
            return
        assert not violations, f"seed={seed}: expected {invariant}, got {violations[0]}"
    pytest.fail(f"no seed of {SEEDS} has caught it")

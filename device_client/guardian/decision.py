"""What a guardian does about what it sees: one pure function.

Only a change concerns it: a version that serves and is not committed, or a rollback that was begun, which is a trial
without a deadline here. An agent that lives decides about that itself, so the guardian acts only under the agent's
lock, and it tries to take that only when it has a reason. Moments are on the boot clock; in a boot that the agent has
not recorded, a trial has its whole time since the boot began, because the record's moments mean nothing there.
"""

from dataclasses import dataclass
from typing import Final

from device_client.guardian.seen import Boots, Lock, Outcome, Seen, Trial

DEADLINE_EXCEEDED: Final = "deadline_exceeded"
AGENT_SILENT: Final = "agent_silent"
NO_SAFE_ROLLBACK: Final = "no_safe_rollback"


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class TakeLock:
    """Take the agent's lock if it is free, and look again."""


@dataclass(frozen=True, slots=True)
class EndAgent:
    """Kill the agent: it holds the lock and does nothing."""


@dataclass(frozen=True, slots=True)
class Restore:
    """Let the outcome's slot serve: write the outcome, stop what runs, switch, start, lead clients there."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Stay:
    """Write down that there is nothing to go back to, and touch nothing."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Start:
    """Start the application of the active slot, end any other, and lead clients there."""

    slot: str


Action = Wait | TakeLock | EndAgent | Restore | Stay | Start


def decide(seen: Seen, now: float) -> Action:
    """Return what to do.

    Args:
        seen: What is on the device now.
        now: Seconds on the boot clock.
    """
    action = _wish(seen, now)
    if isinstance(action, Wait) or seen.lock is Lock.OURS:
        return action
    if seen.lock is Lock.UNTRIED:
        return TakeLock()
    return EndAgent() if seen.agent_lives and _is_silent(seen, now) else Wait()


def count_boot(boots: Boots, trial: Trial, boot_id: str) -> Boots:
    """Return ``boots`` with this boot counted, once, unless the agent has recorded it."""
    if boot_id == trial.boot_id:
        return Boots()
    seen = boots.seen if boots.recorded == trial.boot_id else ()
    return Boots(trial.boot_id, seen if boot_id in seen else (*seen, boot_id))


def _wish(seen: Seen, now: float) -> Action:
    """Return what to do if there were no agent."""
    trial, outcome = seen.trial, seen.outcome
    if trial is None:
        return Wait()
    is_served = seen.running == seen.active and seen.is_routed
    if outcome is not None and outcome.is_about(trial) and outcome.slot == seen.active:
        return Wait() if is_served else Start(outcome.slot)
    if seen.active == trial.previous:  # not switched yet, or back already: see to it that something serves
        is_dark = not is_served and _is_silent(seen, now)
        return Wait() if trial.previous is None or not is_dark else Start(trial.previous)
    cause = _cause(seen, trial, now)
    if cause is None:
        return Wait()
    code, message = cause
    if trial.previous is not None and seen.is_previous_sound:
        return Restore(Outcome(trial.generation, trial.manifest_sha256, trial.previous, code, message))
    stays = f"{code}: {message}; there is no verified version before"
    return Stay(Outcome(trial.generation, trial.manifest_sha256, seen.active or trial.slot, NO_SAFE_ROLLBACK, stays))


def _cause(seen: Seen, trial: Trial, now: float) -> tuple[str, str] | None:
    """Return code and words of why the trial is over; None if it is not."""
    if trial.boots_left <= len(seen.boots.seen):
        return DEADLINE_EXCEEDED, "not committed before its reboots ran out"
    deadline_at = trial.deadline_at if seen.boot_id == trial.boot_id else trial.progress_deadline_seconds
    if now >= deadline_at:
        return DEADLINE_EXCEEDED, "not committed by the deadline"
    if _is_silent(seen, now):
        return AGENT_SILENT, f"no sign of the agent for {now - seen.heard_at:.0f} s"
    return None


def _is_silent(seen: Seen, now: float) -> bool:
    is_reading = seen.is_starting and seen.agent_lives
    patience_seconds = seen.patience.start_seconds if is_reading else seen.patience.silence_seconds
    return now - seen.heard_at > patience_seconds

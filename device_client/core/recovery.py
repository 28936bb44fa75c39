"""What a device makes of what a power cut left: a pure function of the record and of what is on disk.

The ``active`` link is the truth about what serves, the markers are the truth about the slots, and the record is the
truth about what was intended. Afterwards exactly one verified slot is active, if there is any: the one that served, or
the other one if that is damaged. A switch that was permitted and not done is not done later: the device asks again.
"""

from collections.abc import Mapping
from typing import Final

from device_client.core.codes import ErrorCode, describe
from device_client.core.events import Facts, Restoration
from device_client.core.machine import IN_PROGRESS, Phase, Signal, follow
from device_client.core.record import Record, Return, Trial, at_pace_of
from schemas.messages import ErrorReport, SlotName

_OTHER: Final[Mapping[SlotName, SlotName]] = {"blue": "green", "green": "blue"}


def recover(record: Record, facts: Facts, now: float) -> Record:
    """Return what the record must say after a start.

    Args:
        record: As it was last made durable; the default if it was lost.
        facts: As found.
        now: Seconds on the boot clock of this boot.
    """
    seen = record.model_copy(
        update={
            "session": record.session + 1,
            "reported_seq": record.reported_seq + 1,
            "blue": facts.verified.get("blue"),
            "green": facts.verified.get("green"),
            "linked": None,
        }
    )
    if facts.boot_id != record.boot_id:
        seen = _in_new_boot(seen, facts.boot_id, now)
    elif seen.trial is not None and seen.trial.healthy:
        seen = seen.model_copy(update={"trial": _prove_again(seen.trial, now)})
    recovered = _judge(seen, facts, now)
    return recovered if recovered.active is not None else recovered.model_copy(update={"linked": facts.active})


def _judge(seen: Record, facts: Facts, now: float) -> Record:
    """Say what becomes of what was going on."""
    match seen.phase:
        case Phase.ROLLING_BACK:
            return _recover_return(seen, facts)
        case Phase.DRAINING:
            return _recover_resting(_without_trial(seen), facts)
        case _ if seen.trial is not None and (done := _restored(seen.trial, facts)) is not None:
            return _recover_restored(seen, seen.trial, done, now)
        case Phase.SWITCHING if seen.trial is None or facts.active != seen.trial.slot:
            return _recover_resting(_without_trial(seen), facts)
        case _ if seen.trial is not None:
            return _recover_trial(seen, seen.trial, facts, now)
        case Phase.INSTALLING:
            return _recover_resting(seen.model_copy(update={"attempts": seen.attempts + 1}), facts)
        case _:
            return _recover_resting(seen, facts)


def _in_new_boot(record: Record, boot_id: str, now: float) -> Record:
    """Move what was meant on the last boot's clock to this one's."""
    trial, going_back = record.trial, record.going_back
    if trial is not None:
        trial = _prove_again(trial, now).model_copy(update={"boots_left": max(0, trial.boots_left - 1)})
    if going_back is not None and going_back.deadline_at is not None:
        going_back = going_back.model_copy(update={"deadline_at": now + going_back.patience_seconds})
    return record.model_copy(update={"boot_id": boot_id, "trial": trial, "going_back": going_back})


def _prove_again(trial: Trial, now: float) -> Trial:
    """Forget the health that nobody remembers; only a healthy version may wait for its gate."""
    return trial.model_copy(update={"deadline_at": now + trial.progress_deadline_seconds, "healthy": False})


def _without_trial(record: Record) -> Record:
    """Take back a permission that was not used: what served still serves."""
    return record.model_copy(update={"trial": None, "phase": follow(record.phase, Signal.INTERRUPTED)})


def _recover_trial(record: Record, trial: Trial, facts: Facts, now: float) -> Record:
    """Let the trial go on, or turn it back."""
    is_there = facts.active == trial.slot and record.content(trial.slot) is not None
    if is_there and trial.boots_left > 0 and now < trial.deadline_at:
        phase = Phase.TRIAL if record.phase is Phase.SWITCHING else record.phase
        return record.model_copy(
            update={"active": trial.slot, "previous": trial.previous, "check": trial.check, "phase": phase}
        )
    if is_there:
        error = describe(ErrorCode.DEADLINE_EXCEEDED, "trial", "not committed before its time or its reboots ran out")
    else:
        error = describe(ErrorCode.INTEGRITY_FAILED, "trial", "the slot on trial is damaged or not active any more")
    record = record.model_copy(
        update={
            "active": trial.slot if is_there else None,
            "trial": None,
            "installed_generation": None,
            "refused": record.refusing(trial.generation, trial.manifest_sha256),
        }
    )
    if trial.previous is None or record.content(trial.previous) is None:
        return _stay(record, error, facts)
    going_back = Return(
        slot=trial.previous,
        error=error,
        patience_seconds=trial.progress_deadline_seconds,
        check=at_pace_of(trial.check, record.content(trial.previous)),
    )
    return record.model_copy(update={"phase": Phase.ROLLING_BACK, "going_back": going_back, "error": error})


def _restored(trial: Trial, facts: Facts) -> Restoration | None:
    """Return what a guardian did about this trial, if what it did is still so."""
    done = facts.restoration
    if done is None or (done.generation, done.manifest_sha256) != (trial.generation, trial.manifest_sha256):
        return None
    is_so = done.slot == trial.previous == facts.active and trial.previous in facts.verified
    return done if is_so else None


def _recover_restored(record: Record, trial: Trial, done: Restoration, now: float) -> Record:
    """Take over from a guardian: the old version serves already and has yet to prove itself, as after any return."""
    error = describe(done.code, "guardian", done.message)
    check = at_pace_of(trial.check, record.content(done.slot))
    going_back = Return(
        slot=done.slot,
        error=error,
        patience_seconds=trial.progress_deadline_seconds,
        check=check,
        deadline_at=now + trial.progress_deadline_seconds,
    )
    return record.model_copy(
        update={
            "phase": Phase.ROLLING_BACK,
            "active": done.slot,
            "previous": None,
            "check": check,
            "trial": None,
            "going_back": going_back,
            "installed_generation": None,
            "refused": record.refusing(trial.generation, trial.manifest_sha256),
            "attempts": 0,
            "error": error,
        }
    )


def _recover_return(record: Record, facts: Facts) -> Record:
    going_back = record.going_back
    assert going_back is not None, "a return has somewhere to go"
    active = facts.active if record.content(facts.active) is not None else None
    record = record.model_copy(update={"active": active})
    return record if record.content(going_back.slot) is not None else _stay(record, going_back.error, facts)


def _stay(record: Record, error: ErrorReport | None, facts: Facts) -> Record:
    """Stay at what there is, because there is no verified slot to go back to."""
    reason = "ordered" if error is None else error.message
    stays = describe(ErrorCode.NO_SAFE_ROLLBACK, "recovery", f"{reason}; there is no verified version to go back to")
    record = record.model_copy(update={"phase": Phase.FAILED, "going_back": None, "error": stays})
    return _recover_resting(record, facts)


def _recover_resting(record: Record, facts: Facts) -> Record:
    """Keep what served active; if it is damaged, take the other slot and say so."""
    linked = facts.active
    if linked is not None and record.content(linked) is not None:
        previous = record.previous if record.previous != linked and record.content(record.previous) else None
        return record.model_copy(update={"active": linked, "previous": previous})
    had_one = record.active is not None or linked is not None
    if not had_one and record.desired is not None:
        return record.model_copy(update={"active": None})  # what lies there was never permitted to serve
    candidates: tuple[SlotName | None, ...] = (record.previous, _OTHER[linked] if linked else None, "blue", "green")
    left = next((slot for slot in candidates if record.content(slot) is not None), None)
    update: dict[str, object] = {"active": left, "previous": None, "installed_generation": None, "check": None}
    if had_one:
        where = f"{left} serves instead" if left else "and nothing else is verified"
        update["error"] = describe(ErrorCode.INTEGRITY_FAILED, "recovery", f"the active slot is damaged, {where}")
        goes_on = record.phase in IN_PROGRESS and not _is_ordered(record, left)
        update["phase"] = record.phase if goes_on else Phase.FAILED
    return record.model_copy(update=update)


def _is_ordered(record: Record, slot: SlotName | None) -> bool:
    """Say whether a slot holds what the order wants; nobody has permitted it to serve, and nothing is left to do."""
    content, manifest = record.content(slot), record.desired.manifest if record.desired is not None else None
    return content is not None and manifest is not None and content.manifest_sha256 == manifest.sha256

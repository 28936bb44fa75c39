"""What a report takes from each kind of entry: one function each, listed in ``KINDS``."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from orchestrator.reporting.entries import Body, Entry, UnreadableEntryError, media_text
from orchestrator.reporting.folding import Folded, RollbackFold, WaveFold
from orchestrator.reporting.model import ORIGINS, Approval, Decision, Evaluation, Progress, Stop, Verification

_ORDERED: Final[Mapping[str, Progress]] = {"install": "ordered", "rollback": "returning", "hold": "held"}
_PHASE_AFTER: Final = {"await_approval": "awaiting_approval", "await_devices": "awaiting_devices"}
_PLACED: Final = ("device_type", "region", "group")


def _epoch_opened(fold: Folded, _entry: Entry, _body: Body) -> None:
    fold.restarts += fold.is_running


def _announced(fold: Folded, _entry: Entry, body: Body) -> None:
    _place(fold, body.text("device"), body.mapping("info"))


def _imported(fold: Folded, _entry: Entry, body: Body) -> None:
    for device, declared in body.mapping("devices").items():
        if isinstance(declared, dict):
            _place(fold, device, declared)


def _lost(_fold: Folded, _entry: Entry, _body: Body) -> None:
    """Stands in the audit; of the rollout it changes nothing."""


def _place(fold: Folded, device: str, said: Mapping[str, Any]) -> None:
    words = Body.of(said)
    place = fold.places.setdefault(device, {})
    place.update({name: word for name in _PLACED if (word := words.word(name))})
    if device in fold.devices:
        fold.devices[device].update(place)


def _quarantined(fold: Folded, _entry: Entry, body: Body) -> None:
    _quarantine(fold, body.text("device"), body.text("reason", "") or "no reason given")


def _released(fold: Folded, _entry: Entry, body: Body) -> None:
    _quarantine(fold, body.text("device"), "")


def _quarantine(fold: Folded, device: str, reason: str) -> None:
    fold.quarantines[device] = reason
    if device in fold.devices:
        fold.devices[device]["quarantine"] = reason


def _media_noted(fold: Folded, _entry: Entry, body: Body) -> None:
    device = body.text("device")
    fold.media[device] = media_text(body)
    if device in fold.devices:
        fold.devices[device]["media"] = fold.media[device]


def _started(fold: Folded, entry: Entry, body: Body) -> None:
    planned = [Body.of(wave) for wave in Body.of(body.mapping("plan")).items("waves")]
    waves = [(wave.text("name"), wave.names("members")) for wave in planned]
    if not waves:
        raise UnreadableEntryError("the plan has no waves")
    fold.started, fold.started_at, fold.span_since = body, entry.at, entry.at
    fold.waves = [WaveFold(name) for name, _ in waves]
    for number, (_, members) in enumerate(waves):
        fold.join(number, members)


def _joined(fold: Folded, _entry: Entry, body: Body) -> None:
    fold.join(len(fold.waves) - 1, body.names("devices"))


def _staging_started(fold: Folded, _entry: Entry, _body: Body) -> None:
    fold.phase, fold.staged = "staging", set()


def _activated(fold: Folded, entry: Entry, body: Body) -> None:
    fold.activated_at, fold.activated_by = entry.at, body.text("by", "")


def _wave_started(fold: Folded, entry: Entry, body: Body) -> None:
    wave = fold.wave_of(body)
    fold.end_wave(entry.at)
    wave.started_at, wave.ended_at = entry.at, None
    fold.phase, fold.wave = "deploying", int(body.number("wave"))


def _soak_started(fold: Folded, entry: Entry, body: Body) -> None:
    fold.wave_of(body).soak_started_at = entry.at
    fold.phase = "soaking"


def _soak_progressed(fold: Folded, _entry: Entry, body: Body) -> None:
    fold.wave_of(body).soaked_seconds = body.number("soaked_seconds")


def _phase_started(fold: Folded, _entry: Entry, body: Body) -> None:
    fold.waves[0].soaked_seconds = body.number("soaked_seconds")


def _soak_extended(fold: Folded, _entry: Entry, body: Body) -> None:
    fold.wave_of(body).extensions = int(body.number("extension"))


def _judged(fold: Folded, entry: Entry, body: Body) -> None:
    words = {name: body.text(name) for name in ("gate", "verdict", "decision")}
    numbers = {name: int(body.number(name)) for name in ("wave", "devices")}
    phase, checks = body.optional_text("phase"), body.checks("checks")
    try:
        evaluation = Evaluation.model_validate(
            {"seq": entry.seq, "at": entry.at, "phase": phase, "checks": checks, **words, **numbers}
        )
    except ValueError as error:
        raise UnreadableEntryError("it is no verdict") from error
    fold.evaluations.append(evaluation)
    fold.phase = _PHASE_AFTER.get(evaluation.decision, fold.phase)


def _approved(fold: Folded, entry: Entry, body: Body) -> None:
    words = {name: body.text(name, "") for name in ("by", "reason", "plan_digest")}
    fold.approvals.append(Approval(seq=entry.seq, at=entry.at, wave=int(body.number("wave")), **words))


def _paused(fold: Folded, _entry: Entry, _body: Body) -> None:
    fold.is_paused = True


def _resumed(fold: Folded, _entry: Entry, body: Body) -> None:
    for device in body.names("excused"):
        fold.row(device)["excused"] = True
    fold.is_paused = False
    if fold.phase == "halted":
        fold.phase = "deploying" if fold.halted_from == "rolling_back" else fold.halted_from


def _halted(fold: Folded, entry: Entry, body: Body) -> None:
    stop = Stop(seq=entry.seq, at=entry.at, wave=fold.wave, reason=body.text("reason"))
    if fold.phase != "halted":
        fold.halted_from, fold.phase = fold.phase, "halted"
    fold.stops.append(stop)


def _ordered_back(fold: Folded, entry: Entry, body: Body) -> None:
    words = {name: body.text(name, "") for name in ("scope", "trigger", "action", "by", "reason")}
    order = {"seq": entry.seq, "at": entry.at, "wave": fold.wave, "evidence": body.checks("evidence"), **words}
    fold.rollbacks.append(RollbackFold(order, body.names("devices")))
    if words["scope"] == "device":
        for device in body.names("devices"):
            fold.row(device)["failed"] = True
        return
    if fold.ended_at is not None:
        fold.ended_at, fold.span_since = None, entry.at
    fold.end_wave(entry.at)
    fold.phase, fold.is_paused = "rolling_back", False


def _verified(fold: Folded, entry: Entry, body: Body) -> None:
    verification = Verification(
        at=entry.at,
        scope=body.text("scope"),
        verdict=body.text("verdict"),
        healthy=int(body.number("healthy")),
        not_healthy=body.names("not_healthy"),
        not_back=body.names("not_back"),
        checks=body.checks("checks"),
    )
    found = [each for each in fold.rollbacks if each.order["scope"] == verification.scope]
    if not found:
        raise UnreadableEntryError("there was no such rollback")
    found[-1].verification = verification


def _ended(fold: Folded, entry: Entry, body: Body) -> None:
    fold.phase, fold.ended_by, fold.ended_reason = body.text("outcome"), body.text("by", ""), body.text("reason", "")
    fold.ended_at = entry.at
    fold.end_wave(entry.at)


def _frozen(fold: Folded, _entry: Entry, _body: Body) -> None:
    fold.is_frozen = True


def _thawed(fold: Folded, _entry: Entry, _body: Body) -> None:
    fold.is_frozen = False


def _answered(fold: Folded, entry: Entry, body: Body) -> None:
    words = {name: body.text(name, "") for name in ("actor", "verb", "subject", "status", "code", "reason")}
    fold.decisions.append(Decision(seq=entry.seq, at=entry.at, **words))


def _ordered(fold: Folded, entry: Entry, body: Body) -> None:
    action, versions = body.text("action"), body.mapping("devices")
    if action not in _ORDERED:
        raise UnreadableEntryError(f"no action {action}")
    for device, version in versions.items():
        row = fold.row(device)
        row["progress"] = _ORDERED[action]
        if action == "install":
            from_version = version if isinstance(version, str) else None
            attempts = row["attempts"] + (not body.flag("ahead"))
            row.update(from_version=from_version, ordered_at=entry.at, granted_at=None, attempts=attempts)
    back = fold.rollback_of(next(iter(versions), "")) if action == "rollback" else None
    if back is not None:
        back.ordered_at = entry.at


def _staged(fold: Folded, entry: Entry, body: Body) -> None:
    device = body.text("device")
    fold.row(device)["staged_at"] = entry.at
    if fold.staged is not None and fold.activated_at is None:
        fold.staged.add(device)
    _note_fetched(fold.row(device), body)


def _granted(fold: Folded, entry: Entry, body: Body) -> None:
    row = fold.row(body.text("device"))
    if body.text("step") == "activate" and row["progress"] == "ordered":
        row.update(progress="granted", granted_at=entry.at)


def _proven(fold: Folded, _entry: Entry, body: Body) -> None:
    fold.row(body.text("device"))["progress"] = "proven"


def _committed(fold: Folded, entry: Entry, body: Body) -> None:
    row = fold.row(body.text("device"))
    row.update(progress="committed", committed_at=entry.at, to_version=body.text("version"))
    if row.get("granted_at") is not None:
        row["install_seconds"] = round(entry.at - row["granted_at"], 3)
    _note_fetched(row, body)


def _note_fetched(row: dict[str, Any], body: Body) -> None:
    """Note where everything came from; a later order that found it in standby says nothing of it."""
    for origin in ORIGINS:
        count = body.optional_mapping("fetched").get(origin)
        if isinstance(count, int):
            row[f"from_{origin}_bytes"] = count


def _failed(fold: Folded, entry: Entry, body: Body) -> None:
    row = fold.row(body.text("device"))
    row.update(
        progress="stranded" if row["progress"] == "returning" else "failed",
        failed=True,
        failed_at=entry.at,
        code=body.text("code"),
        message=body.text("message", ""),
        to_version=body.optional_text("version"),
    )


def _retried(fold: Folded, _entry: Entry, body: Body) -> None:
    fold.row(body.text("device")).update(progress="pending", failed=False)


def _skipped(fold: Folded, _entry: Entry, body: Body) -> None:
    fold.row(body.text("device"))["progress"] = "skipped"


def _returned(fold: Folded, entry: Entry, body: Body) -> None:
    device = body.text("device")
    fold.row(device).update(progress="returned", returned_at=entry.at, to_version=body.text("version"))
    back = fold.rollback_of(device)
    if back is not None:
        back.back[device] = entry.at


KINDS: Final[Mapping[str, Callable[[Folded, Entry, Body], None]]] = {
    "connections_lost": _lost,
    "epoch_opened": _epoch_opened,
    "device_announced": _announced,
    "devices_imported": _imported,
    "device_quarantined": _quarantined,
    "device_released": _released,
    "media_noted": _media_noted,
    "rollout_started": _started,
    "devices_joined": _joined,
    "staging_started": _staging_started,
    "rollout_activated": _activated,
    "wave_started": _wave_started,
    "devices_ordered": _ordered,
    "device_staged": _staged,
    "grant_issued": _granted,
    "device_proven": _proven,
    "device_committed": _committed,
    "device_failed": _failed,
    "device_retried": _retried,
    "device_skipped": _skipped,
    "device_returned": _returned,
    "soak_started": _soak_started,
    "soak_progressed": _soak_progressed,
    "soak_extended": _soak_extended,
    "canary_phase_started": _phase_started,
    "gate_judged": _judged,
    "rollout_approved": _approved,
    "rollout_paused": _paused,
    "rollout_resumed": _resumed,
    "rollout_halted": _halted,
    "rollback_ordered": _ordered_back,
    "rollback_verified": _verified,
    "rollout_ended": _ended,
    "fleet_frozen": _frozen,
    "fleet_thawed": _thawed,
    "command_answered": _answered,
}
"""Every kind that is understood; others are shown in the audit and counted as unread."""

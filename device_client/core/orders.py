"""Orders: which are accepted, and what a device does about one. Level, not edge.

Only a higher generation, of no older epoch, is a new order. The same generation may be written again (another address,
a new epoch) but never for another target. ``pursue`` looks at the order and at what the device has, and takes the next
step; it is called for a new order, after a restart, and when something that an order had to wait for is over.

An order from a medium (``media``) stands in the same place and is pursued in the same way. What comes over the bus
wins: a higher generation, and also the same one once more, if a medium took its place before its end.

A trial ends before a newer order is followed, by the local rule, since nobody answers for its generation any more. Only
a rollback is followed at once, and even then the fallback stays armed until the permission is there.
"""

from dataclasses import replace

from device_client.core.asking import window_of
from device_client.core.codes import ErrorCode, describe
from device_client.core.effects import CancelStep, ClearStaging, Effect, PublishReported
from device_client.core.events import DesiredReceived
from device_client.core.installing import PREPARING, prepare
from device_client.core.machine import ASKING, CHANGING, Phase, Signal
from device_client.core.revoking import is_outdated, is_revoked
from device_client.core.state import NOTHING, Device, Outcome, move, note, report
from schemas.messages import Desired, ManifestRef


def on_desired(device: Device, event: DesiredReceived) -> Outcome:
    """Accept an order, or show that nothing is new about it."""
    desired, record = event.desired, device.record
    known = record.desired
    epoch = max(record.marks.epoch, 0 if known is None else known.epoch)
    if desired.epoch < epoch or desired.generation < record.marks.generation:
        return device, NOTHING
    owes = record.media is not None and record.media.owes
    if known is not None and desired.generation == known.generation and not owes:
        if event.sha256 == record.desired_sha256:
            return device, (PublishReported(report(device)),)
        if record.media is not None or _target(desired) != _target(known):
            return device, NOTHING
        device = replace(device, question=None, ask_at=None)  # a grant must name the bytes as they are now
        return note(device, desired=desired, desired_sha256=event.sha256)
    marks = record.marks.model_copy(update={"generation": desired.generation})
    accepted = record.model_copy(
        update={
            "desired": desired,
            "desired_sha256": event.sha256,
            "media": None,
            "media_refused": (),
            "marks": marks,
            "attempts": record.attempts if record.phase in CHANGING else 0,
            "waits": 0,
            "fetched": None,
            "deferred": True,
        }
    )
    device = replace(device, record=accepted, question=None, ask_at=None, asked_count=0)
    return note(device) if record.phase in CHANGING else pursue(device)


def pursue_if_deferred(device: Device) -> Outcome:
    """Follow an order that had to wait, if it need not wait any longer."""
    record = device.record
    if not record.deferred or record.phase in CHANGING:
        return device, NOTHING
    if record.phase is Phase.TRIAL and not _leads_away(device) and _is_superseded(device):
        return device, NOTHING
    return pursue(device)


def pursue(device: Device) -> Outcome:
    """Take the next step towards the order, from any phase in which nothing is being changed."""
    desired = device.record.desired
    assert desired is not None, "only an order is pursued"
    device, dropped = _drop(device)
    if device.record.trial is not None and not _leads_away(device):
        device, effects = _finish_trial_first(device, desired)
    elif desired.action == "install":
        device, effects = _install(device, desired)
    elif desired.action == "rollback":
        device, effects = _roll_back(device, desired)
    else:
        device, effects = _settle(device)
    return device, (*dropped, *effects)


def _target(desired: Desired) -> tuple[str, str, str, str | None]:
    return desired.action, desired.release, desired.version, _digest(desired.manifest)


def _digest(manifest: ManifestRef | None) -> str | None:
    return None if manifest is None else manifest.sha256


def _leads_away(device: Device) -> bool:
    """Say whether the order is a rollback to a version that is there and does not serve."""
    record = device.record
    if record.desired is None or record.desired.action != "rollback":
        return False
    slot = record.slot_holding(record.desired.version)
    return slot not in (None, record.active) and not is_revoked(device, record.content(slot))


def _is_superseded(device: Device) -> bool:
    trial = device.record.trial
    return trial is not None and trial.commit_on == "local_health"


def _drop(device: Device) -> Outcome:
    """Stop preparing for an order that is not the present one any more."""
    cancelled: tuple[Effect, ...] = (CancelStep(),) if device.phase in PREPARING and device.step is not None else ()
    step = None if device.phase in PREPARING else device.step
    retry_at = device.retry_at if device.phase is Phase.TRIAL else None
    return replace(device, step=step, retry_at=retry_at, question=None, ask_at=None, asked_count=0), cancelled


def _finish_trial_first(device: Device, desired: Desired) -> Outcome:
    trial = device.record.trial
    assert trial is not None, "the caller has seen a trial"
    if trial.generation != device.record.order_number:
        trial = trial.model_copy(update={"commit_on": "local_health"})
    return move(device, Signal.TRIAL_RESUMED, trial=trial, deferred=desired.action != "hold")


def _install(device: Device, desired: Desired) -> Outcome:
    record = device.record
    problem = _problem(desired)
    if problem is not None:
        return _refuse(device, ErrorCode.INVALID_ORDER, problem)
    sha256 = _digest(desired.manifest)
    assert sha256 is not None, "an install without a manifest has a problem"
    if record.is_refused(record.order_number, sha256):
        return _refuse(device, ErrorCode.REFUSED_RELEASE, f"{desired.release} failed here under this order")
    serving, prepared = record.serving, record.content(record.standby)
    if serving is not None and serving.manifest_sha256 == sha256:
        return move(device, Signal.SETTLED, error=None, deferred=False)
    if prepared is not None and prepared.manifest_sha256 != sha256:
        prepared = None
    if is_revoked(device, prepared) or (device.root is not None and desired.release in device.root.revoked):
        return _refuse(device, ErrorCode.REVOKED, f"{desired.release} is revoked")
    if prepared is None or is_outdated(device, prepared):
        return prepare(device, Signal.INSTALL_ORDERED, error=None, deferred=False)
    is_downgrade = serving is not None and prepared.release_counter < serving.release_counter
    if is_downgrade and record.previous != record.standby:
        return _refuse(device, ErrorCode.DOWNGRADE, f"{desired.release} is older than what serves")
    return prepare(device, Signal.FOUND_IN_STANDBY, error=None, deferred=False)


def _problem(desired: Desired) -> str | None:
    """Return what makes an install order impossible to follow."""
    if desired.manifest is None or desired.artifact is None:
        return "an install needs manifest and artifact"
    try:
        window_of(desired)
    except ValueError as error:
        return f"not_before or not_after: {error}"
    return None


def _roll_back(device: Device, desired: Desired) -> Outcome:
    record = device.record
    slot = record.slot_holding(desired.version)
    if slot != record.active and is_revoked(device, record.content(slot)):
        return _refuse(device, ErrorCode.REVOKED, f"{desired.version} is revoked; no order brings it back")
    if slot is None:
        return _refuse(device, ErrorCode.NO_SAFE_ROLLBACK, f"no verified slot holds {desired.version}")
    if slot == record.active:
        return _settle(device)
    return move(device, Signal.ROLLBACK_ORDERED, error=None, deferred=False)


def _settle(device: Device) -> Outcome:
    """Let what serves serve. A device that has come back by itself keeps saying so, and why."""
    if device.phase is Phase.ROLLED_BACK:
        return note(device, deferred=False)
    was_preparing = device.phase in PREPARING | ASKING
    device, told = move(device, Signal.SETTLED, error=None, deferred=False)
    return device, (*told, ClearStaging()) if was_preparing else told


def _refuse(device: Device, code: ErrorCode, message: str) -> Outcome:
    error = describe(code, "order", message)
    device, told = move(device, Signal.GAVE_UP, error=error, deferred=False)
    return device, (*told, ClearStaging())

"""What must hold of a device after every step, whatever happened to it.

Each invariant is a function of one step, the ground truth and the journal; it returns what is wrong, or None.
"""

from collections.abc import Callable, Mapping
from typing import Final

from device_client.core.events import DesiredReceived, GrantReceived
from device_client.core.machine import ASKING, Phase
from schemas.messages import Grant
from simulator.disk_invariants import disk_is_bounded, only_standby_changes
from simulator.ledger import Ledger
from simulator.truth import DeviceStep, DeviceTruth

_GRANTED: Final = frozenset({Phase.DRAINING, Phase.SWITCHING})
DeviceInvariant = Callable[[DeviceStep, DeviceTruth, Ledger, float], str | None]


def one_active_verified_slot(step: DeviceStep, _truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """INV-1: exactly one slot is active, and it is verified."""
    active = step.disk.active
    if active is None or not step.disk.slots[active].is_verified:
        return f"the active slot {active} is not verified"
    return None


def fallback_is_kept(step: DeviceStep, truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """INV-3: while something is on trial, the slot to go back to stays as it was."""
    if step.now.trial is None or truth.fallback is None:
        return None
    name, write_count = truth.fallback
    slot = step.disk.slots[name]
    return None if slot.is_verified and slot.write_count == write_count else f"the fallback {name} was touched"


def commit_only_after_health(step: DeviceStep, truth: DeviceTruth, _ledger: Ledger, now: float) -> str | None:
    """INV-4: a version is committed only after enough health of this very version, and after its round trip."""
    trial, record = step.was.trial, step.now
    if trial is None or record.trial is not None or record.phase is not Phase.IDLE or record.active != trial.slot:
        return None
    serving = record.serving
    if serving is None or truth.well_version != serving.version:
        return f"committed without health of what serves, seen was {truth.well_version}"
    if truth.successes < serving.health_check.success_threshold:
        return f"committed after {truth.successes} successes"
    if now - truth.well_since < trial.min_ready_seconds:
        return f"committed after {now - truth.well_since:.0f} s of health"
    grant = accepted_grant(step)
    if trial.commit_on == "round_trip" and (grant is None or (grant.step, grant.decision) != ("commit", "go")):
        return "committed without a round trip"
    return None


def local_autonomy(step: DeviceStep, _truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """INV-5: what is not committed by its deadline does not stay on trial."""
    trial = step.now.trial
    if step.after is None or trial is None or step.now.phase is not Phase.TRIAL:
        return None
    late = step.boot_now - trial.deadline_at
    return f"on trial {late:.0f} s after the deadline" if late > 0 else None


def no_way_back_to_what_failed(step: DeviceStep, truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """INV-6: what was rolled back is not activated again under the same generation."""
    trial = step.now.trial
    if trial is None or step.was.active == step.now.active or step.now.active != trial.slot:
        return None
    again = (trial.generation, trial.manifest_sha256) in truth.turned_back
    return f"activated again under generation {trial.generation}" if again else None


def epochs_never_fall(step: DeviceStep, truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """INV-13: no grant of an older epoch is accepted."""
    grant = accepted_grant(step)
    return f"accepted epoch {grant.epoch} after {truth.epoch}" if grant and grant.epoch < truth.epoch else None


def no_replay(step: DeviceStep, truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """INV-14: a grant is used once, by the device and for the question it answers, in time."""
    grant = accepted_grant(step)
    if grant is None:
        return None
    if (grant.epoch, grant.seq) <= (truth.epoch, truth.seq):
        return f"accepted number {grant.seq} after {truth.seq}"
    if grant.nonce in truth.used or grant.nonce not in truth.asked or grant.device != step.device:
        return f"accepted an answer to a question it did not ask, or twice: {grant.nonce}"
    ready, asked_at = truth.asked[grant.nonce]
    if (ready.generation, ready.step) != (grant.generation, grant.step):
        return f"accepted an answer about generation {grant.generation} to one about {ready.generation}"
    age = step.boot_now - asked_at
    return f"accepted an answer after {age:.0f} s" if not 0 <= age <= grant.ttl_seconds else None


def no_change_without_grant(step: DeviceStep, _truth: DeviceTruth, ledger: Ledger, _now: float) -> str | None:
    """INV-15 and INV-16: a change as ordered has its grant in the journal, for this generation."""
    grant = accepted_grant(step)
    if grant is None:
        left = step.was.phase in ASKING and step.now.phase in _GRANTED
        return "went on without a grant" if left else None
    if grant.decision == "wait":
        return None
    entry = ledger.grants.get((step.device, grant.nonce))
    if entry is None:
        return f"grant {grant.seq} is not in the journal"
    if entry.body["generation"] != step.now.generation:
        return f"grant for generation {entry.body['generation']} used for {step.now.generation}"
    return None


def no_order_before_its_entry(step: DeviceStep, _truth: DeviceTruth, ledger: Ledger, _now: float) -> str | None:
    """INV-16: what a device is told stands in the journal already."""
    if not isinstance(step.event, DesiredReceived):
        return None
    generation = step.event.desired.generation
    known = (step.device, generation) in ledger.ordered
    return None if known else f"generation {generation} reached it and is not in the journal"


def generations_never_fall(step: DeviceStep, _truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """INV-15: no retained or queued order takes a device back to an older one."""
    was, now = step.was.generation, step.now.generation
    return f"generation fell from {was} to {now}" if now < was else None


def nothing_happens_that_was_not_remembered(
    step: DeviceStep, _truth: DeviceTruth, _ledger: Ledger, _now: float
) -> str | None:
    """INV-1: the link changes only when the record says so, or a power cut could not be survived."""
    active, record = step.disk.active, step.disk.record
    if active == record.active or record.session == 0 or record.phase in (Phase.SWITCHING, Phase.ROLLING_BACK):
        return None
    is_known_damaged = active is not None and record.content(active) is None and not step.disk.slots[active].is_whole
    if is_known_damaged and (record.active is None or step.after is None):
        return None  # nothing else is whole, or the agent has ended before it could lead the link to what is
    return f"{active} serves and the record, {record.phase}, says {record.active}"


def brake_holds(step: DeviceStep, _truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """The brake: while a device knows of it, it activates no install."""
    starts = step.was.phase in ASKING and step.now.phase in _GRANTED
    return "activated under the brake" if starts and step.before.hold else None


def consent_is_waited_for(step: DeviceStep, _truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """Where somebody at the device must agree to an install, nothing is activated before."""
    starts = step.was.phase in ASKING and step.now.phase in _GRANTED
    agreed = not step.before.setup.needs_consent or step.was.consent == step.was.generation
    return "activated without consent" if starts and not agreed else None


def no_downgrade(step: DeviceStep, _truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """INV-23: a release counter falls only by a rollback."""
    if step.now.phase is not Phase.TRIAL or step.was.phase is not Phase.SWITCHING:
        return None
    old, new = step.was.serving, step.now.serving
    if old is None or new is None or new.release_counter >= old.release_counter:
        return None
    return f"from counter {old.release_counter} to {new.release_counter}"


def nothing_revoked_goes_on(step: DeviceStep, _truth: DeviceTruth, _ledger: Ledger, _now: float) -> str | None:
    """INV-23: what the device knows to be revoked is neither brought into service nor committed."""
    root, serving, trial = step.before.root, step.now.serving, step.was.trial
    if root is None or serving is None or not root.revokes(serving.release, serving.release_counter):
        return None
    if step.now.phase is Phase.TRIAL and step.was.phase is Phase.SWITCHING:
        return f"{serving.release} goes on trial and is revoked by root {root.version}"
    commits = trial is not None and step.now.trial is None and step.now.active == trial.slot
    return f"{serving.release} is committed and revoked by root {root.version}" if commits else None


def accepted_grant(step: DeviceStep) -> Grant | None:
    """Return the grant that this step has accepted."""
    if not isinstance(step.event, GrantReceived) or step.was.marks == step.now.marks:
        return None
    return step.event.grant


DEVICE_INVARIANTS: Final[Mapping[str, DeviceInvariant]] = {
    "INV-1 one active verified slot": one_active_verified_slot,
    "INV-1 the record leads": nothing_happens_that_was_not_remembered,
    "INV-3 fallback kept": fallback_is_kept,
    "INV-4 commit only after health": commit_only_after_health,
    "INV-5 local autonomy": local_autonomy,
    "INV-6 no way back to what failed": no_way_back_to_what_failed,
    "INV-13 epochs": epochs_never_fall,
    "INV-14 no replay": no_replay,
    "INV-15 no change without a grant": no_change_without_grant,
    "INV-15 generations": generations_never_fall,
    "INV-16 journal first": no_order_before_its_entry,
    "INV-23 no downgrade": no_downgrade,
    "INV-23 nothing revoked": nothing_revoked_goes_on,
    "INV-24 only standby changes": only_standby_changes,
    "INV-24 disk is bounded": disk_is_bounded,
    "brake": brake_holds,
    "consent": consent_is_waited_for,
}

"""What a device's own words mean for the rollout it is in.

Reports are levels: repeated, late and out of order they change nothing twice. Only the generation that was ordered last
counts, and only a change becomes a fact.
"""

from typing import Final

from orchestrator.core import events as e
from orchestrator.core.enrolment import OPEN, Enrolment
from orchestrator.core.grants import Wait, WaitReason
from orchestrator.core.inventory import Device, lasting
from orchestrator.core.media import follows_media, note_of
from orchestrator.core.members import Member, Progress
from orchestrator.core.orders import order
from orchestrator.core.overdue import retry
from orchestrator.core.rollout import TERMINAL, WATCHING, Phase, Rollout
from orchestrator.core.state import State
from schemas.messages import Fetched, Info, Ready, Reported
from schemas.pieces import MQTT_BASE

_BEFORE_ASKING: Final = frozenset({"fetch", "before_install"})
"""Steps at which a device may wait that has nothing ready yet: for its hours to fetch, or for a hook."""


def decide_announced(state: State, name: str, info: Info, enrolment: Enrolment = OPEN) -> list[e.AnyEvent]:
    """Register a new device that may enrol, or note that what it is has changed."""
    known = state.devices.get(name)
    if known is not None and known.said == lasting(info):
        return []
    if known is None and not enrolment.admits(name, info):
        return []
    return [e.DeviceAnnounced(device=name, info=info)]


def decide_proven(state: State, name: str, wait: Wait) -> list[e.AnyEvent]:
    """Note that a device which may not commit yet has come so far that only its wave's gate is missing."""
    device = state.devices[name]
    if wait.reason is not WaitReason.GATE_PENDING or device.rollout is None:
        return []
    rollout = state.rollouts[device.rollout]
    if rollout.members[name].progress is not Progress.GRANTED:
        return []
    return [e.DeviceProven(rollout=rollout.id, device=name, generation=device.generation)]


def decide_withdrawn(state: State, name: str, ready: Ready, wait: Wait) -> list[e.AnyEvent]:
    """Take back the order of a device that asks to begin when its rollout is over: its grant was lost on the way."""
    device = state.devices[name]
    if wait.reason is not WaitReason.ROLLOUT_STOPPED or ready.step != "activate" or device.rollout is None:
        return []
    rollout = state.rollouts[device.rollout]
    if rollout.phase not in TERMINAL or rollout.members[name].progress is not Progress.GRANTED:
        return []
    return order(state, rollout, "hold", [name])


def decide_reported(state: State, name: str, reported: Reported, now: float) -> list[e.AnyEvent]:
    """Turn a report on the current order into a fact, if it says something new; and what a medium has brought."""
    device = state.devices.get(name)
    if device is None:
        return []
    note = note_of(reported)
    noted: list[e.AnyEvent] = [] if note == device.media else [e.MediaNoted(device=name, note=note)]
    return [*noted, *_followed(state, device, reported, now)]


def _followed(state: State, device: Device, reported: Reported, now: float) -> list[e.AnyEvent]:
    """Return what a report says of the current order; one about an order from a medium says nothing of it."""
    name = device.id
    if device.rollout is None or reported.observed_generation != device.generation or follows_media(reported):
        return []
    rollout = state.rollouts[device.rollout]
    member = rollout.members[name]
    match device.action:
        case "install":
            return _installed(device, rollout, member, reported, now)
        case "rollback":
            return _returned(device, rollout, member, reported)
        case _:
            return _went_on_anyway(device, rollout, member, reported)


def _installed(device: Device, rollout: Rollout, member: Member, reported: Reported, now: float) -> list[e.AnyEvent]:
    target = rollout.release.version
    if reported.state == "idle" and reported.installed_version == target:
        return [] if member.progress is Progress.COMMITTED else [_committed(device, rollout, reported)]
    is_told = member.progress in {Progress.FAILED, Progress.PENDING}  # pending: it has yet to be ordered another try
    is_news = not is_told or (member.is_lost and reported.installed_version is not None)
    if reported.state in {"failed", "rolled_back"} and is_news:
        if _may_pass(rollout, member, reported):
            return [retry(rollout, device.id, reported.error.code if reported.error else reported.state, now)]
        return [_failed(device, rollout, reported), _quarantine(device, reported)]
    if member.progress is Progress.ORDERED and member.is_ahead and not member.is_staged and is_prepared(reported):
        return [
            e.DeviceStaged(
                rollout=rollout.id,
                device=device.id,
                generation=device.generation,
                fetched=_fetched(device, rollout, reported),
            )
        ]
    return []


def is_prepared(reported: Reported) -> bool:
    """Say whether standby holds the order, verified; who waits may wait for something before that."""
    waits_for_more = reported.error is not None and reported.error.step in _BEFORE_ASKING
    return reported.state == "ready" or (reported.state == "waiting" and not waits_for_more)


def _may_pass(rollout: Rollout, member: Member, reported: Reported) -> bool:
    """Say whether it is worth another try: nothing was switched, and the device says that it may go better."""
    is_retryable = reported.error is not None and reported.error.retryable
    has_tries = member.attempts < rollout.policy.rollout.global_.max_retries
    is_active = rollout.phase in {*WATCHING, Phase.STAGING, Phase.DEPLOYING}
    return is_retryable and has_tries and is_active and member.progress is Progress.ORDERED


def _returned(device: Device, rollout: Rollout, member: Member, reported: Reported) -> list[e.AnyEvent]:
    if member.progress not in {Progress.RETURNING, Progress.STRANDED}:
        return []
    is_known = reported.installed_version is not None or member.from_version is None
    is_old = is_known and reported.installed_version != rollout.release.version
    if reported.state in {"idle", "rolled_back"} and is_old:
        version = reported.installed_version or "unknown"
        return [e.DeviceReturned(rollout=rollout.id, device=device.id, generation=device.generation, version=version)]
    if reported.state == "failed" and member.progress is Progress.RETURNING:
        return [_failed(device, rollout, reported), _quarantine(device, reported)]
    return []


def _went_on_anyway(device: Device, rollout: Rollout, member: Member, reported: Reported) -> list[e.AnyEvent]:
    """A held device that runs the new version all the same had its grant before: it is deployed."""
    target = rollout.release.version
    if member.progress is Progress.HELD and reported.state == "idle" and reported.installed_version == target:
        return [_committed(device, rollout, reported)]
    return []


def _committed(device: Device, rollout: Rollout, reported: Reported) -> e.DeviceCommitted:
    return e.DeviceCommitted(
        rollout=rollout.id,
        device=device.id,
        generation=device.generation,
        version=rollout.release.version,
        fetched=_fetched(device, rollout, reported),
    )


def _fetched(device: Device, rollout: Rollout, reported: Reported) -> dict[str, int] | None:
    return None if reported.fetched is None else _by_origin(rollout, device, reported.fetched)


def _by_origin(rollout: Rollout, device: Device, fetched: Fetched) -> dict[str, int]:
    """Sum up what a device fetched by what its sources are."""
    found = {"slots": fetched.slots, "peers": fetched.peers, "cache": 0, "registry": 0, "mqtt": 0}
    origins = {rollout.registry_url: "registry", MQTT_BASE: "mqtt"}
    for base, count in zip(rollout.bases(rollout.members[device.id].site), fetched.sources, strict=False):
        found[origins.get(base, "cache")] += count
    return {origin: count for origin, count in found.items() if count}


def _failed(device: Device, rollout: Rollout, reported: Reported) -> e.DeviceFailed:
    error = reported.error
    return e.DeviceFailed(
        rollout=rollout.id,
        device=device.id,
        generation=device.generation,
        code=error.code if error else reported.state,
        message=error.message if error else "",
        version=reported.installed_version,
    )


def _quarantine(device: Device, reported: Reported) -> e.DeviceQuarantined:
    code = reported.error.code if reported.error else reported.state
    return e.DeviceQuarantined(device=device.id, by="orchestrator", reason=code)

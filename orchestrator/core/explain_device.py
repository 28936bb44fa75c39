"""Why one device is where it is: what it runs, what it was ordered, and what it waits for."""

from math import inf
from typing import Any, Final

from orchestrator.core.allowed import allowed_verbs
from orchestrator.core.explain_floor import floor_choices, floor_told
from orchestrator.core.explanation import VERB_EFFECTS, Awaited, Choice, Explanation, Step
from orchestrator.core.grants import Wait, WaitReason, decide_grant
from orchestrator.core.inventory import Device
from orchestrator.core.media import MediaNote
from orchestrator.core.members import DEPLOYED, Member, Progress
from orchestrator.core.own_waits import OwnWait
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from schemas.messages import Ready
from schemas.times import format_timestamp

_TEXT_MAX: Final = 1000
_NONCE: Final = "0" * 32
"""Of a question that nobody asked: what would be answered now."""

WAITS: Final[dict[WaitReason, str]] = {
    WaitReason.UNKNOWN_DEVICE: "the orchestrator does not know it",
    WaitReason.NOTHING_ORDERED: "nothing was ordered",
    WaitReason.STALE_GENERATION: "it asks about an order that is no longer current",
    WaitReason.SETTLING: "the orchestrator has just connected and first hears who is there",
    WaitReason.HOLD: "somebody set all/hold",
    WaitReason.FROZEN: "the orchestrator decides nothing while so much of the fleet is silent",
    WaitReason.OUTSIDE_WINDOW: "its maintenance window is closed",
    WaitReason.PAUSED: "the rollout is paused",
    WaitReason.ROLLOUT_STOPPED: "the rollout was stopped",
    WaitReason.NOT_ACTIVATED: "nobody has activated the rollout; it has its order to be ready for that",
    WaitReason.WAVE_NOT_OPEN: "its wave has not begun",
    WaitReason.QUARANTINED: "it is in quarantine",
    WaitReason.NOT_ELIGIBLE: "its order is not to install",
    WaitReason.CAPACITY: "as many devices as allowed install at once (max_parallel_deploys)",
    WaitReason.AVAILABILITY: "as many devices as allowed are out of service (max_unavailable, min_available)",
    WaitReason.TOO_FEW_HEALTHY: "too few healthy devices would be left (min_available)",
    WaitReason.GATE_PENDING: "the gate of its wave has not passed",
    WaitReason.REPEATED: "this question was answered; it asks again with a new one",
}
"""What a device is told to wait for, in words."""

_PLACES: Final[dict[Progress, str]] = {
    Progress.PENDING: "waits for its wave",
    Progress.ORDERED: "was ordered the new version and has not been let go",
    Progress.GRANTED: "was let go and has not said how it ended",
    Progress.RETURNING: "was ordered back",
    Progress.HELD: "was told to stay as it is",
    Progress.PROVEN: "runs the new version well and waits for its wave's gate",
    Progress.COMMITTED: "runs the new version and has proven its health",
    Progress.FAILED: "failed",
    Progress.RETURNED: "is back on what it ran before",
    Progress.STRANDED: "was ordered back and could not: somebody must look at it",
    Progress.SKIPPED: "was left out by a person",
}


def explain_device(state: State, rollout: Rollout | None, device: str, now: float) -> dict[str, Any]:
    """Say why ``device`` is where it is, as the JSON of an ``Explanation``.

    Args:
        state: Holds the device; ``KeyError`` if it does not.
        rollout: The one that is asked about; None means the one whose order the device holds.
        device: Its id.
        now: Seconds since the epoch.
    """
    known = state.devices[device]
    asked = rollout if rollout is not None or known.rollout is None else state.rollouts[known.rollout]
    member = asked.members.get(device) if asked is not None else None
    place = "belongs to no rollout" if asked is None else f"is no target of {asked.id}"
    if asked is not None and member is not None:
        place = f"{_PLACES[member.progress]} ({asked.plan.waves[member.wave].name} of {asked.id})"
    explanation = Explanation(
        summary=f"{device} {place}; it runs {known.version or 'nobody knows what'}"[:_TEXT_MAX],
        why=tuple(_why(known, asked, member)),
        awaited=_awaited(state, known, asked, member, now),
        next=_next(state, known, asked, member),
        facts=_facts(known, asked, member),
    )
    return explanation.model_dump(mode="json")


def _connection(device: Device) -> str:
    now = "online" if device.is_online else "offline"
    return now if device.trouble_at == -inf else f"{now}, last lost {format_timestamp(device.trouble_at)}"


def _facts(device: Device, rollout: Rollout | None, member: Member | None) -> dict[str, str]:
    info = device.info
    facts = {
        "device": f"{info.device_type}, {info.arch}, {info.region}, group {info.group}",
        "runs": device.version or "unknown",
        "connection": _connection(device),
    }
    if rollout is not None and member is not None:
        facts["wave"] = rollout.plan.waves[member.wave].name
        facts["ran before"] = member.from_version or "unknown"
        facts["shall run"] = rollout.release.version
    if device.rollout is not None:
        facts["last order"] = f"{device.action}, generation {device.generation}, by {device.rollout}"
    if device.is_online and device.is_unwell:
        why = "its last good sample says so" if device.is_ill else "no sample came though one should have"
        facts["health"] = f"not seen to be healthy: {why}"
    if device.media is not None:
        facts |= _of_media(device.media)
    if device.quarantine:
        facts["quarantine"] = device.quarantine[:_TEXT_MAX]
    return facts


def _of_media(note: MediaNote) -> dict[str, str]:
    found = {"media": note.text} if note.text else {}
    if note.refused is not None:
        which = "an order" if note.refused.order is None else f"order {note.refused.order}"
        found["refused"] = f"{which} on media: {note.refused.code}: {note.refused.message}"[:_TEXT_MAX]
    return found


def _why(device: Device, rollout: Rollout | None, member: Member | None) -> list[Step]:
    steps = []
    if rollout is not None and member is not None:
        steps += _course(rollout, member)
        reason = rollout.plan.chosen.get(device.id)
        if reason:
            steps.insert(0, Step(text=f"it was chosen for the canary: {reason}"[:_TEXT_MAX]))
    elif rollout is not None:
        left_out = _exclusion(rollout, device.id) or "it was not known then"
        steps.append(Step(text=f"it was left out of the plan: {left_out}"[:_TEXT_MAX]))
    if device.rollout is not None and rollout is not None and device.rollout != rollout.id:
        steps.append(Step(text=f"{device.rollout} has ordered it since"))
    if device.quarantine:
        steps.append(Step(text=f"it is in quarantine: {device.quarantine}"[:_TEXT_MAX]))
    return steps


def _exclusion(rollout: Rollout, device: str) -> str | None:
    """Find why a device is in no wave."""
    return next((why for why, names in rollout.plan.excluded.items() if device in names), None)


def _course(rollout: Rollout, member: Member) -> list[Step]:
    """What happened to it in the rollout, as far as it is kept."""
    steps = []
    if member.ordered_at:
        steps.append(
            Step(at=format_timestamp(member.ordered_at), text=f"its last order, generation {member.generation}")
        )
    if member.granted_at is not None:
        steps.append(Step(at=format_timestamp(member.granted_at), text="it was let go"))
    if member.attempts:
        steps.append(Step(text=f"it was tried again {member.attempts} times"))
    if member.failed:
        settled = member.settled_at
        at = None if settled != settled else format_timestamp(settled)  # noqa: PLR0124 - NaN is not equal to itself
        excused = " (excused by a person)" if member.excused else ""
        steps.append(Step(at=at, text=f"it failed: {member.error or 'rolled back'}{excused}"[:_TEXT_MAX]))
    if member.is_lost:
        steps.append(Step(text=f"nobody knows whether it runs {rollout.release.version}"))
    return steps


def _awaited(
    state: State, device: Device, rollout: Rollout | None, member: Member | None, now: float
) -> Awaited | None:
    if rollout is None or member is None or device.rollout != rollout.id:
        return None
    limit = rollout.policy.rollout.global_.deploy_timeout_seconds
    own = state.own_wait(device)
    if member.granted_at is not None and member.progress in {Progress.GRANTED, Progress.RETURNING}:
        return _own(own, "how it ends", by=format_timestamp(member.granted_at + limit))
    if member.progress is Progress.PENDING:
        later = member.retry_at > now
        return Awaited(text=WAITS[WaitReason.QUARANTINED] if device.quarantine else "its order",
                       by=format_timestamp(member.retry_at) if later else None)  # fmt: skip
    if member.progress not in {Progress.ORDERED, Progress.RETURNING, Progress.PROVEN}:
        return None
    if not device.is_online:
        return Awaited(text="it is offline; its order waits for it at the broker")
    ready = Ready(
        generation=device.generation, step="commit" if member.progress in DEPLOYED else "activate", nonce=_NONCE
    )
    answer = decide_grant(state, device.id, ready, now=now)
    if isinstance(answer, Wait):
        by = None if answer.seconds is None else format_timestamp(now + answer.seconds)
        told = f"{WAITS[answer.reason]} ({answer.reason.value})"
        told += f": {floor_told(rollout)}" if answer.reason is WaitReason.TOO_FEW_HEALTHY else ""
        return _own(own, told, by=by)
    if own is not None:
        return _own(own)
    asks = "its question is answered with a go" if device.is_asking else "it fetches and prepares, then asks"
    return Awaited(text=f"nothing holds it: {asks}")


def _own(wait: OwnWait | None, then: str = "", by: str | None = None) -> Awaited:
    """What a device waits for of its own, and ``then``, which is awaited as well."""
    if wait is None:
        return Awaited(text=then, by=by)
    text = f"{wait.text}; and then: {then}" if then else wait.text
    return Awaited(text=text, by=by, since=format_timestamp(wait.since), help=wait.help)


def _next(state: State, device: Device, rollout: Rollout | None, member: Member | None) -> tuple[Choice, ...]:
    found = [] if rollout is None or member is None else _of_member(state, device, rollout, member)
    if device.quarantine:
        found.append(Choice(command=f"tidegate release-device {device.id}", effect="let it into waves again"))
    else:
        found.append(Choice(command=f"tidegate quarantine {device.id}", effect="keep it out of all waves"))
    return tuple(found)


def _of_member(state: State, device: Device, rollout: Rollout, member: Member) -> list[Choice]:
    allowed, found = allowed_verbs(state, rollout), []
    is_ordered = member.progress is Progress.ORDERED and device.rollout == rollout.id
    has_failed = member.progress is Progress.FAILED and not member.is_lost
    if has_failed and "retry" in allowed:
        found.append(Choice(command=f"tidegate retry {rollout.id} {device.id}", effect="order it again"))
    if (has_failed or (is_ordered and state.own_wait(device) is not None)) and "skip" in allowed:
        found.append(Choice(command=f"tidegate skip {rollout.id} {device.id}", effect=VERB_EFFECTS["skip"]))
    return [*found, *floor_choices(rollout)] if is_ordered and not device.is_unwell else found

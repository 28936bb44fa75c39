"""One device's fact applied to many: the same columns as ``evolve`` leaves when it is told of each of them."""

import numpy as np
from numpy.typing import NDArray

from orchestrator.core import events as e
from orchestrator.core.inventory import Device
from orchestrator.core.members import Member, Members, Progress
from orchestrator.core.state import State

Rows = NDArray[np.intp]
"""Of devices in the inventory."""
Mask = NDArray[np.bool_]


def apply_to_each(state: State, fact: e.AnyEvent, rows: Rows, at: float) -> None:
    """Apply ``fact``, which names one device, to each of ``rows`` as if it named that one.

    Args:
        state: Changed in place.
        fact: About a single device; a grant's number is the first of as many as there are devices.
        rows: Each once.
        at: When it happened, in seconds since the epoch.
    """
    if isinstance(fact, e.DeviceQuarantined):
        state.devices.fill(rows, Device.quarantine, fact.reason)
        return
    assert isinstance(
        fact,
        e.GrantIssued | e.DeviceStaged | e.DeviceProven | e.DeviceCommitted | e.DeviceFailed | e.DeviceRetried
        | e.DeviceReturned,
    ), f"{fact.kind} is not what happens to many alike"  # fmt: skip
    members = state.rollouts[fact.rollout].members
    own = members.at(rows)
    match fact:
        case e.GrantIssued():
            state.grant_seq = max(state.grant_seq, fact.seq + len(rows) - 1)
            _grant(members, fact, own, at)
        case e.DeviceStaged():
            fetched = fact.fetched or {}
            count = sum(count for origin, count in fetched.items() if origin != "slots")
            members.fill(own, Member.staged_bytes, count)
        case e.DeviceProven():
            members.fill(own, Member.progress, Progress.PROVEN)
            members.fill(own, Member.settled_at, at)
        case e.DeviceCommitted():
            _settle(members, own, Progress.COMMITTED, at)
        case e.DeviceReturned():
            _settle(members, own, Progress.RETURNED, at)
        case e.DeviceRetried():
            _settle(members, own, Progress.PENDING, at)
            members.fill(own, Member.failed, value=False)
            members.fill(own, Member.error, "")
            members.fill(own, Member.attempts, fact.attempt)
            members.fill(own, Member.retry_at, fact.not_before)
        case e.DeviceFailed():
            _fail(members, fact, own, at)


def _grant(members: Members, fact: e.GrantIssued, own: Rows, at: float) -> None:
    if not len(own):
        return
    first = members[members.names[own[0]]]
    first.note_answered(fact.nonce)
    members.cells["answered"][own] = members.cells["answered"][own[0]]
    if fact.step != "activate":
        return
    is_ordered = _is_at(members, own, Progress.ORDERED)
    members.fill(own[np.isnan(members.column(Member.granted)[own])], Member.granted, at)
    members.fill(own[is_ordered], Member.progress, Progress.GRANTED)


def _fail(members: Members, fact: e.DeviceFailed, own: Rows, at: float) -> None:
    is_stranded = _is_at(members, own, Progress.RETURNING)
    was_granted = ~np.isnan(members.column(Member.granted)[own])
    _settle(members, own[is_stranded], Progress.STRANDED, at)
    _settle(members, own[~is_stranded], Progress.FAILED, at)
    members.fill(own, Member.failed, value=True)
    members.fill(own, Member.error, fact.code)
    members.fill(own[was_granted], Member.is_lost, fact.version is None)


def _settle(members: Members, own: Rows, progress: Progress, at: float) -> None:
    members.fill(own, Member.progress, progress)
    members.fill(own, Member.is_lost, value=False)
    members.fill(own, Member.settled_at, at)


def _is_at(members: Members, own: Rows, progress: Progress) -> Mask:
    is_there: Mask = members.column(Member.progress)[own] == members.vocabularies["progress"].code(progress)
    return is_there

"""``get`` and ``list``: looking changes nothing."""

from math import inf, isnan
from typing import Any, Final

import numpy as np

from orchestrator.core.allowed import allowed_verbs
from orchestrator.core.answers import Outcome, accept, refuse, unknown
from orchestrator.core.asking_evaluators import list_evaluators
from orchestrator.core.asking_health import list_health
from orchestrator.core.context import Context
from orchestrator.core.explain import explain_rollout
from orchestrator.core.explain_device import explain_device
from orchestrator.core.inventory import Device
from orchestrator.core.selection import selected
from orchestrator.core.soaking import watched_until
from orchestrator.core.state import State
from orchestrator.core.status import rollout_summary
from schemas.commands import ListCommand, QueryCommand
from schemas.errors import PolicyError
from schemas.times import format_timestamp

LISTED_MAX: Final = 50
"""Rollouts that ``list`` names, the newest; an answer must fit into one message."""
_TEXT_MAX: Final = 80


def decide_get(state: State, command: QueryCommand, now: float) -> Outcome:
    """Answer with a rollout or a device, and why it is where it is."""
    rollout = None if command.rollout is None else state.rollouts.get(command.rollout)
    if command.rollout is not None and rollout is None:
        return unknown("rollout", command.rollout, state.rollouts)
    if command.device is not None:
        device = state.devices.get(command.device)
        if device is None:
            return unknown("device", command.device, state.devices)
        if rollout is None and device.rollout is not None:
            rollout = state.rollouts[device.rollout]
        interval = device.interval_seconds
        usual = {"interval_seconds": None if isnan(interval) else round(interval, 2)}
        return accept({**_row(state, device, now), **usual, **explain_device(state, rollout, device.id, now)})
    if rollout is None:
        return refuse("invalid_payload", "rollout: name a rollout or a device", field="rollout")
    return accept(
        {
            **rollout_summary(rollout, watched_until(state, now)),
            **explain_rollout(state, rollout, now, allowed=allowed_verbs(state, rollout)),
        }
    )


def decide_list(state: State, command: ListCommand, context: Context, now: float) -> Outcome:
    """Answer with the newest rollouts, with devices by name, with how they are, or with who reads that."""
    if command.what == "evaluators":
        return list_evaluators(context.readers(now), now)
    if command.what == "rollouts":
        newest = list(state.rollouts.values())[-min(command.limit, LISTED_MAX) :]
        rows = [rollout_summary(rollout, watched_until(state, now)) for rollout in newest]
        brakes = {"frozen": state.frozen[:512], "unread": state.unread}
        return accept({"rollouts": rows, "devices": len(state.devices), **brakes, "time": format_timestamp(now)})
    try:
        marks = np.ones(len(state.devices), dtype=np.bool_)
        if command.where is not None:
            marks = selected(state.devices, command.where)
    except PolicyError as error:
        return refuse("invalid_payload", f"where: {error}", field="where")
    if command.rollout is not None:
        if command.rollout not in state.rollouts:
            return unknown("rollout", command.rollout, state.rollouts)
        marks = marks & state.devices.where(Device.rollout, command.rollout)
    if command.what == "health":
        return list_health(state, context.monitor, state.devices.named(marks), command.limit, now)
    names = sorted(state.devices.named(marks))
    after = [name for name in names if command.after is None or name > command.after]
    page = [] if command.count_only else after[: command.limit]
    following = page[-1] if page and len(after) > len(page) else None
    rows = [_row(state, state.devices[name], now) for name in page]
    return accept({"devices": rows, "count": len(names), "next": following})


def _row(state: State, device: Device, now: float) -> dict[str, Any]:
    info, heard_at = device.info, device.heard_at
    member = None if device.rollout is None else state.rollouts[device.rollout].members[device.id]
    return {
        "device": device.id,
        "type": info.device_type[:_TEXT_MAX],
        "region": info.region[:_TEXT_MAX],
        "group": info.group,
        "site": None if info.site is None else info.site[:_TEXT_MAX],
        "version": device.version,
        "media": None if device.media is None else device.media.model_dump(mode="json"),
        "online": device.is_online,
        "quarantine": device.quarantine[:_TEXT_MAX],
        "rollout": device.rollout,
        "progress": None if member is None else member.progress.value,
        "last_seen_seconds": None if heard_at == -inf else round(now - heard_at, 1),
    }

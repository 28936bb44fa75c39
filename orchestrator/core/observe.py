"""What is only seen: presence, reports and holds, kept beside the journaled state and rebuilt from the bus."""

from math import inf, nan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.core.clones import note_boot
from orchestrator.core.inputs import (
    Announced,
    Asked,
    DeviceReady,
    DeviceReported,
    HoldSeen,
    Input,
    PresenceSeen,
    SamplesSeen,
    ShardsUnread,
)
from orchestrator.core.inventory import Device, Inventory, peer_url_of
from orchestrator.core.media import follows_media
from orchestrator.core.own_waits import note_own_wait
from orchestrator.core.reports import is_prepared
from orchestrator.core.state import State
from schemas.messages import Info, Reported
from schemas.shards import format_shards
from schemas.times import parse_timestamp

EARLY_PRESENCE_MAX: Final = 100_000
_ASKING: Final = frozenset({"ready", "waiting"})
_SMOOTHING: Final = 0.2
"""Weight of the newest gap between two samples in the usual one."""


def observe(state: State, seen: Input, now: float) -> None:
    """Note what ``seen`` says about the present; the only writer of volatile state."""
    match seen:
        case HoldSeen(is_held=is_held):
            state.is_held = is_held
        case PresenceSeen(device=name, is_online=is_online):
            _note_presence(state, name, is_online=is_online, now=now)
        case Announced(device=name, info=info) if name in state.devices:
            _note_info(state.devices[name], info, now)
            if name in state.early_presence:
                _note_presence(state, name, is_online=state.early_presence.pop(name), now=now)
        case DeviceReported(device=name, reported=reported) if name in state.devices:
            device = state.devices[name]
            device.heard_at = device.said_at = now
            device.version = reported.installed_version or device.version
            _note_progress(state, device, reported, now)
        case ShardsUnread(shards=shards):
            if shards or state.unread:
                state.listening_since = now
            state.unread = f"nobody reads the health of shards {format_shards(shards)}" if shards else ""
        case SamplesSeen(rows=rows):
            _note_samples(state.devices, rows, now)
        case DeviceReady(device=name) if name in state.devices:
            device = state.devices[name]
            device.heard_at = device.said_at = now
        case Asked(devices=names):
            state.devices.fill(state.devices.rows(names), Device.said_at, now)
        case _:
            pass


def _note_info(device: Device, info: Info, now: float) -> None:
    note_boot(device, info)
    device.heard_at = now
    device.version = info.version or device.version
    device.peer_url = peer_url_of(info)
    device.disk_free = nan if info.disk_free_bytes is None else info.disk_free_bytes
    device.sleeps_until = _moment(info.sleeping_until)


def _note_progress(state: State, device: Device, reported: Reported, now: float) -> None:
    is_current = reported.observed_generation == device.generation and not follows_media(reported)
    is_asking = is_current and reported.state in _ASKING
    if device.is_asking and not is_asking:
        device.busy_since = now
    device.is_asking, device.has_prepared = is_asking, is_current and is_prepared(reported)
    note_own_wait(state.own_waits, device.id, reported, now, is_current=is_current)


def _note_samples(devices: Inventory, rows: NDArray[np.int32], now: float) -> None:
    sampled_at = devices.column(Device.sampled_at)
    intervals = devices.column(Device.interval_seconds)
    gap, usual = now - sampled_at[rows], intervals[rows]
    first = np.where(np.isinf(gap), nan, gap)
    intervals[rows] = np.where(np.isnan(usual), first, usual + _SMOOTHING * (gap - usual))
    sampled_at[rows] = now
    devices.column(Device.heard_at)[rows] = now
    devices.column(Device.is_unheard)[rows] = False


def _moment(text: str | None) -> float:
    """Read when a sleep ends; a day that does not exist is none."""
    try:
        return -inf if text is None else parse_timestamp(text)
    except ValueError:
        return -inf


def _note_presence(state: State, name: str, *, is_online: bool, now: float) -> None:
    device = state.devices.get(name)
    if device is None:
        if len(state.early_presence) < EARLY_PRESENCE_MAX:
            state.early_presence[name] = is_online
        return
    if is_online:
        device.heard_at = now
        if not device.is_online:
            device.online_since = now
            device.is_unheard = False
    elif device.is_online and device.sleeps_until <= now:
        device.trouble_at = now
    device.is_online = is_online

"""What is only seen: presence, reports and holds, kept beside the journaled state and rebuilt from the bus."""

from typing import Final

from orchestrator.core.inputs import Announced, DeviceReported, HoldSeen, Input, PresenceSeen
from orchestrator.core.state import State

EARLY_PRESENCE_MAX: Final = 100_000
_ASKING: Final = frozenset({"ready", "waiting"})


def observe(state: State, seen: Input, now: float) -> None:
    """Note what ``seen`` says about the present; the only writer of volatile state."""
    match seen:
        case HoldSeen(is_held=is_held):
            state.is_held = is_held
        case PresenceSeen(device=name, is_online=is_online):
            _note_presence(state, name, is_online=is_online, now=now)
        case Announced(device=name, info=info) if name in state.devices:
            device = state.devices[name]
            device.seen_version = info.version or device.seen_version
            device.seen_disk_free_bytes = info.disk_free_bytes
            if name in state.early_presence:
                _note_presence(state, name, is_online=state.early_presence.pop(name), now=now)
        case DeviceReported(device=name, reported=reported) if name in state.devices:
            device = state.devices[name]
            device.seen_version = reported.installed_version or device.seen_version
            device.is_asking = reported.observed_generation == device.generation and reported.state in _ASKING
        case _:
            pass


def _note_presence(state: State, name: str, *, is_online: bool, now: float) -> None:
    device = state.devices.get(name)
    if device is None:
        if len(state.early_presence) < EARLY_PRESENCE_MAX:
            state.early_presence[name] = is_online
        return
    if is_online and not device.is_online:
        device.online_since = now
    device.is_online = is_online

"""``import``: what people declare about devices, taken whole or not at all.

A file may be larger than a message. Its parts come in order, and what they hold becomes one fact with the last.
"""

from collections.abc import Mapping
from typing import Any, Final

from orchestrator.core import events as e
from orchestrator.core.answers import Outcome, accept, refuse
from orchestrator.core.inputs import CommandReceived
from orchestrator.core.state import Import, State
from schemas.commands import ImportCommand
from schemas.inventory import DeviceEntry

CHANGES_SHOWN_MAX: Final = 50
_ITEMS_SHOWN_MAX: Final = 4
_TEXT_SHOWN_MAX: Final = 40
IMPORTS_MAX: Final = 4
"""Imports under way; of one more the oldest is dropped."""


def decide_import(state: State, received: CommandReceived, command: ImportCommand) -> Outcome:
    """Take one part; with the last one compare, and unless it is a dry run make the whole a fact."""
    key = (received.actor, command.import_id)
    under_way = state.imports.pop(key, None) if command.part > 1 else Import(0, {})
    if under_way is None or under_way.parts_seen != command.part - 1 or command.part > command.parts:
        return refuse("conflict", f"part {command.part} of {command.parts} is not the next one; send the import again")
    devices = {**under_way.devices, **command.devices}
    data: dict[str, Any] = {
        "import_id": command.import_id, "part": command.part, "parts": command.parts, "dry_run": command.dry_run,
    }  # fmt: skip
    if command.part < command.parts:
        while len(state.imports) >= IMPORTS_MAX:
            state.imports.pop(next(iter(state.imports)))
        state.imports[key] = Import(command.part, devices)
        return accept({**data, "applied": False})
    changed = _changed(state, devices, replace=command.replace)
    data |= _comparison(state, devices, changed)
    data["applied"] = not command.dry_run
    if command.dry_run or not changed:
        return accept(data)
    reason = command.reason or f"imported by {received.actor}"
    return accept(data, [e.DevicesImported(by=received.actor, reason=reason, devices=changed)])


def _changed(state: State, devices: Mapping[str, DeviceEntry], *, replace: bool) -> dict[str, DeviceEntry | None]:
    changed: dict[str, DeviceEntry | None] = {
        name: entry
        for name, entry in devices.items()
        if name not in state.devices or state.devices[name].declared != entry
    }
    if replace:
        changed |= {
            name: None for name, device in state.devices.items() if device.declared is not None and name not in devices
        }
    return changed


def _comparison(
    state: State, devices: Mapping[str, DeviceEntry], changed: Mapping[str, DeviceEntry | None]
) -> dict[str, Any]:
    before = {name: state.devices[name].declared if name in state.devices else None for name in changed}
    added = [name for name in changed if before[name] is None]
    removed = [name for name, entry in changed.items() if entry is None]
    changes: list[dict[str, Any]] = []
    for name, entry in changed.items():
        old = {} if before[name] is None else before[name].model_dump(mode="json")  # type: ignore[union-attr]  # not None
        new = {} if entry is None else entry.model_dump(mode="json")
        changes += [
            {"device": name, "field": key, "from": _shown(old.get(key)), "to": _shown(new.get(key))}
            for key in {**old, **new}
            if old.get(key) != new.get(key)
        ]
        if len(changes) >= CHANGES_SHOWN_MAX:
            break
    return {
        "added": len(added),
        "changed": len(changed) - len(added) - len(removed),
        "unchanged": len(devices) - len(changed) + len(removed),
        "removed": len(removed),
        "changes": changes[:CHANGES_SHOWN_MAX],
    }


def _shown(value: Any) -> Any:  # noqa: ANN401 - any declared value
    """Return so much of a value that the answer fits into a message."""
    if isinstance(value, list):
        return [*map(_shown, value[:_ITEMS_SHOWN_MAX]), *(["…"] if len(value) > _ITEMS_SHOWN_MAX else [])]
    return f"{value[: _TEXT_SHOWN_MAX - 1]}…" if isinstance(value, str) and len(value) > _TEXT_SHOWN_MAX else value

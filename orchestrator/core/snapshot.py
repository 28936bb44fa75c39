"""The state as bytes and back, so that a restart need not fold a whole journal.

What is only seen (presence, versions, reports) is left out, as it is by the journal: it comes again from the bus.
Columns are stored as arrays, everything else as the JSON that the journal would hold; nothing in it is executed.
"""

import io
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from orchestrator.core.inventory import Device
from orchestrator.core.members import Member, Members
from orchestrator.core.repeating import Done
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from orchestrator.core.table import Table

_SCALARS: Final = ("epoch", "generation", "grant_seq", "frozen", "frozen_at", "thawed_at", "heard_again_at")
Arrays = Mapping[str, NDArray[Any]]
Adapters = Mapping[str, TypeAdapter[Any]]


@cache
def _of(row: type[Any]) -> Adapters:
    """Return how the values of each column are written, by the type that its field is declared with."""
    declared = {name: get_args(hint) for name, hint in get_type_hints(row).items()}
    return {name: TypeAdapter(list[arguments[0]]) for name, arguments in declared.items() if arguments}  # type: ignore[valid-type]  # a type that is only known here


@cache
def _of_rollouts() -> Adapters:
    return {name: TypeAdapter(hint) for name, hint in get_type_hints(Rollout).items() if name != "members"}


def freeze(state: State) -> bytes:
    """Return what the journal knows of ``state``; ``thaw`` makes the same state of it."""
    arrays: dict[str, NDArray[Any]] = {}
    head = {
        "scalars": {name: getattr(state, name) for name in _SCALARS},
        "done": state.done,
        "devices": _freeze_table(state.devices, _of(Device), "devices", arrays),
        "rollouts": [
            {
                "starts": rollout.members.starts,
                "members": _freeze_table(rollout.members, _of(Member), f"rollout{number}", arrays),
                "fields": {
                    name: adapter.dump_json(getattr(rollout, name)).decode() for name, adapter in _of_rollouts().items()
                },
            }
            for number, rollout in enumerate(state.rollouts.values())
        ],
    }
    arrays["names"] = _bytes("\n".join(state.devices.names))
    arrays["head"] = _bytes(json.dumps(head))
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def thaw(data: bytes) -> State:
    """Return the state that was frozen.

    Raises:
        ValueError: It is none, or another version's; fold the journal instead.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return _thaw(arrays)
    except Exception as error:  # What numpy and zipfile stumble over in damaged files is written nowhere.
        raise ValueError(f"no snapshot: {error}") from error


def _thaw(arrays: Arrays) -> State:
    head = json.loads(_text(arrays["head"]))
    state = State(**head["scalars"], done={key: Done(*each) for key, each in head["done"].items()})
    names = _text(arrays["names"])
    state.devices.restore(
        names.split("\n") if names else [],
        *_thaw_table(state.devices, _of(Device), head["devices"], "devices", arrays),
    )
    for number, each in enumerate(head["rollouts"]):
        empty = Members(state.devices, [])
        columns, vocabularies = _thaw_table(empty, _of(Member), each["members"], f"rollout{number}", arrays)
        rollout = Rollout(
            members=Members.restored(state.devices, each["starts"], columns, vocabularies),
            **{name: adapter.validate_json(each["fields"][name]) for name, adapter in _of_rollouts().items()},
        )
        state.rollouts[rollout.id] = rollout
    return state


def _freeze_table(
    table: Table[Any], adapters: Adapters, prefix: str, arrays: dict[str, NDArray[Any]]
) -> dict[str, str]:
    """Put the lasting columns into ``arrays``; return the vocabularies of the coded ones as JSON."""
    vocabularies: dict[str, str] = {}
    for name, field in _lasting(table):
        arrays[f"{prefix}.{name}"] = table.column(field)
        if field.is_coded:
            vocabularies[name] = adapters[name].dump_json(table.vocabularies[name].values).decode()
    return vocabularies


def _thaw_table(
    empty: Table[Any], adapters: Adapters, head: Mapping[str, str], prefix: str, arrays: Arrays
) -> tuple[Arrays, dict[str, Any]]:
    columns = {name: arrays[f"{prefix}.{name}"] for name, _ in _lasting(empty)}
    return columns, {name: adapters[name].validate_json(text) for name, text in head.items()}


def _lasting(table: Table[Any]) -> list[tuple[str, Any]]:
    return [(name, field) for name, field in table.fields.items() if not field.volatile]


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _text(array: NDArray[np.uint8]) -> str:
    return array.tobytes().decode()

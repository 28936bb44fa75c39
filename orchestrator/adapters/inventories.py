"""Inventory files: CSV, YAML and the JSON of ``ansible-inventory --list``, as what people declare of each device.

A file is taken whole or not at all; every row that is wrong is named by its line, the first twenty at once.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal
from zoneinfo import available_timezones

from pydantic import ValidationError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from schemas.errors import FleetError
from schemas.ids import is_id
from schemas.inventory import DeviceEntry
from schemas.yaml_plain import NotPlainError, plain_yaml

Format = Literal["csv", "yaml", "ansible"]

SIZE_MAX_BYTES: Final = 256 * 1024 * 1024
_SHOWN_MAX: Final = 20
_BY_SUFFIX: Final[Mapping[str, Format]] = {".csv": "csv", ".yaml": "yaml", ".yml": "yaml", ".json": "ansible"}
_LISTS: Final = frozenset({"tags", "known_issues"})
_FLAGS: Final = frozenset({"single_point_of_failure", "maintenance"})
_TRUTH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_FIELDS: Final = tuple(DeviceEntry.model_fields)
_ALIASES: Final = {"type": "device_type"}
_PREFIX: Final = "tidegate_"
_ANY_GROUP: Final = frozenset({"all", "ungrouped"})


class InventoryError(FleetError):
    """The author's fault: a file that is no inventory, or rows that are wrong. The text names each by its line."""


@dataclass(frozen=True, slots=True)
class _Row:
    """What a file says of one device, and where."""

    place: str
    device: str
    fields: Mapping[str, Any]


def read_inventory(path: Path, form: Format | None = None) -> dict[str, DeviceEntry]:
    """Return what a file declares, by device.

    Args:
        path: The file, at most 256 MiB of UTF-8.
        form: Its format; None tells it from the name's ending.

    Raises:
        InventoryError: It cannot be read, or a row is wrong; then nothing of it is returned.
    """
    chosen = form or _BY_SUFFIX.get(path.suffix.lower())
    if chosen is None:
        raise InventoryError(f"{path}: the name does not tell the format; add --format csv, yaml or ansible")
    try:
        if path.stat().st_size > SIZE_MAX_BYTES:
            raise InventoryError(f"{path}: larger than {SIZE_MAX_BYTES // 1024**2} MiB; split it")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InventoryError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InventoryError(f"{path}: no UTF-8 at byte {error.start}; save it as UTF-8") from error
    return parse_inventory(text, chosen, source=str(path))


def parse_inventory(text: str, form: Format, *, source: str) -> dict[str, DeviceEntry]:
    """Return what a text declares; as ``read_inventory``."""
    match form:
        case "csv":
            rows = _csv_rows(text, source)
        case "yaml":
            rows = _yaml_rows(text, source)
        case "ansible":
            rows = _ansible_rows(text, source)
    return _entries(rows, source)


def _entries(rows: Iterable[_Row], source: str) -> dict[str, DeviceEntry]:
    found: dict[str, DeviceEntry] = {}
    first: dict[str, str] = {}
    wrong: list[str] = []
    for row in rows:
        name = f"{row.device[:80]!r}"
        if not is_id(row.device):
            wrong.append(f"{row.place}: {name} is no device id: 1 to 64 of A-Z a-z 0-9 _ -, first a letter or digit")
        elif row.device in first:
            wrong.append(f"{row.place}: {name} stands at {first[row.device]} already; keep one of them")
        else:
            first[row.device] = row.place
            try:
                found[row.device] = _entry(row.fields)
            except InventoryError as error:
                wrong.append(f"{row.place}: {name}: {error}")
    if wrong:
        more = f"\n  and {len(wrong) - _SHOWN_MAX} more" if len(wrong) > _SHOWN_MAX else ""
        count = "1 row is" if len(wrong) == 1 else f"{len(wrong):,} rows are"
        lines = "".join(f"\n  {each}" for each in wrong[:_SHOWN_MAX])
        raise InventoryError(f"{source}: {count} wrong, nothing was imported:{lines}{more}")
    if not found:
        raise InventoryError(f"{source}: it names no device")
    return found


def _entry(said: Mapping[str, Any]) -> DeviceEntry:
    fields: dict[str, Any] = {}
    for name, value in said.items():
        key = _ALIASES.get(name, name)
        if key not in _FIELDS:
            raise InventoryError(_unknown_field(name))
        if value is not None and value != "":
            fields[key] = _value(key, value)
    zone = fields.get("time_zone")
    if isinstance(zone, str) and zone not in _time_zones():
        near = get_close_matches(zone, _time_zones(), n=1)
        raise InventoryError(f"time_zone: there is no {zone!r}{f'; did you mean {near[0]}?' if near else ''}")
    try:
        return DeviceEntry.model_validate(fields)
    except ValidationError as error:
        broken = error.errors(include_url=False, include_input=False)[0]
        raise InventoryError(f"{'.'.join(map(str, broken['loc']))}: {broken['msg']}") from error


@cache
def _time_zones() -> frozenset[str]:
    """Finding them reads the system's folders, so a file of many devices finds them once."""
    return frozenset(available_timezones())


def _unknown_field(name: str) -> str:
    near = get_close_matches(name, (*_FIELDS, *_ALIASES), n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are device, {', '.join(_FIELDS)}"
    return f"there is no field {name[:80]!r}; {hint}"


def _value(name: str, value: Any) -> Any:  # noqa: ANN401 - a cell of a file
    """Read a cell as its field's kind; what is of no such kind is left to be refused."""
    if name in _LISTS:
        parts = value.split(";") if isinstance(value, str) else value
        return tuple(str(part).strip() for part in parts) if isinstance(parts, list) else parts
    if name in _FLAGS:
        read = value if isinstance(value, bool) else _TRUTH.get(str(value).strip().lower())
        if read is None:
            raise InventoryError(f"{name}: {value!r} is neither true nor false")
        return read
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value).strip() if isinstance(value, str) or is_number else value


def _csv_rows(text: str, source: str) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        if "device" not in head:
            raise InventoryError(f"{source}:1: the first line must name the columns, one of them device")
        strange = next((name for name in head if name != "device" and _ALIASES.get(name, name) not in _FIELDS), None)
        if strange is not None:
            raise InventoryError(f"{source}:1: {_unknown_field(strange)}")
        if len(set(head)) < len(head):
            raise InventoryError(f"{source}:1: a column stands there twice")
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                if len(cells) != len(head):
                    raise InventoryError(f"{source}:{line}: {len(cells)} cells, but the first line has {len(head)}")
                fields = dict(zip(head, cells, strict=True))
                yield _Row(f"line {line}", fields.pop("device").strip(), fields)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InventoryError(f"{source}:{reader.line_num}: no CSV: {error}") from error


def _yaml_rows(text: str, source: str) -> Iterator[_Row]:
    """Read ``devices: {cam-1: {region: eu}}``, or a list of mappings with ``device``."""
    try:
        root = plain_yaml(parts_max=None).compose(text)
    except NotPlainError as error:
        raise InventoryError(f"{source}:{error.place[0] + 1}: {error}") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise InventoryError(f"{source}:{mark.line + 1 if mark else 1}: no YAML: {error.problem}") from error
    except YAMLError as error:
        raise InventoryError(f"{source}: no YAML: {error}") from error
    top = dict(_pairs(root)) if isinstance(root, MappingNode) else {}
    devices = top.get("devices", root)
    if isinstance(devices, SequenceNode):
        for item in devices.value:
            fields = _mapping(item)
            yield _Row(_line(item), str(fields.pop("device", "")), fields)
    elif isinstance(devices, MappingNode) and "devices" in top:
        for key, node in devices.value:
            yield _Row(_line(key), str(key.value), _mapping(node))
    else:
        raise InventoryError(f"{source}:1: expected 'devices:' with a device on each line, or a list of devices")


def _line(node: Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _pairs(node: MappingNode) -> Iterator[tuple[str, Node]]:
    return ((str(key.value), value) for key, value in node.value)


def _mapping(node: Node) -> dict[str, Any]:
    return {name: _plain(value) for name, value in _pairs(node)} if isinstance(node, MappingNode) else {}


def _plain(node: Node) -> Any:  # noqa: ANN401 - YAML holds anything
    match node:
        case ScalarNode():
            is_null = str(node.tag).endswith(":null")
            return None if is_null else str(node.value)
        case SequenceNode():
            return [_plain(each) for each in node.value]
        case _:
            return _mapping(node)


def _ansible_rows(text: str, source: str) -> Iterator[_Row]:
    """Read the hosts' variables that are named as our fields, or ``tidegate_…``; their groups become tags."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InventoryError(f"{source}: no JSON: {error}; write it with: ansible-inventory --list") from error
    meta = tree.get("_meta") if isinstance(tree, dict) else None
    variables = meta.get("hostvars") if isinstance(meta, dict) else None
    if not isinstance(variables, dict):
        raise InventoryError(f"{source}: it has no _meta.hostvars; write it with: ansible-inventory --list")
    groups = _groups(tree)
    for host in sorted({*variables, *groups}):
        known = variables.get(host)
        said = {
            name.removeprefix(_PREFIX): value
            for name, value in (known if isinstance(known, dict) else {}).items()
            if name.startswith(_PREFIX) or name in _FIELDS
        }
        device = str(said.pop("device", host))
        yield _Row(f"host {host[:80]}", device, {"tags": groups.get(host, []), **said})


def _groups(tree: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the groups that name each host itself."""
    found: dict[str, list[str]] = {}
    for group, body in tree.items():
        hosts = body.get("hosts", []) if isinstance(body, dict) and group != "_meta" else []
        for host in hosts if isinstance(hosts, list) else []:
            found.setdefault(str(host), []).extend([] if group in _ANY_GROUP else [group])
    return found

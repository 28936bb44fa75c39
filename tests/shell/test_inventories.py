import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.inventories import Format, InventoryError, parse_inventory, read_inventory
from schemas.inventory import DeviceEntry

EXAMPLES = Path(__file__).parents[2] / "examples" / "inventories"
HEAD = "device,type,region,tags,maintenance,time_zone\n"


def wrong(text: str, form: Format = "csv") -> str:
    with pytest.raises(InventoryError) as caught:
        parse_inventory(text, form, source="fleet")
    return str(caught.value)


def ansible(hosts: dict[str, Any], **groups: object) -> str:
    return json.dumps({"_meta": {"hostvars": hosts}, **groups})


def test_csv_declares_what_its_cells_say_and_leaves_what_is_empty_to_the_device() -> None:
    found = parse_inventory(HEAD + 'cam-1,pi,eu,a;b,yes,Europe/Berlin\ncam-2,,"u,s",,no,\n', "csv", source="fleet")

    assert found == {
        "cam-1": DeviceEntry(
            device_type="pi", region="eu", tags=("a", "b"), maintenance=True, time_zone="Europe/Berlin"
        ),
        "cam-2": DeviceEntry(region="u,s", maintenance=False),
    }


@pytest.mark.parametrize(
    "text",
    [
        "devices:\n  cam-1: {type: pi, site: 12, tags: [a, b], maintenance: yes}\n  cam-2:\n",
        "- {device: cam-1, type: pi, site: 12, tags: [a, b], maintenance: true}\n- device: cam-2\n",
    ],
)
def test_yaml_declares_devices_by_name_or_as_a_list(text: str) -> None:
    assert parse_inventory(text, "yaml", source="fleet") == {
        "cam-1": DeviceEntry(device_type="pi", site="12", tags=("a", "b"), maintenance=True),
        "cam-2": DeviceEntry(),
    }


def test_ansible_hosts_declare_our_fields_and_their_groups_become_tags() -> None:
    hosts = {
        "cam-1": {"ansible_host": "10.0.0.1", "region": "eu", "tidegate_device_type": "pi", "maintenance": False},
        "gate.example.org": {"tidegate_device": "gate-1", "tags": ["mine"]},
    }
    text = ansible(hosts, all={"children": ["cams"]}, cams={"hosts": ["cam-1"]}, ungrouped={"hosts": ["cam-3"]})

    assert parse_inventory(text, "ansible", source="fleet") == {
        "cam-1": DeviceEntry(region="eu", device_type="pi", maintenance=False, tags=("cams",)),
        "cam-3": DeviceEntry(tags=()),
        "gate-1": DeviceEntry(tags=("mine",)),
    }


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_our_examples_can_be_read(path: Path) -> None:
    assert "cam-0001" in read_inventory(path)


def test_every_wrong_row_is_named_by_its_line_and_nothing_is_returned() -> None:
    text = wrong(HEAD + 'cam-1,pi,eu,,,\n"a\nb",pi,eu,,,\ncam-1,pi,eu,,,\ncam-2,pi,eu,,maybe,\ncam-3,pi,eu,,,Berlin\n')

    assert text.splitlines() == [
        "fleet: 4 rows are wrong, nothing was imported:",
        "  line 3: 'a\\nb' is no device id: 1 to 64 of A-Z a-z 0-9 _ -, first a letter or digit",
        "  line 5: 'cam-1' stands at line 2 already; keep one of them",
        "  line 6: 'cam-2': maintenance: 'maybe' is neither true nor false",
        "  line 7: 'cam-3': time_zone: there is no 'Berlin'; did you mean Europe/Berlin?",
    ]


def test_of_many_wrong_rows_the_first_twenty_are_named() -> None:
    lines = wrong(HEAD + "".join(f"cam.{number},,,,,\n" for number in range(30))).splitlines()

    assert (len(lines), lines[-1]) == (22, "  and 10 more")


@pytest.mark.parametrize(
    ("text", "form", "says"),
    [
        ("", "csv", "fleet:1: the first line must name the columns, one of them device"),
        ("device,regoin\n", "csv", "fleet:1: there is no field 'regoin'; did you mean region?"),
        ("device,region,region\n", "csv", "fleet:1: a column stands there twice"),
        ("device,region\ncam-1\n", "csv", "fleet:2: 1 cells, but the first line has 2"),
        ('device\n"cam-1\n', "csv", "fleet:2: no CSV: "),
        ("device\n", "csv", "fleet: it names no device"),
        ("devices: [", "yaml", "fleet:1: no YAML: "),
        ("regions: {}", "yaml", "fleet:1: expected 'devices:' with a device on each line, or a list of devices"),
        ("devices:\n  cam-1: {regoin: eu}", "yaml", "line 2: 'cam-1': there is no field 'regoin'"),
        ("devices:\n  cam-1: &a {region: eu}\n  cam-2: *a\n", "yaml", "fleet:2: anchors and aliases are not allowed"),
        ("devices:\n  cam-1: " + "{a: " * 6_000, "yaml", "fleet:2: nested deeper than "),
        ("- {region: eu}", "yaml", "line 1: '' is no device id"),
        ("devices:\n  cam-1: {region: [eu]}", "yaml", "line 2: 'cam-1': region: Input should be a valid string"),
        ("devices:\n  cam-1: {}\n  cam-1: {}\n", "yaml", "line 3: 'cam-1' stands at line 2 already"),
        ("{", "ansible", "fleet: no JSON: "),
        ("[" * 100_000, "ansible", "fleet: no JSON: "),
        ("{}", "ansible", "fleet: it has no _meta.hostvars; write it with: ansible-inventory --list"),
        (ansible({"cam.local": {}}), "ansible", "host cam.local: 'cam.local' is no device id"),
        (ansible({"cam-1": {"tidegate_colour": "red"}}), "ansible", "host cam-1: 'cam-1': there is no field 'colour'"),
        (ansible({"cam-1": {"maintenance": [1]}}), "ansible", "maintenance: [1] is neither true nor false"),
    ],
)  # fmt: skip
def test_what_is_no_inventory_is_refused_with_the_place(text: str, form: Format, says: str) -> None:
    assert says in wrong(text, form)


def test_the_format_is_told_by_the_name_or_by_the_option(tmp_path: Path) -> None:
    path = tmp_path / "fleet.txt"
    path.write_bytes(b"\xef\xbb\xbfdevice,region\r\ncam-1,eu\r\n")

    with pytest.raises(InventoryError, match="add --format csv, yaml or ansible"):
        read_inventory(path)
    assert read_inventory(path, "csv") == {"cam-1": DeviceEntry(region="eu")}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"none\.csv: No such file"):
        read_inventory(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(b"device\ncam-\xe4\n")
    with pytest.raises(InventoryError, match="no UTF-8 at byte 11; save it as UTF-8"):
        read_inventory(tmp_path / "latin.csv")

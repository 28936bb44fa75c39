import random

import numpy as np
import pytest

from orchestrator.core.inventory import Inventory
from orchestrator.core.members import Members
from orchestrator.planning.names import Names

MANY = 20_000


def inventory_of(*names: str) -> Inventory:
    inventory = Inventory()
    inventory.add(names)
    return inventory


def test_devices_are_kept_in_the_order_of_their_ids_while_they_appear() -> None:
    inventory = inventory_of("c", "aa", "b")
    assert inventory.in_order()[0].tolist() == [b"aa", b"b", b"c"]

    inventory.add(["longer-than-all", "a"])
    names, rows = inventory.in_order()

    assert names.tolist() == [b"a", b"aa", b"b", b"c", b"longer-than-all"]
    assert [inventory.names[row] for row in rows.tolist()] == ["a", "aa", "b", "c", "longer-than-all"]


def test_many_devices_are_found_as_few_are() -> None:
    ids = [f"d-{number}" for number in range(MANY)]
    random.Random(1).shuffle(ids)
    inventory = inventory_of(*ids)
    wanted = Names(" ".join(sorted(ids)[1:]))

    assert np.array_equal(inventory.rows(wanted), inventory.rows(list(wanted)))
    with pytest.raises(KeyError):
        inventory.rows(Names(f"{wanted.text} stranger"))


def test_members_are_found_by_name_and_nobody_else_is() -> None:
    inventory = inventory_of("a", "b", "c", "d")
    members = Members(inventory, [["c"], ["a"]])
    inventory.add(["e"])

    assert list(members) == members.names == ["c", "a"]
    assert [name in members for name in ("a", "b", "e", "stranger")] == [True, False, False, False]
    assert members["a"].wave == 1
    assert members.rows(["a", "c"]).tolist() == [1, 0]
    for stranger in ("b", "e"):
        assert members.get(stranger) is None
        with pytest.raises(KeyError):
            members.rows([stranger])


def test_who_joins_is_a_member_of_the_last_wave() -> None:
    inventory = inventory_of("a", "b", "c", "d")
    members = Members(inventory, [["c"], ["a"]])
    inventory.add(["e"])

    members.join(["e", "b"], 1)

    assert members.names[members.of_wave(1)] == ["a", "e", "b"]
    assert members["e"].wave == 1
    assert "d" not in members

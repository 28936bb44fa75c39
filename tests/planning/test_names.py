from string import ascii_letters, digits

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from orchestrator.planning.names import Names, NamesField
from orchestrator.planning.ordering import in_order, merged

IDS = st.text(ascii_letters + digits + "_-", min_size=1, max_size=24)
SETS = st.lists(IDS, unique=True, max_size=30)
ALIKE = st.lists(st.integers(0, 10**12 - 1).map("edge-device-{:012d}".format), unique=True, max_size=30)
FEW_LETTERS = st.lists(st.text("ab", min_size=1, max_size=20), unique=True, max_size=60)


class Holder(BaseModel):
    names: NamesField


@given(SETS | ALIKE)
def test_names_are_the_ids_they_were_made_of_also_through_an_array_and_json(ids: list[str]) -> None:
    names = Names(" ".join(ids))

    assert list(names) == ids
    assert len(names) == len(ids)
    assert names == tuple(ids)
    assert names.array().tolist() == [each.encode() for each in ids]
    assert Names.of_array(names.array()) == names
    assert Holder.model_validate_json(Holder(names=names).model_dump_json()).names == names


def test_names_are_one_text_in_json_and_may_be_read_from_a_list() -> None:
    assert Holder(names=Names("a b")).model_dump_json() == '{"names":"a b"}'
    assert Holder.model_validate({"names": ["a", "b"]}).names == Names("a b")
    assert Holder(names=Names("a b")).names[0] == "a"
    assert hash(Names("a b")) == hash(Names("a b"))


@pytest.mark.parametrize("value", [None, 7, ["a", 1], {"a": "b"}])
def test_what_is_no_text_and_no_list_of_texts_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="neither a text nor a list of device ids"):
        Holder.model_validate({"names": value})


@given(SETS | ALIKE | FEW_LETTERS)
def test_ids_are_put_in_order_whatever_their_letters(ids: list[str]) -> None:
    names, places = in_order(ids)

    assert [name.decode() for name in names.tolist()] == sorted(ids)
    assert [ids[place] for place in places.tolist()] == sorted(ids)


@given(SETS | ALIKE | FEW_LETTERS, st.data())
def test_ids_that_are_added_are_sorted_in(ids: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(ids)))
    added, places = in_order(ids[cut:])

    names, rows = merged(in_order(ids[:cut]), (added, places + cut))

    assert [name.decode() for name in names.tolist()] == sorted(ids)
    assert np.array_equal(rows, in_order(ids)[1])

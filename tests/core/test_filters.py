from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.enrolment import own_words, parse_enrolment
from orchestrator.core.selection import selected
from schemas.errors import PolicyError
from schemas.filter_text import parse_filter
from schemas.filters import FIELDS, OPERATORS, Comparison, FieldKind, Filter, Joined, Not, matches
from schemas.versions import version_key
from tests.core.core_bench import Bench, make_fleet, make_info

REFERENCE = 'type == "jetson" and region in ("eu", "us") and version < "2.4"'
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t"), max_size=8)
VALUES: dict[FieldKind, st.SearchStrategy[Any]] = {
    FieldKind.TEXT: TEXTS,
    FieldKind.TEXTS: TEXTS,
    FieldKind.VERSION: TEXTS,
    FieldKind.FLAG: st.booleans(),
    FieldKind.NUMBER: st.integers(0, 10**15),
}


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    field = draw(st.sampled_from(sorted(FIELDS)))
    kind = FIELDS[field]
    operator = "==" if kind is FieldKind.FLAG else draw(st.sampled_from(OPERATORS[kind]))
    most = 3 if "in" in operator else 1
    return Comparison(field, operator, tuple(draw(st.lists(VALUES[kind], min_size=1, max_size=most))))


def joined(parts: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    some = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.builds(Joined, st.sampled_from(["and", "or"]), some) | st.builds(Not, parts)


FILTERS = st.recursive(comparisons(), joined, max_leaves=12)


def normal(condition: Filter) -> Filter:
    """What the reader makes of it: no double negation, and a negated flag is the other flag."""
    match condition:
        case Joined(word, parts):
            return Joined(word, tuple(normal(part) for part in parts))
        case Not(part):
            match normal(part):
                case Not(inner):
                    return inner
                case Comparison(field, "==", (bool(value),)):
                    return Comparison(field, "==", (not value,))
                case inner:
                    return Not(inner)
        case _:
            return condition


@given(FILTERS)
def test_what_is_printed_reads_as_the_same_filter(condition: Filter) -> None:
    text = str(condition)
    if text.count("(") <= 64:
        assert parse_filter(text) == normal(condition)


@pytest.mark.parametrize(
    ("text", "device", "selects"),
    [
        (REFERENCE, {"type": "jetson", "region": "eu", "version": "2.3.9"}, True),
        (REFERENCE, {"type": "jetson", "region": "eu", "version": "2.10.0"}, False),
        (REFERENCE, {"type": "jetson", "region": "ap", "version": "2.3.9"}, False),
        ('type == "pi" or type == "jetson" and region == "eu"', {"type": "pi", "region": "us"}, True),
        ('(type == "pi" or type == "jetson") and region == "eu"', {"type": "pi", "region": "us"}, False),
        ('not (type == "pi" or region == "eu")', {"type": "jetson", "region": "us"}, True),
        ("not maintenance and online", {"maintenance": False, "online": True}, True),
        ("maintenance == false", {"maintenance": False}, True),
        ("online != true", {"online": True}, False),
        ('tag == "lab"', {"tag": ("lab", "north")}, True),
        ('tag != "lab"', {"tag": ("lab", "north")}, False),
        ('tag in ("lab", "shed")', {"tag": ("shed",)}, True),
        ('known_issue == "gpu"', {"known_issue": ()}, False),
        ("disk_free_bytes >= 1000", {"disk_free_bytes": 1000}, True),
        ("disk_free_bytes < 1000", {"disk_free_bytes": 1000}, False),
        ('version == "2.4"', {"version": "2.4.0"}, True),
        ("type == 'jetson'", {"type": "jetson"}, True),
        ('device not in ("a", "b")', {"device": "c"}, True),
    ],
)  # fmt: skip
def test_a_filter_selects(text: str, device: dict[str, object], selects: bool) -> None:  # noqa: FBT001 - an expected value
    assert matches(parse_filter(text), device) is selects


@pytest.mark.parametrize("text", ['version < "2.4"', 'version != "2.4"', 'version not in ("2.4", "2.5")'])
def test_what_is_not_known_selects_nothing_and_neither_does_its_negation(text: str) -> None:
    for each in (text, f"not ({text})", f"{text} and online", f"not ({text} or maintenance)"):
        assert not matches(parse_filter(each), {"online": True, "maintenance": False})
    assert matches(parse_filter(f"{text} or online"), {"online": True})


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ('typ == "jetson"', 1, "there is no field typ; did you mean type? there are device, type, arch"),
        ("type == jetson", 9, 'a text stands in quotes: "jetson"'),
        ("version < 2.4", 11, 'a text stands in quotes: "2.4"'),
        ('type = "jetson"', 6, "write '=='"),
        ('online && type == "pi"', 8, "write 'and'"),
        ('type == "pi" and', 17, 'for example: type == "jetson"'),
        ("online < 3", 8, "online is true or false, which can be compared with ==, !="),
        ("region", 1, 'region is a text and needs a comparison, for example region == "one"'),
        ('region < "eu"', 8, "region is a text, which can be compared with ==, !=, in, not in"),
        ('disk_free_bytes > "3"', 19, "disk_free_bytes is a whole number, for example disk_free_bytes > 1000000"),
        ("online in (true)", 1, "online is true or false: write online or not online"),
        ('type == "a\\q"', 9, "it is no text: use the escapes of JSON, or single quotes"),
        ("", 1, "cannot read it from here on"),
    ],
)
def test_an_expression_that_does_not_parse_shows_the_place_and_what_would(text: str, column: int, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_filter(text)

    message, echoed, caret = str(caught.value).split("\n")
    assert message.startswith(f"column {column}: ")
    assert says in message
    assert (echoed, caret.index("^") + 1) == (text, column)


def test_an_expression_of_thousands_of_parentheses_is_refused_and_does_not_exhaust_the_stack() -> None:
    with pytest.raises(PolicyError, match="more than 64 parentheses"):
        parse_filter("(" * 2000 + "online" + ")" * 2000)
    assert str(parse_filter("not " * 1000 + "online")) == "online"


def test_versions_are_ordered_as_versions() -> None:
    ascending = ["1.9", "1.10.0-alpha", "1.10.0-alpha.1", "1.10.0-beta", "1.10", "1.10.0+b1", "1.10.1", "2.0.0-rc9",
                 "2.0.0-rc10", "2.0.0", "2024-11", "2024"]  # fmt: skip
    for (a, older), (b, newer) in product(enumerate(ascending), repeat=2):
        assert (version_key(older) < version_key(newer)) is (a < b)
    assert version_key("v2.4") == version_key("2.4.0")


@given(FILTERS)
def test_the_whole_fleet_is_selected_as_each_device_is(condition: Filter) -> None:
    text = str(condition)
    if text.count("(") > 64:
        return
    marks = selected(FLEET.state.devices, text)
    one_by_one = [
        matches(condition, {**own_words(name, device.info), "version": device.version, "online": device.is_online,
                            "quarantined": bool(device.quarantine), "disk_free_bytes": device.disk_free_bytes})
        for name, device in FLEET.state.devices.items()
    ]  # fmt: skip
    assert marks.tolist() == one_by_one


def fleet() -> Bench:
    bench = Bench(
        fleet={
            **make_fleet(3, site="", tags=("", "a")),
            "0": make_info(version=None, disk_free_bytes=0, maintenance=True, region=""),
            "A": make_info(version="0", disk_free_bytes=1, single_point_of_failure=True, signals=("",)),
        },
        warm_up_seconds=0.0,
    )
    bench.set_online("0", is_online=False)
    bench.command("quarantine", device="A", reason="it is broken")
    return bench


FLEET = fleet()


def test_a_rule_of_enrolment_admits_by_the_devices_own_words() -> None:
    rule = parse_enrolment('region == "north" and type in ("pi", "jetson")')

    assert rule.admits("d-1", make_info())
    assert not rule.admits("d-1", make_info(region="south"))
    assert not parse_enrolment('not site == "lab"').admits("d-1", make_info()), "it did not say its site"

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.times import Timestamp, format_duration, format_timestamp, parse_timestamp

TIMESTAMPS = TypeAdapter(Timestamp)


@given(st.integers(0, 4_000_000_000_000))
def test_a_moment_comes_back_to_the_millisecond(milliseconds: int) -> None:
    text = format_timestamp(milliseconds / 1000)

    assert TIMESTAMPS.validate_python(text) == text
    assert parse_timestamp(text) == pytest.approx(milliseconds / 1000, abs=1e-3)


def test_a_moment_is_written_in_utc() -> None:
    assert format_timestamp(0.0) == "1970-01-01T00:00:00.000Z"


def test_a_zone_is_heeded() -> None:
    assert parse_timestamp("1970-01-01T01:00:00+01:00") == 0.0


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00", "1970-13-01T00:00:00Z", "soon", ""])
def test_what_is_no_moment_with_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_timestamp(text)


@pytest.mark.parametrize("text", ["1970-01-01", "1970-01-01 00:00:00Z", "1970-01-01T00:00:00Z\n", "1" * 41])
def test_a_timestamp_on_the_wire_has_one_form(text: str) -> None:
    with pytest.raises(ValidationError):
        TIMESTAMPS.validate_python(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.5, "0.5 s"), (45, "45 s"), (59.94, "59.9 s"), (60, "1 min"), (90, "1 min 30 s"), (3600, "1 h"),
        (7500, "2 h 5 min"), (86_400, "24 h"),
    ],
)  # fmt: skip
def test_a_duration_is_written_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text

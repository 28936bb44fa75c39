"""Deadlines are due at their last setting, and forgotten ones take no room."""

from hypothesis import given, settings
from hypothesis import strategies as st

from embedded_broker.deadlines import Deadlines


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 9)), max_size=30))
def test_deadlines_are_due_at_their_last_setting(steps: list[tuple[str, int | None]]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    expected: dict[str, int] = {}
    for key, when in steps:
        if when is None:
            deadlines.clear(key)
            expected.pop(key, None)
        else:
            deadlines.set(key, when)
            expected[key] = when
    for now in range(10):
        following = deadlines.next()
        to_come = [when for when in expected.values() if when >= now]
        assert not to_come or (following is not None and following <= min(to_come))
        due = deadlines.take_due(now)
        assert sorted(due) == sorted(key for key, when in expected.items() if when == now)


def test_forgotten_deadlines_take_no_room() -> None:
    deadlines: Deadlines[int] = Deadlines()
    deadlines.set(-1, 5.0)
    for key in range(10_000):
        deadlines.set(key, 1e6 + key)
        deadlines.clear(key)
    assert len(deadlines._heap) < 100
    assert deadlines.take_due(1e9) == [-1]

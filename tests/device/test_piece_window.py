"""Which pieces are asked for, when, and when again: the rules alone, with a clock that is told."""

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from device_client.core.pieces import AGAIN_SECONDS, AGAIN_SECONDS_MAX, PIECES_FIRST, PIECES_MAX, Wanted, Window

MOST = AGAIN_SECONDS * 1.25
"""A first question is repeated no later, while answers are quick."""


def wanted(number: int, sha256: str = "a") -> Wanted:
    return Wanted("chunks", sha256, number * 32_768, 32_768)


def make_window(count: int, pieces_max: int = PIECES_MAX) -> Window:
    window = Window(random.Random(7), pieces_max=pieces_max)
    for number in range(count):
        window.want(wanted(number))
    return window


def taken(window: Window, piece: Wanted, now: float) -> bool:
    return window.take(piece.sha256, piece.offset_bytes, now) is not None


def test_it_begins_with_two_and_grows_by_one_with_each_that_comes_up_to_its_limit() -> None:
    window = make_window(40)
    under_way = window.due(0.0)
    assert len(under_way) == PIECES_FIRST

    for number in range(20):
        assert taken(window, under_way.pop(0), 0.1 * number)
        under_way += window.due(0.1 * number)
        assert window.under_way == len(under_way) == min(PIECES_MAX, PIECES_FIRST + number + 1)


def test_nothing_is_asked_for_again_before_its_time_and_everything_after_it_once() -> None:
    window = make_window(2)
    first = window.due(0.0)

    assert window.due(AGAIN_SECONDS * 0.75 - 0.01) == []
    assert sorted(window.due(MOST)) == sorted(first)
    assert window.due(MOST) == []


def test_who_stays_away_is_asked_ever_more_rarely_and_alone() -> None:
    window = make_window(9)
    for piece in window.due(0.0):
        taken(window, piece, 0.1)
    assert len(window.due(0.2)) == 4
    asked_at = [tenth / 10 for tenth in range(2, 4000) if wanted(2) in window.due(tenth / 10)]

    pauses = [later - earlier for earlier, later in pairwise(asked_at)]
    assert window.under_way == 4, "nothing new is asked for while all stay away"
    assert all(later > earlier for earlier, later in pairwise(pauses[:3]))
    assert max(pauses) <= AGAIN_SECONDS_MAX * 1.25 + 0.1
    assert pauses[-1] >= AGAIN_SECONDS_MAX * 0.75
    assert all(taken(window, wanted(number), 500.0) for number in range(2, 6))
    assert len(window.due(500.0)) == 1, "whoever stayed away is asked for one at first"


def test_two_devices_do_not_ask_again_in_step() -> None:
    def again_at(seed: int) -> float:
        window = Window(random.Random(seed))
        window.want(wanted(0))
        window.due(0.0)
        return next(now / 100 for now in range(10_000) if window.due(now / 100))

    assert len({again_at(seed) for seed in range(20)}) > 15


def test_a_slow_line_is_waited_for_longer_before_it_is_asked_again() -> None:
    window, now = make_window(30, 1), 0.0
    for number in range(12):
        assert window.due(now) == [wanted(number)], "no answer of this line comes too late"
        now += 3.5
        assert taken(window, wanted(number), now)
    assert window.due(now) == [wanted(12)]
    assert window.due(now + MOST) == [], "three times the usual 3.5 s are more than that"


def test_what_nobody_waits_for_is_not_taken() -> None:
    window = make_window(3)
    asked = window.due(0.0)

    assert not taken(window, wanted(2), 0.1), "wanted, and not asked for yet"
    assert not taken(window, wanted(0, "b"), 0.1)
    assert taken(window, asked[0], 0.1)
    assert not taken(window, asked[0], 0.2), "it came already"
    window.forget("a")
    assert not taken(window, asked[1], 0.3)
    assert window.due(1000.0) == []


def test_who_is_told_that_the_server_is_busy_comes_again_no_sooner_than_it_was_told() -> None:
    window = make_window(1)
    window.due(0.0)

    assert window.put_off("a", 0, 1.0, 60.0)
    assert window.due(60.9) == []
    assert window.due(91.1) == [wanted(0)]
    assert not window.put_off("b", 0, 1.0, 60.0)


def test_after_a_new_session_everything_under_way_is_asked_for_soon() -> None:
    window = make_window(2)
    window.due(0.0)
    window.due(MOST)
    window.begin_again(6.5)

    asked = [piece for tenth in range(65, 116) for piece in window.due(tenth / 10)]
    assert sorted(set(asked)) == [wanted(0), wanted(1)]


@given(st.lists(st.tuples(st.sampled_from(["want", "take", "busy", "wait", "session"]), st.integers(0, 30))))
def test_whatever_happens_no_more_are_under_way_than_may_be_and_none_is_forgotten(steps: list[tuple[str, int]]) -> None:
    window, now = Window(random.Random(1)), 0.0
    open_pieces: set[Wanted] = set()
    for step, number in steps:
        match step:
            case "want":
                window.want(wanted(number))
                open_pieces.add(wanted(number))
            case "take":
                if taken(window, wanted(number), now):
                    open_pieces.remove(wanted(number))
            case "busy":
                window.put_off("a", number * 32_768, now, 3.0)
            case "session":
                window.begin_again(now)
            case _:
                now += number
        assert set(window.due(now)) <= open_pieces
        assert window.under_way <= PIECES_MAX
    for _ in range(2 * len(open_pieces) + 2):
        now += 1000.0
        for piece in window.due(now):
            assert taken(window, piece, now)
            open_pieces.remove(piece)
    assert open_pieces == set()

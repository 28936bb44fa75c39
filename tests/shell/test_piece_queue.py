"""Whose turn it is at the piece server: pure rules."""

from collections import Counter
from itertools import count

from orchestrator.adapters.piece_queue import PER_DEVICE_MAX, PieceQueue
from schemas.messages import PieceRequest


def ask(number: int) -> PieceRequest:
    return PieceRequest(folder="chunks", sha256="ab" * 32, offset_bytes=number)


def given(queue: PieceQueue, times: int) -> list[tuple[str, int]]:
    turns = [queue.next() for _ in range(times)]
    return [(turn[0], getattr(turn[1], "offset_bytes", -1)) for turn in turns if turn is not None]


def test_a_device_that_asks_for_much_costs_another_one_turn_of_its_own() -> None:
    queue = PieceQueue(10)
    for number in range(1000):
        queue.add("greedy", ask(number))
    queue.add("modest", ask(0))

    assert [device for device, _ in given(queue, 3)] == ["greedy", "modest", "greedy"]


def test_turns_are_equal_however_much_each_asks_for() -> None:
    queue, number, turns = PieceQueue(10), count(), Counter[str]()
    for _ in range(300):
        for device, many in (("a", 50), ("b", 1), ("c", 7)):
            for _ in range(many):
                queue.add(device, ask(next(number)))
        turns.update(device for device, _ in given(queue, 1))

    assert turns == {"a": 100, "b": 100, "c": 100}


def test_of_too_much_the_oldest_is_dropped_and_counted() -> None:
    queue = PieceQueue(10)
    for number in range(PER_DEVICE_MAX + 3):
        queue.add("a", ask(number))

    assert (len(queue), queue.dropped) == (PER_DEVICE_MAX, 3)
    assert given(queue, 1) == [("a", 3)]


def test_what_is_asked_for_again_is_given_once_and_keeps_its_place() -> None:
    queue = PieceQueue(10)
    for number in (0, 1, 0, 1, 0):
        queue.add("a", ask(number))

    assert given(queue, 5) == [("a", 0), ("a", 1)]


def test_a_full_queue_sends_newcomers_away_until_somebody_has_everything() -> None:
    queue = PieceQueue(2)
    for device in ("a", "b"):
        assert queue.add(device, ask(0))
        assert queue.add(device, ask(1))

    assert not queue.add("c", ask(0))
    assert queue.add("a", ask(2)), "who has a place keeps it"
    assert given(queue, 4) == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert queue.devices == 1
    assert queue.add("c", ask(0))

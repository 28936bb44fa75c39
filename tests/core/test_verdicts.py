from itertools import permutations

import pytest

from schemas.verdicts import Verdict, worst


def test_a_gate_is_the_worst_of_its_checks() -> None:
    order = [Verdict.PASS, Verdict.CAUTION, Verdict.INCONCLUSIVE, Verdict.FAIL]

    assert sorted(Verdict) == order
    for count in range(1, 5):
        for some in permutations(order, count):
            assert worst(some) is order[max(order.index(each) for each in some)]


def test_nothing_shows_nothing() -> None:
    assert worst([]) is Verdict.INCONCLUSIVE


def test_a_verdict_is_its_word_on_the_wire() -> None:
    assert [Verdict.from_word(verdict.word) for verdict in Verdict] == list(Verdict)
    assert [verdict.word for verdict in Verdict] == ["pass", "caution", "inconclusive", "fail"]


@pytest.mark.parametrize("word", ["ok", "", "passed"])
def test_an_unknown_word_is_no_verdict(word: str) -> None:
    with pytest.raises(KeyError):
        Verdict.from_word(word)

"""A device gets up from whatever a power cut may leave on its disk; planted bugs show that the judges would see.

Every moment and many more states: ``make crash-states``.
"""

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from tests.device import crash_planted as planted
from tests.device.crash_bench import STORIES, Bench, made_bench
from tests.device.crash_model import ROOT, Change, History, Kind, Model, Names, Node, Synced, Written
from tests.device.crash_planted import Plant
from tests.device.crash_states import judge_failures, judge_recovery, judge_story

SEED = 51


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with made_bench(tmp_path_factory.mktemp("crash")) as made:
        yield made


@pytest.mark.parametrize("story", STORIES)
def test_device_gets_up_from_whatever_a_power_cut_leaves(bench: Bench, story: str) -> None:
    counts: Counter[str] = Counter()
    each = 1 if story == "guardian" else 8
    assert [*judge_story(bench, story, counts, limit=1, each=each, seed=SEED)] == []
    assert counts[f"{story}: states"] > 5


@pytest.mark.parametrize("story", ["install", "rollback", "bad version"])
def test_device_gets_up_when_the_power_is_cut_again_while_it_recovers(bench: Bench, story: str) -> None:
    assert [*judge_recovery(bench, story, Counter(), cuts=2, limit=1, each=16, seed=SEED)] == []


def test_device_gets_up_from_a_power_cut_after_its_disk_failed(bench: Bench) -> None:
    assert [*judge_failures(bench, "rollback", Counter(), failures=4, limit=1, each=8, seed=SEED)] == []


def test_record_that_is_tried_again_to_be_made_durable_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.try_again_to_sync(monkeypatch)
    seen = judge_failures(bench, "rollback", Counter(), failures=99, limit=1, each=3, seed=SEED)
    assert next((wrong for wrong in seen if "the record was never saved" in wrong), None), "nobody has seen it"


@pytest.mark.parametrize(
    ("plant", "story", "each", "shows"),
    [
        (planted.forget_folders, "install", 1, "went out, and what is remembered is"),
        (planted.forget_folders, "provision", 1, "is active and not verified"),
        (planted.forget_files, "install", 1, "the record was never saved"),
        (planted.take_the_link_away_first, "rollback", 1, "no slot is active"),
        (planted.leave_the_marker, "bad version", 3, "says what is not so"),
        (planted.decide_in_two_documents, "rollback", 1, "the next start: AssertionError"),
        (planted.believe_the_marker, "rollback", 1, "was started and is not what was verified"),
    ],
)
def test_planted_bug_is_seen(
    bench: Bench, plant: Plant, story: str, *, each: int, shows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    seen = judge_story(bench, story, Counter(), limit=2, each=each, seed=SEED)
    assert next((wrong for wrong in seen if shows in wrong), None), "nobody has seen it"


def test_names_are_lost_in_order_or_in_any_order() -> None:
    """Two files are made and nothing is durable: only the weak model keeps the second one without the first."""
    made: list[Change] = [Names(((ROOT, "one", 1),)), Names(((ROOT, "two", 2),))]
    history = History([Node(Kind.FOLDER, 0o755), *[Node(Kind.FILE, 0o644)] * 2], changes=made)
    assert left(history, Model.ORDERED) == {(), ("one",), ("one", "two")}
    assert left(history, Model.WEAK) == {(), ("one",), ("two",), ("one", "two")}
    history.changes.append(Synced(ROOT))
    assert left(history, Model.ORDERED) == left(history, Model.WEAK) == {("one", "two")}


def test_file_holds_what_was_made_durable_or_a_part_of_what_came_after() -> None:
    node = Node(Kind.FILE, 0o644)
    wrote: list[Change] = [
        Names(((ROOT, "file", 1),)),
        Synced(ROOT),
        Written(1, b"old!", 0o644),
        Synced(1),
        Written(1, b"new?", 0o644),
    ]
    history = History([Node(Kind.FOLDER, 0o755), node], changes=wrote)
    for model in Model:
        found = {image["file"].data for image in history.cuts(len(wrote), model, 99, Random(1))}
        assert found == {b"old!", b"ne", b"ne\0\0", b"new?"}


def test_name_without_a_durable_file_is_an_empty_file() -> None:
    wrote: list[Change] = [
        Names(((ROOT, "a", 1),)),
        Written(1, b"data", 0o600),
        Names(((ROOT, "a", None), (ROOT, "b", 1))),
        Synced(ROOT),
    ]
    history = History([Node(Kind.FOLDER, 0o755), Node(Kind.FILE, 0o644)], changes=wrote)
    assert {image["b"].data for image in history.cuts(4, Model.ORDERED, 99, Random(1))} == {
        b"",
        b"da",
        b"da\0\0",
        b"data",
    }


def left(history: History, model: Model) -> set[tuple[str, ...]]:
    return {tuple(image) for image in history.cuts(len(history.changes), model, 99, Random(1))}

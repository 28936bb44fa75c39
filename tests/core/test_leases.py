from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.leases import (
    ALL_SHARDS,
    EVALUATORS_MAX,
    LOST_SECONDS,
    STALE_SECONDS,
    Lease,
    Leases,
    assign,
)

LOW, HIGH = frozenset(range(32)), frozenset(range(32, 64))
NOBODY = frozenset[int]()
shards = st.frozensets(st.integers(0, 63))
worlds = st.dictionaries(st.sampled_from("abcd"), shards)


def read(leases: Leases, worker: str, wanted: frozenset[int], now: float = 0.0) -> Lease:
    """Let an evaluator come, take its lease and read under it."""
    leases.hear(worker, wanted, "", now)
    lease = next(each for each in leases.decide(1, now) if each.worker == worker)
    leases.hear(worker, wanted, lease.term, now)
    return lease


@given(worlds, worlds)
def test_each_wanted_shard_is_given_to_one_that_wants_it(
    wanted: dict[str, frozenset[int]], held: dict[str, frozenset[int]]
) -> None:
    given_ = assign(wanted, {name: held.get(name, NOBODY) for name in wanted})

    assert sorted(shard for each in given_.values() for shard in each) == sorted(NOBODY.union(*wanted.values()))
    assert all(given_[name] <= wanted[name] for name in wanted)
    assert assign(wanted, given_) == given_


@given(st.integers(1, 5), st.data())
def test_those_that_want_the_same_share_it_evenly_and_keep_what_they_hold(count: int, data: st.DataObject) -> None:
    wanted = {f"e{number}": ALL_SHARDS for number in range(count)}
    before = assign(wanted, dict.fromkeys(wanted, NOBODY))
    assert {len(each) for each in before.values()} <= {64 // count, 64 // count + 1}

    lost = data.draw(st.sampled_from(sorted(wanted)))
    left = {name: each for name, each in wanted.items() if name != lost}
    after = assign(left, {name: before[name] for name in left})
    assert all(before[name] <= after[name] for name in left)


def test_one_that_wants_everything_leaves_room_for_one_that_wants_a_part() -> None:
    assert assign({"all": ALL_SHARDS, "low": LOW}, {"all": ALL_SHARDS, "low": NOBODY}) == {"all": HIGH, "low": LOW}


def test_the_orchestrator_reads_what_no_evaluator_says_it_reads() -> None:
    leases = Leases()
    assert leases.own() == ALL_SHARDS
    leases.hear("a", LOW, "", 0.0)
    (lease,) = leases.decide(7, 0.0)
    assert lease == Lease("a", "7-1", LOW)
    assert leases.own() == ALL_SHARDS, "until it says so"

    assert leases.hear("a", LOW, lease.term, 0.1) == LOW
    assert leases.own() == HIGH
    assert leases.decide(7, 0.2) == []


def test_an_evaluator_that_is_not_heard_makes_its_shards_unwatched_and_then_loses_them() -> None:
    leases = Leases()
    lease = read(leases, "a", LOW)
    assert leases.unwatched(HIGH, STALE_SECONDS) == NOBODY
    assert leases.unwatched(HIGH, STALE_SECONDS + 0.1) == LOW
    assert leases.decide(1, LOST_SECONDS) == []

    assert leases.decide(1, LOST_SECONDS + 0.1) == [Lease("a", "", NOBODY)]
    assert leases.own() == ALL_SHARDS
    assert leases.hear("a", LOW, lease.term, LOST_SECONDS + 0.2) == NOBODY, "the old lease is no longer its own"


def test_another_that_wants_them_takes_the_shards_of_one_that_is_gone() -> None:
    leases = Leases()
    read(leases, "a", ALL_SHARDS)
    read(leases, "b", ALL_SHARDS)
    leases.decide(1, 0.0)
    leases.lose("a")

    assert [(each.worker, each.shards) for each in leases.decide(1, 1.0)] == [("a", NOBODY), ("b", ALL_SHARDS)]


def test_what_is_still_read_under_the_lease_before_counts_until_the_new_one_is_read() -> None:
    leases = Leases()
    old = read(leases, "a", ALL_SHARDS)
    leases.hear("b", ALL_SHARDS, "", 1.0)
    new = {each.worker: each for each in leases.decide(1, 1.0)}

    kept = new["a"].shards
    assert leases.hear("a", ALL_SHARDS, old.term, 1.1) == kept
    assert leases.own() == ALL_SHARDS - kept, "the orchestrator reads the rest meanwhile"
    assert leases.hear("a", ALL_SHARDS, new["a"].term, 1.2) == kept
    assert leases.hear("a", ALL_SHARDS, old.term, 1.3) == NOBODY


def test_an_evaluator_that_lost_its_connection_says_that_it_reads_nothing() -> None:
    leases = Leases()
    lease = read(leases, "a", LOW)

    assert leases.hear("a", LOW, "", 1.0) == NOBODY
    assert leases.own() == ALL_SHARDS
    assert leases.hear("a", LOW, lease.term, 2.0) == LOW


def test_more_evaluators_than_there_are_shards_are_not_taken_on() -> None:
    leases = Leases()
    for number in range(EVALUATORS_MAX + 1):
        leases.hear(f"e{number}", ALL_SHARDS, "", 0.0)

    assert len(leases.decide(1, 0.0)) == EVALUATORS_MAX

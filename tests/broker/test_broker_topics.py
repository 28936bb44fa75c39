"""Topics, filters, and the two trees against the plain definition of a match."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedded_broker.errors import PacketError
from embedded_broker.packets import Subscription
from embedded_broker.state import SessionKey
from embedded_broker.topics import check_topic, is_filter, is_matching
from embedded_broker.trie import SubscriptionTrie, TopicTree

KEY = SessionKey(None, "x")

LEVELS = st.lists(st.sampled_from(["a", "b", "", "$x"]), min_size=1, max_size=4)
TOPICS = LEVELS.map("/".join).filter(bool)
FILTERS = (
    st.tuples(st.lists(st.sampled_from(["a", "b", "", "+", "$x"]), min_size=1, max_size=4), st.booleans())
    .map(lambda parts: "/".join([*parts[0], "#"] if parts[1] else parts[0]))
    .filter(bool)
)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("+", "", True),
        ("/+", "/a", True),
        ("+", "/a", False),
    ],
)
def test_match_follows_the_standard(topic_filter: str, topic: str, *, expected: bool) -> None:
    assert is_matching(topic_filter, topic) is expected


@pytest.mark.parametrize("bad", ["", "a#", "a/#/b", "a+/b", "#/", "a/b+"])
def test_invalid_filter_is_none(bad: str) -> None:
    assert not is_filter(bad)


@pytest.mark.parametrize("bad", ["", "a/+", "#", "a/b/c"])
def test_topic_is_refused_when_it_cannot_be_published_to(bad: str) -> None:
    with pytest.raises(PacketError):
        check_topic(bad, levels_max=2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("xyz"), FILTERS), max_size=12), st.data(), TOPICS)
def test_subscription_tree_finds_what_matches_after_additions_and_removals(
    subscribed: list[tuple[str, str]], data: st.DataObject, topic: str
) -> None:
    trie = SubscriptionTrie()
    wanted: dict[tuple[SessionKey, str], Subscription] = {}
    for name, topic_filter in subscribed:
        key = SessionKey(None if name == "x" else "ann", name.replace("y", "x"))
        wanted[key, topic_filter] = Subscription(topic_filter)
        trie.add(key, wanted[key, topic_filter])
        trie.match(topic)  # fills the cache, which later changes must empty
    for each in data.draw(st.lists(st.sampled_from(list(wanted)), unique=True)) if wanted else []:
        trie.remove(*each)
        del wanted[each]
    expected = {each for each in wanted if is_matching(each[1], topic)}
    matches = trie.match(topic)
    assert {(key, one.filter) for key, found in matches for one in found} == expected
    assert len({key for key, _ in matches}) == len(matches)


def test_subscription_tree_is_empty_again_when_all_is_removed() -> None:
    trie = SubscriptionTrie()
    for topic_filter in ("a/b/c", "a/b", "a/#"):
        trie.add(KEY, Subscription(topic_filter))
    for topic_filter in ("a/b", "a/b/c", "a/#"):
        trie.remove(KEY, topic_filter)
    assert not trie._root.children


@settings(deadline=None)
@given(st.lists(TOPICS, max_size=12), st.data(), FILTERS)
def test_topic_tree_finds_what_lies_under_a_filter(topics: list[str], data: st.DataObject, topic_filter: str) -> None:
    tree: TopicTree[str] = TopicTree()
    for topic in topics:
        tree.set(topic, topic)
    kept = set(topics)
    for topic in data.draw(st.lists(st.sampled_from(sorted(kept)), unique=True)) if kept else []:
        tree.remove(topic)
        kept.remove(topic)
    found = tree.match(topic_filter)
    assert sorted(found) == sorted(topic for topic in kept if is_matching(topic_filter, topic))
    assert len(tree) == len(kept)

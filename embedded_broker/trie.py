"""Two trees over topic levels: who subscribed to a topic, and what is retained under a filter.

Both walk only the branches that can match. Their answers are in a fixed order (insertion order within a level), so
equal calls give equal outputs.
"""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from embedded_broker.packets import Subscription
from embedded_broker.state import SessionKey

_CACHE_TOPICS_MAX: Final = 100_000

V = TypeVar("V")
Matches = tuple[tuple[SessionKey, tuple[Subscription, ...]], ...]
"""Session and all its matching subscriptions."""


class _Node:
    """One level of the subscription tree, with the subscriptions that end here by session."""

    __slots__ = ("children", "subscriptions")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.subscriptions: dict[SessionKey, Subscription] = {}


class SubscriptionTrie:
    """All subscriptions of all sessions."""

    def __init__(self) -> None:
        self._root = _Node()
        self._matches: dict[str, Matches] = {}

    def add(self, key: SessionKey, subscription: Subscription) -> None:
        """Add a session's subscription, or replace the one it has with this filter."""
        node = self._root
        for level in subscription.filter.split("/"):
            node = node.children.setdefault(level, _Node())
        node.subscriptions[key] = subscription
        self._forget(subscription.filter)

    def remove(self, key: SessionKey, topic_filter: str) -> None:
        """Remove a session's subscription, which is there."""
        path = [self._root]
        levels = topic_filter.split("/")
        for level in levels:
            path.append(path[-1].children[level])
        del path[-1].subscriptions[key]
        for parent, level in zip(reversed(path[:-1]), reversed(levels), strict=True):
            child = parent.children[level]
            if child.children or child.subscriptions:
                break
            del parent.children[level]
        self._forget(topic_filter)

    def _forget(self, topic_filter: str) -> None:
        """Forget the answers that a change of this filter may have changed."""
        if "+" in topic_filter or "#" in topic_filter:
            self._matches.clear()
        else:
            self._matches.pop(topic_filter, None)

    def match(self, topic: str) -> Matches:
        """Return every session that subscribed to this topic, each once, with its matching subscriptions."""
        matches = self._matches.get(topic)
        if matches is None:
            if len(self._matches) >= _CACHE_TOPICS_MAX:
                self._matches.clear()
            matches = self._matches[topic] = self._walk(topic)
        return matches

    def _walk(self, topic: str) -> Matches:
        levels = topic.split("/")
        found: dict[SessionKey, list[Subscription]] = {}
        for node in _nodes_matching(self._root, levels):
            for key, subscription in node.subscriptions.items():
                found.setdefault(key, []).append(subscription)
        return tuple((key, tuple(subscriptions)) for key, subscriptions in found.items())


def _nodes_matching(root: _Node, levels: list[str]) -> list[_Node]:
    """Every node whose path matches, level by level: a ``#`` child matches its parent's level as well."""
    matching: list[_Node] = []
    front = [root]
    is_hidden = levels[0].startswith("$")
    for depth, level in enumerate(levels):
        wildcards = depth > 0 or not is_hidden
        following: list[_Node] = []
        for node in front:
            if wildcards and "#" in node.children:
                matching.append(node.children["#"])
            if level in node.children:
                following.append(node.children[level])
            if wildcards and "+" in node.children:
                following.append(node.children["+"])
        front = following
    for node in front:
        matching.append(node)
        if "#" in node.children:
            matching.append(node.children["#"])
    return matching


class _Leaf(Generic[V]):
    """One level of the retained tree, with the value that stands at exactly this topic."""

    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Leaf[V]] = {}
        self.value: V | None = None


class TopicTree(Generic[V]):
    """One value for each topic, found by topic at once and by filter without a scan."""

    def __init__(self) -> None:
        self._root: _Leaf[V] = _Leaf()
        self._by_topic: dict[str, _Leaf[V]] = {}

    def __len__(self) -> int:
        return len(self._by_topic)

    def __contains__(self, topic: str) -> bool:
        return topic in self._by_topic

    def values(self) -> Iterator[V]:
        """Iterate over all values, oldest topic first."""
        return (leaf.value for leaf in self._by_topic.values() if leaf.value is not None)

    def set(self, topic: str, value: V) -> None:
        """Put a value at a topic, in place of the one there."""
        leaf = self._by_topic.get(topic)
        if leaf is None:
            leaf = self._root
            for level in topic.split("/"):
                leaf = leaf.children.setdefault(level, _Leaf())
            self._by_topic[topic] = leaf
        leaf.value = value

    def remove(self, topic: str) -> None:
        """Take the value away from a topic, which has one."""
        del self._by_topic[topic]
        levels = topic.split("/")
        path = [self._root]
        for level in levels:
            path.append(path[-1].children[level])
        path[-1].value = None
        for parent, level in zip(reversed(path[:-1]), reversed(levels), strict=True):
            child = parent.children[level]
            if child.children or child.value is not None:
                break
            del parent.children[level]

    def match(self, topic_filter: str) -> list[V]:
        """Return the values under a filter."""
        if "+" not in topic_filter and "#" not in topic_filter:
            leaf = self._by_topic.get(topic_filter)
            return [] if leaf is None or leaf.value is None else [leaf.value]
        front = [self._root]
        for depth, level in enumerate(topic_filter.split("/")):
            if level == "#":
                return [value for leaf in front for value in _values_under(leaf, is_root=depth == 0)]
            if level == "+":
                front = [child for leaf in front for child in _visible(leaf, is_root=depth == 0)]
            else:
                front = [leaf.children[level] for leaf in front if level in leaf.children]
        return [leaf.value for leaf in front if leaf.value is not None]


def _visible(leaf: _Leaf[V], *, is_root: bool) -> Iterator[_Leaf[V]]:
    """The children a wildcard sees: at the root not those of ``$`` topics."""
    return (child for level, child in leaf.children.items() if not (is_root and level.startswith("$")))


def _values_under(leaf: _Leaf[V], *, is_root: bool) -> Iterator[V]:
    if leaf.value is not None:
        yield leaf.value
    for child in _visible(leaf, is_root=is_root):
        yield from _values_under(child, is_root=False)

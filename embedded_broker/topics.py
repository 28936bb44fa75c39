"""Topic names and filters: what is valid, and what matches."""

from typing import Final

from embedded_broker.errors import PacketError
from embedded_broker.reasons import Reason

LEVELS_MAX: Final = 128
"""No deeper topic is taken; far more than any sane tree has, and it bounds the work of a match."""
_WILDCARDS: Final = ("+", "#")


def check_topic(topic: str, *, levels_max: int = LEVELS_MAX) -> None:
    """Accept a name one may publish to: not empty, no wildcard, not too deep.

    Raises:
        PacketError: It is none.
    """
    if not topic or "+" in topic or "#" in topic:
        raise PacketError(f"{topic!r} is no topic to publish to", Reason.TOPIC_NAME_INVALID)
    if topic.count("/") >= levels_max:
        raise PacketError(f"a topic has more than {levels_max} levels", Reason.TOPIC_NAME_INVALID)


def is_filter(topic_filter: str, *, levels_max: int = LEVELS_MAX) -> bool:
    """Tell whether this is a valid filter: wildcards fill a level, ``#`` is last, not too deep."""
    levels = topic_filter.split("/")
    if not topic_filter or len(levels) > levels_max:
        return False
    for level in levels:
        if len(level) > 1 and ("+" in level or "#" in level):
            return False
    return "#" not in levels[:-1]


def is_shared(topic_filter: str) -> bool:
    """Tell whether this asks for a shared subscription."""
    return topic_filter.startswith("$share/")


def is_matching(topic_filter: str, topic: str) -> bool:
    """Tell whether the topic lies under the filter; a leading wildcard never matches a ``$`` topic.

    Source:
        MQTT 5.0, section 4.7.
    """
    return is_matching_levels(topic_filter.split("/"), topic.split("/"))


def is_matching_levels(wanted: list[str], levels: list[str]) -> bool:
    """Tell the same of filter and topic that were split before."""
    if wanted[0] in _WILDCARDS and levels[0].startswith("$"):
        return False
    for want, level in zip(wanted, levels, strict=False):
        if want != level and want != "+":  # noqa: PLR1714 - quicker than membership, and this is the hot loop
            return want == "#"
    return len(wanted) == len(levels) or wanted[len(levels) :] == ["#"]

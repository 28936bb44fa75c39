"""Ranges of shards as people write them: ``0-31,40``."""

from collections.abc import Iterable
from itertools import groupby

from schemas.errors import TopicError
from schemas.ids import SHARD_COUNT


def parse_shards(text: str) -> frozenset[int]:
    """Read shards and ranges of shards, both ends included.

    Raises:
        TopicError: The text is none; whoever wrote it is told which part and what is allowed.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = (each.strip() for each in part.partition("-"))
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and int(end) < SHARD_COUNT for end in ends):
            raise TopicError(f"{part.strip()!r} is no range of shards: 0 to {SHARD_COUNT - 1}, for example 0-31,40")
        if int(ends[0]) > int(ends[1]):
            raise TopicError(f"{part.strip()!r} ends before it begins; write {ends[1]}-{ends[0]}")
        found.update(range(int(ends[0]), int(ends[1]) + 1))
    return frozenset(found)


def format_shards(shards: Iterable[int]) -> str:
    """Write shards as ``parse_shards`` reads them; ``none`` for none."""
    runs = groupby(enumerate(sorted(set(shards))), key=lambda each: each[1] - each[0])
    ends = [(run[0], run[-1]) for run in ([shard for _, shard in group] for _, group in runs)]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends) or "none"

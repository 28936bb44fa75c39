"""The order of versions, for versions as people write them."""

import re
from typing import Final

_NUMBER: Final = re.compile(r"[0-9]+")
_PART: Final = re.compile(r"[0-9]+|[A-Za-z]+")


def version_key(version: str) -> tuple[object, ...]:
    """Return what orders versions: a version is newer if its key is greater.

    Numbers count as numbers, a missing one as zero (``2.4`` is ``2.4.0``), a leading ``v`` not at all. What follows the
    first ``-`` makes it older (a pre-release), what follows ``+`` newer (a build). No text is refused.

    Source:
        Semantic Versioning 2.0.0, 11; extended to any count of numbers, and to builds, so that the order is total.
    """
    rest, _, build = version.partition("+")
    core, _, pre = rest.removeprefix("v").partition("-")
    numbers = _identifiers(core)
    while numbers and numbers[-1] == (0, 0, ""):
        numbers = numbers[:-1]
    return (numbers, not pre, _identifiers(pre), _identifiers(build))


def _identifiers(text: str) -> tuple[tuple[int, int, str], ...]:
    """Split at dots and between digits and letters; a number is less than a word."""
    return tuple((0, int(part), "") if _NUMBER.fullmatch(part) else (1, 0, part) for part in _PART.findall(text))

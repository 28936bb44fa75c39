"""What a page shows of a command's output, as a pattern of what the command may say."""

import re
from typing import Final

_VARYING: Final = (
    r"\b[0-9a-f]{4,}…|…",  # left out
    r"\d{4}-\d\d-\d\dT[\d:.]+Z",
    r"\b[0-9a-f]{12,}\b",  # digests
    r"(?<![\w.-])\d[\d.,]* ?(?:s|ms|min|kB|MB|GB|bytes)\b",
    r"\d\d:\d\d(?::\d\d)?Z?",
)
_INSTEAD: Final = (
    r".+?",
    r"[\\d:.TZ-]+",
    r"[0-9a-f]{12,}",
    r"[\\d.,]+ ?(?:s|ms|min|kB|MB|GB|bytes)",
    r"[\\d:]+Z?",
)
_NUMBER: Final = r"(?<![\w.-])\d[\d,]*(?:\.\d+)?%?(?![\w.-]*\w)"
_HEADING: Final = re.compile(r"^[A-Z][A-Z0-9 ]+$")


def pattern_of(shown: str, *, loosely: bool = False) -> "re.Pattern[str]":
    """Return what output fits: times, sizes and digests may differ, blanks and line ends too.

    Args:
        shown: As it stands on the page; ``…`` is what was left out.
        loosely: Any other number may differ as well, if it stands by itself.
    """
    varying = [*zip(_VARYING, _INSTEAD, strict=True), *([(_NUMBER, r"[\\d.,]+%?")] if loosely else [])]
    finder = re.compile("|".join(f"({each})" for each, _ in varying), flags=re.MULTILINE)
    pattern, end = "", 0
    for match in finder.finditer(shown.strip()):
        pattern += re.escape(shown.strip()[end : match.start()])
        pattern += varying[(match.lastindex or 1) - 1][1].replace("\\\\", "\\")
        end = match.end()
    pattern += re.escape(shown.strip()[end:])
    return re.compile(r"\s*" + re.sub(r"(?:\\\s|\s)+", r"\\s+", pattern), flags=re.DOTALL)


def missing_headings(shown: str, said: str) -> list[str]:
    """Return which headings of tables, the same for every fleet, are shown and not said."""
    lines = (" ".join(line.split()) for line in shown.splitlines())
    flat = " ".join(said.split())
    return [line for line in lines if _HEADING.fullmatch(line) and line not in flat]

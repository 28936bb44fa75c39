"""How numbers, moments and text of devices and people are written for people."""

import unicodedata
from collections.abc import Mapping
from typing import Final

from schemas.conditions import RATES
from schemas.documents import CheckResult
from schemas.times import format_duration, format_timestamp

SYMBOLS: Final = {"pass": "✓", "caution": "!", "inconclusive": "?", "fail": "✕"}
"""A verdict where colour alone would not do."""
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Control and format characters, which turn text around or hide it; shown as escapes."""


def visible(text: str, length_max: int = 400) -> str:
    """Return text of a device or a person on one line, cut, with every character visible.

    Line breaks become spaces; other control characters and those that turn the direction become escapes.
    """
    cut = text if len(text) <= length_max else text[: length_max - 1] + "…"
    return "".join(map(_visible, cut))


def _visible(character: str) -> str:
    if character in "\n\r\t":
        return " "
    return f"\\u{ord(character):04x}" if unicodedata.category(character) in _UNSEEN else character


def value_text(limit_expr: str, value: float | None) -> str:
    """Write what a check observed or its limit, in the unit of the metric that ``limit_expr`` begins with."""
    if value is None:
        return "–"
    if any(limit_expr.startswith(metric) for metric in RATES):
        return f"{value * 100:.2f}".rstrip("0").rstrip(".") + "%"
    if limit_expr.startswith("latency") or "p95" in limit_expr.partition(" ")[0]:
        return f"{value * 1000:.3g} ms" if value < 1 else format_duration(value)
    return format_duration(value) if limit_expr.startswith("health endpoint") else f"{value:,.4g}"


def moment_text(at: float | None) -> str:
    """Write a moment to the second, in UTC."""
    return "–" if at is None else format_timestamp(at)[:19].replace("T", " ")


def clock_text(at: float | None) -> str:
    """Write the time of day in UTC."""
    return "–" if at is None else format_timestamp(at)[11:19]


def seconds_text(seconds: float | None) -> str:
    """Write a duration; nothing known is a dash."""
    return "–" if seconds is None else format_duration(round(seconds) if seconds >= 1 else seconds)


def count_text(count: int, noun: str) -> str:
    """Write a number of things: ``1 device``, ``1,204 devices``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size_text(size_bytes: int) -> str:
    """Write a file's size."""
    return f"{size_bytes} bytes" if size_bytes < 1000 else f"{size_bytes / 1000:,.0f} KB"  # noqa: PLR2004 - bytes in a KB


def origins_text(fetched: Mapping[str, int]) -> str:
    """Write how much came from where: ``12 KB from peers, 3 KB from registry``."""
    return ", ".join(f"{size_text(count)} from {origin}" for origin, count in fetched.items())


def check_text(check: CheckResult) -> str:
    """Write a check with what it found, as a part of a sentence."""
    name = f"{check.check} (dry run)" if check.dry_run else check.check
    return f"{name}: {visible(check.why)}" if check.why else f"{name} {check.verdict}"


def name_some(names: tuple[str, ...], shown_max: int = 10) -> str:
    """Name the first few, and how many more there are."""
    shown = ", ".join(names[:shown_max])
    return f"{shown} and {len(names) - shown_max:,} more" if len(names) > shown_max else shown

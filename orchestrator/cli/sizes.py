"""Sizes as people write and read them: ``20GB``, ``512MiB``, ``48.0 MB``."""

import re
from typing import Final

from schemas.errors import FleetError

_UNITS: Final = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_STEP: Final = 1000


class SizeError(FleetError):
    """The user's fault: a text that is no size. Says how to write one."""


def parse_size(text: str, option: str) -> int:
    """Return how many bytes a text means.

    Args:
        text: A number, perhaps with a unit: B, kB, MB, GB, TB, or KiB, MiB, GiB, TiB.
        option: Where it was given, for the message.

    Raises:
        SizeError: It is none, or less than one byte.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or float(match[1]) * unit < 1:
        raise SizeError(f"{option} {text[:40]!r} is no size; write a number with kB, MB, GB or TB, for example 20GB")
    return int(float(match[1]) * unit)


def size_text(size_bytes: float) -> str:
    """Write a number of bytes with the unit that fits: ``812 B``, ``48.0 MB``."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < _STEP:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:.1f} TB"

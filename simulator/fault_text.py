"""Reads what a new version is to do wrong, in words: ``5% of jetson crash``, ``leak 2%/10 min``, ``p95 +30%``."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final

from schemas.condition_text import parse_duration
from schemas.errors import FleetError, PolicyError
from simulator.application import GOOD, MEMORY_BYTES, Behavior, crashing, failing, slow

EXAMPLES: Final = (
    "none", "crash", "5% of jetson crash", "leak 2%/10 min", "p95 +30%", "error rate +3%", "silent 10%", "unhealthy",
    "does not start", "20% of jetson error rate +5% after 20 min",
)  # fmt: skip
_CRASHES_PER_MINUTE: Final = 0.9
_WHOLE: Final = re.compile(
    r"(?:(?P<share>[0-9]+(?:\.[0-9]+)?) ?% (?:of (?P<type>\S+) )?)?(?P<what>.+?)(?: after (?P<after>.+))?"
)
_NUMBER: Final = r"\+? ?([0-9]{1,6}(?:\.[0-9]+)?) ?%"
_READERS: Final[Mapping[str, Callable[..., Behavior]]] = {
    "none": lambda: GOOD,
    "crash(?:es|ing)?": lambda: crashing(_CRASHES_PER_MINUTE),
    rf"(?:p50|p95|p99|latency) {_NUMBER}": lambda percent: slow(1 + float(percent) / 100),
    rf"error[ _-]rate {_NUMBER}": lambda percent: failing(min(float(percent) / 100, 1.0)),
    "silent": lambda: Behavior(silent_after_seconds=0.0),
    "unhealthy": lambda: Behavior(sick_after_seconds=0.0),
    "does not start": lambda: Behavior(starts=False),
}
_SHARED: Final = re.compile(r"(silent|crash|unhealthy|does not start) ([0-9]+(?:\.[0-9]+)?) ?%")


class FaultError(FleetError):
    """The caller's fault: a fault that cannot be read. The text shows what would be."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a new version does wrong, and where.

    Attributes:
        text: As it was written.
        share: Of the devices that are meant, 0..1, on which it does so.
        device_type: Which devices are meant; None is all.
        behavior: What it does there.
    """

    text: str
    share: float
    device_type: str | None
    behavior: Behavior


def parse_fault(text: str) -> Fault:
    """Read a fault.

    Raises:
        FaultError: It cannot be read; the text shows examples and the nearest of them.
    """
    plain = " ".join(text.split()).lower()
    swapped = _SHARED.fullmatch(plain)
    if swapped is not None:
        plain = f"{swapped[2]}% {swapped[1]}"
    match = _WHOLE.fullmatch(plain)
    if match is None:
        raise _unreadable(text)
    share = float(match["share"] or 100) / 100
    if not 0 < share <= 1:
        raise FaultError(f"{text!r}: {match['share']}% of the devices; write a share above 0 and up to 100")
    behavior = _behavior(match["what"], text)
    if match["after"] is not None:
        seconds = _seconds(match["after"], text)
        silent = None if behavior.silent_after_seconds is None else seconds
        behavior = replace(behavior, begins_after_seconds=seconds, silent_after_seconds=silent)
    return Fault(text, share, match["type"], behavior)


def _behavior(what: str, text: str) -> Behavior:
    for pattern, make in _READERS.items():
        found = re.fullmatch(pattern, what)
        if found is not None:
            return make(*found.groups())
    leak = re.fullmatch(rf"leak {_NUMBER} ?(?:/|per) ?(.+)", what)
    if leak is None:
        raise _unreadable(text)
    return Behavior(leak_bytes_per_second=MEMORY_BYTES * float(leak[1]) / 100 / _seconds(leak[2], text))


def _seconds(written: str, text: str) -> float:
    try:
        return parse_duration(written)
    except PolicyError as error:
        raise FaultError(f"{text!r}: {written!r} is no duration; write for example 10 min") from error


def _unreadable(text: str) -> FaultError:
    near = get_close_matches(text.lower(), EXAMPLES, n=1, cutoff=0.4)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return FaultError(f"--fault: cannot read {text[:80]!r}{meant} Write for example: {', '.join(EXAMPLES)}")

"""How a campaign is told: while it goes on, at its end, and as JSON."""

import sys
import time
from typing import Any, Final

from simulator.campaign import Campaign

_AGAIN_SECONDS: Final = {True: 0.2, False: 30.0}
"""How often progress is told on a terminal, and elsewhere."""


class Progress:
    """Tells on stderr how far a campaign is: on a terminal in one line that changes.

    Args:
        count: Seeds that will be run.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._is_terminal = sys.stderr.isatty()
        self._told_at = time.monotonic()
        self._is_open = False

    def tell(self, campaign: Campaign) -> None:
        """Say how far it is, unless that was just said."""
        now = time.monotonic()
        if now - self._told_at < _AGAIN_SECONDS[self._is_terminal]:
            return
        self._told_at, self._is_open = now, self._is_terminal
        text = f"{campaign.count} of {self._count} seeds, {campaign.seeds_per_second:.1f} seeds/s"
        sys.stderr.write(f"\r{text}  " if self._is_terminal else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Go on in a new line."""
        if self._is_open:
            sys.stderr.write("\n")


def render(campaign: Campaign, count: int, jobs: int) -> str:
    """Return the campaign for people: what became of the seeds, and in how many of them what was reached."""
    judged = "a violation" if campaign.failed is not None else "no violation"
    done = f"{campaign.count} of {count} seeds" if campaign.count < count else f"{count} seeds"
    stopped = ", interrupted" if campaign.was_interrupted else ""
    outcomes = ", ".join(f"{name} {number}" for name, number in sorted(campaign.outcomes.items()))
    speed = f"{campaign.seeds_per_second:.1f} seeds/s with {jobs} processes"
    lines = [
        f"{done}{stopped}, {judged}, {speed}",
        f"traces: {campaign.digest[:16]}",
        f"rollouts: {outcomes or 'none'}",
        "reached, in so many seeds:",
    ]
    for kind in ("rare", "mishap", "command", "phase", "fact"):
        found = sorted((-number, name) for name, number in campaign.reached.items() if name.startswith(f"{kind} "))
        lines += [f"{-number:8} {name}" for number, name in found]
    never = [name for name, number in campaign.reached.items() if not number]
    return "\n".join([*lines, f"never reached: {', '.join(name.removeprefix('rare ') for name in never) or 'nothing'}"])


def as_data(campaign: Campaign, device_count: int | None, jobs: int) -> dict[str, Any]:
    """Return the campaign as JSON; all but ``seconds``, ``seeds_per_second`` and ``jobs`` follows from the seeds."""
    failed = campaign.failed
    return {
        "seeds": campaign.count,
        "violations": 0 if failed is None else len(failed.violations),
        "failed": None if failed is None else {"seed": failed.seed, "violations": list(failed.violations)},
        "devices": device_count,
        "interrupted": campaign.was_interrupted,
        "seconds": round(campaign.seconds, 1),
        "seeds_per_second": round(campaign.seeds_per_second, 2),
        "jobs": jobs,
        "traces": campaign.digest,
        "outcomes": dict(sorted(campaign.outcomes.items())),
        "reached": dict(sorted(campaign.reached.items())),
    }

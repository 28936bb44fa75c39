"""What a device waits for of its own before it asks: somebody's consent, its hours, or a hook that said "later".

A device says so with a code in ``reported.error``. Its last word is kept, seen and not journaled: nothing follows from
it but what people are told.
"""

from dataclasses import dataclass, replace
from typing import Final

from schemas.messages import Reported

_SAID_MAX: Final = 200
_KEPT_MAX: Final = 100_000
"""Devices; of more it is not told."""
_ENDED: Final = frozenset({"idle", "failed", "rolled_back"})
_CODES: Final = frozenset({"consent_missing", "hook_waits", "outside_window"})


@dataclass(frozen=True, slots=True)
class OwnWait:
    """What a device waits for.

    Attributes:
        generation: The order that waits.
        code: What for, in the words of the wire.
        step: Where in the change.
        said: The device's own words, cut.
        since: When it was first heard to wait for this, by the orchestrator's clock.
    """

    generation: int
    code: str
    step: str
    said: str
    since: float

    @property
    def text(self) -> str:
        """What must come, in words."""
        match self.code:
            case "consent_missing":
                what = "somebody at the device to agree"
            case "hook_waits":
                what = f'its hook {self.step}, which said "later"'
            case _ if self.step == "fetch":
                what = f"the hours in which its site lets it fetch; it says: {self.said}"
            case _:
                what = f"its own window to open; it says: {self.said}"
        return f"{what} ({self.code})"

    @property
    def help(self) -> str:
        """What would help, in words."""
        match self.code:
            case "consent_missing":
                return "type on the device: tidegate-agent consent"
            case "hook_waits":
                return (
                    f"look on the device in state/hooks.log why {self.step} says so; "
                    "it is asked again every 5 minutes at the latest, and has failed after a day, or when a trial ends"
                )
            case _ if self.step == "fetch":
                return "it goes on by itself in those hours; they are set in sites.yaml, for orders to come"
            case _:
                return "it goes on by itself when the window opens; that is set in the device's agent.toml"


def note_own_wait(waits: dict[str, OwnWait], device: str, reported: Reported, now: float, *, is_current: bool) -> None:
    """Note what ``device`` waits for of its own, or that it does no more; the dictionary stays bounded."""
    error = reported.error
    before = waits.pop(device, None)
    if error is None or error.code not in _CODES or reported.state in _ENDED or not is_current:
        return
    wait = OwnWait(reported.observed_generation, error.code, error.step, error.message[:_SAID_MAX], now)
    if before is not None and replace(before, said=wait.said, since=now) == wait:
        wait = replace(wait, since=before.since)
    if len(waits) < _KEPT_MAX:
        waits[device] = wait

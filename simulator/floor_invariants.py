"""What must hold of the devices that serve: no healthy one is taken away while too few others are healthy.

What a device suffers reaches the orchestrator with a sample and counts from its next tick on. So only those are held
against a grant that have said for a while that they are not well, and really are not.
"""

from collections.abc import Mapping
from typing import Final

from simulator.rollout_facts import Entry, not_healthy_max
from simulator.scene import RolloutInvariant, Scene

_TOLD_SECONDS: Final = 180.0
"""After three samples and more than a tick the orchestrator knows."""
_FRESH_SECONDS: Final = 120.0
"""Good news that is not older than two samples counts."""


def enough_stay_healthy(entry: Entry, scene: Scene) -> str | None:
    """INV-9: a healthy device goes only while enough others are healthy; who is in quarantine counts for nothing."""
    if entry.kind != "grant_issued" or entry.body["step"] != "activate":
        return None
    device, ledger, rollout = entry.body["device"], scene.ledger, scene.ledger.rollout(entry)
    is_back = ledger.orders[device].action == "rollback"
    if is_back or device in rollout.in_flight or not _is_well(device, entry, scene):
        return None
    out = [*rollout.in_flight, *rollout.having("stranded")]
    serving = scene.online & rollout.progress.keys() - {*out, *ledger.quarantined}
    ill = [name for name in serving if _is_ill(name, entry, scene)]
    allowed = not_healthy_max(rollout, len(out) + len(serving))
    if len(out) + len(ill) + 1 > allowed:
        return f"{device} is healthy and goes, with {len(ill)} ill and {len(out)} out of service, {allowed} allowed"
    return None


def _is_well(device: str, entry: Entry, scene: Scene) -> bool:
    word = scene.words.get(device)
    if word is None or not word.is_well or entry.at - word.at > _FRESH_SECONDS:
        return False
    return entry.at - word.since > _TOLD_SECONDS and scene.serves(device)


def _is_ill(device: str, entry: Entry, scene: Scene) -> bool:
    word = scene.words.get(device)
    return word is not None and not word.is_well and entry.at - word.since > _TOLD_SECONDS and not scene.serves(device)


FLOOR_INVARIANTS: Final[Mapping[str, RolloutInvariant]] = {"INV-9 floor": enough_stay_healthy}

"""What must hold of what is called normal: taken before anything is touched, of what was normal, and not changed.

Each invariant is a function of an entry of the journal and the scene it enters; it returns what is wrong, or None.
"""

from collections.abc import Mapping
from typing import Final

from simulator.rollout_facts import Entry
from simulator.scene import RolloutInvariant, Scene


def baselines_are_of_what_was_normal(entry: Entry, scene: Scene) -> str | None:
    """INV-22: no sample counts of a device on the new version, on that of a rollout under way, or in quarantine.

    The new version is left out wherever it ran. What a device in flight sends while it runs the old version counts.
    """
    if entry.kind != "rollout_started":
        return None
    wanted, version = entry.body["policy"]["baseline"], entry.body["release"]["version"]
    for group, baseline in entry.body["baselines"].items():
        counted, least = baseline["sample_count"], wanted["min_samples"]
        if min(counted, baseline["request_count"]) < least:
            return f"{group} has a baseline of {counted} samples, {least} are needed"
        normal = scene.normal_count(group, version, entry.at - baseline["window_seconds"])
        if counted > normal:
            return f"{group} has a baseline of {counted} samples, {normal} were normal"
    return None


def baselines_stay(entry: Entry, scene: Scene) -> str | None:
    """INV-22: what is judged is compared with what was frozen when the rollout began."""
    if entry.kind != "gate_judged":
        return None
    frozen = scene.ledger.rollout(entry).normal_values
    for check in entry.body["checks"]:
        if check["baseline"] is not None and check["baseline"] not in frozen:
            return f"{check['check']} is compared with {check['baseline']}, which no baseline holds"
    return None


BASELINE_INVARIANTS: Final[Mapping[str, RolloutInvariant]] = {
    "INV-22 baselines are normal": baselines_are_of_what_was_normal,
    "INV-22 baselines stay": baselines_stay,
}

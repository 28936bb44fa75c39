"""What must hold of the evidence on which a rollout goes on: soaks, the canary's phases, gates, and silence.

Each invariant is a function of an entry of the journal and the scene it enters; it returns what is wrong, or None.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from simulator.rollout_facts import Entry, RolloutFacts
from simulator.scene import RolloutInvariant, Scene

_EVIDENCE_SECONDS_MAX: Final = 600.0
"""A gate that passes has seen a sample of each device that is not older: the shortest window of the policies here."""
_ILL_SECONDS_MAX: Final = 900.0
"""The longest window of a gate of the policies here: what was ill in all of it is in every figure of it."""
_SLACK_SECONDS: Final = 1e-3


def gates_judge_everybody(entry: Entry, scene: Scene) -> str | None:
    """INV-11: a gate passes only on fresh evidence of every deployed device, after the whole soak."""
    body = entry.body
    if entry.kind != "gate_judged" or body["verdict"] != "pass" or body["decision"] == "watch":
        return None
    rollout = scene.ledger.rollout(entry)
    deployed = rollout.having("proven", "committed")
    if not deployed or body["devices"] != len(deployed):
        return f"judged {body['devices']} devices, {len(deployed)} are deployed"
    if not body["checks"] or any(check["verdict"] != "pass" for check in body["checks"]):
        return "passed without every check"
    silent = [name for name in deployed if entry.at - scene.sampled_at.get(name, -math.inf) > _EVIDENCE_SECONDS_MAX]
    if silent:
        return f"passed without evidence of {silent[0]}"
    watched, needed = rollout.watched(entry.at), soak_needed_seconds(rollout)
    return f"passed after {watched:.0f} of {needed:.0f} s" if watched + _SLACK_SECONDS < needed else None


def nothing_ill_passes(entry: Entry, scene: Scene) -> str | None:
    """INV-11: no gate passes while a whole deployed group is heard, does not lie, and has been ill all along.

    Errors and latencies are judged of a group together, so that one device that is ill may be lost among others.
    """
    body = entry.body
    if entry.kind != "gate_judged" or body["verdict"] != "pass" or body["decision"] == "watch":
        return None
    ill_seconds: dict[str, float] = {}
    for name in scene.ledger.rollout(entry).having("proven", "committed"):
        group = scene.groups[name]
        seconds = scene.ill_seconds(name) if name in scene.words else 0.0
        ill_seconds[group] = min(ill_seconds.get(group, math.inf), seconds)
    worst = max(ill_seconds, key=ill_seconds.__getitem__, default="")
    is_ill = bool(worst) and ill_seconds[worst] > _ILL_SECONDS_MAX
    return f"passed, and all of {worst} is ill for {ill_seconds[worst]:.0f} s" if is_ill else None


def no_crash_is_made_up(entry: Entry, scene: Scene) -> str | None:
    """INV-11: no gate counts more crashes and reboots than there were since its devices were let go."""
    if entry.kind != "gate_judged":
        return None
    rollout = scene.ledger.rollout(entry)
    deployed = rollout.having("proven", "committed")
    if any(name in scene.liars or scene.is_copied(name) for name in deployed):
        return None
    again = sum(at >= rollout.moved_at[name] for name in deployed for at in scene.truths[name].restarts)
    counted = max((each["observed"] or 0 for each in entry.body["checks"] if each["check"] == "crash_count"), default=0)
    return f"{counted:g} crashes count, there were {again}" if counted > again else None


def soak_is_watched(entry: Entry, scene: Scene) -> str | None:
    """INV-11: time during which nobody watched does not count as soak."""
    if entry.kind not in {"soak_progressed", "canary_phase_started"}:
        return None
    watched, counted = scene.ledger.rollout(entry).watched(entry.at), entry.body["soaked_seconds"]
    return f"{counted:.0f} s count, {watched:.0f} s were watched" if counted > watched + _SLACK_SECONDS else None


def phases_follow_each_other(entry: Entry, scene: Scene) -> str | None:
    """INV-11: a canary is watched in every phase that has a length, in order, to its end, and each has passed."""
    body = entry.body
    is_gate = entry.kind == "gate_judged" and body["decision"] in {"await_approval", "proceed", "complete"}
    if entry.kind != "canary_phase_started" and not (is_gate and body["wave"] == 0):
        return None
    rollout = scene.ledger.rollout(entry)
    names = [*rollout.phase_seconds, None]
    current = rollout.current_phase
    if current is None:
        return None
    following = names[names.index(current) + 1]
    if following != body["phase"]:
        return f"{body['phase'] or 'the gate'} after {current}, next is {following or 'the gate'}"
    if entry.kind == "canary_phase_started" and rollout.phase_verdict != (current, "pass"):
        return f"{body['phase']} begins after {rollout.phase_verdict}"
    watched, needed = rollout.watched(entry.at), soak_needed_seconds(rollout)
    return f"{current} ends after {watched:.0f} of {needed:.0f} s" if watched + _SLACK_SECONDS < needed else None


def extensions_are_bounded(entry: Entry, scene: Scene) -> str | None:
    """INV-11: a soak is extended so often as the policy says, and no longer."""
    if entry.kind != "soak_extended":
        return None
    rollout, number = scene.ledger.rollout(entry), entry.body["extension"]
    limit = rollout.policy["max_soak_extensions"]
    if number != rollout.extensions + 1 or number > limit:
        return f"extension {number} after {rollout.extensions}, at most {limit}"
    return None


def silence_decides_nothing(entry: Entry, scene: Scene) -> str | None:
    """INV-11: while so many devices are silent that the orchestrator suspects itself, it decides nothing."""
    if not scene.ledger.is_frozen:
        return None
    body, device = entry.body, entry.body.get("device", "")
    match entry.kind:
        case "gate_judged" | "soak_started" | "soak_extended" | "canary_phase_started" | "rollout_halted":
            is_decided = True
        case "device_failed":
            is_decided = body["version"] is None
        case "rollback_ordered":
            is_decided = body["by"] == "orchestrator"
        case "grant_issued":
            is_decided = body["step"] == "activate" and scene.ledger.orders[device].action == "install"
        case _:
            is_decided = False
    return f"decided in the silence {device}" if is_decided else None


def soak_needed_seconds(rollout: RolloutFacts) -> float:
    """Return at how much soak of the wave the next judgement is due."""
    if rollout.until_seconds is not None:
        return rollout.until_seconds
    if rollout.wave == 0:
        return rollout.phase_since_seconds + rollout.phase_seconds.get(rollout.current_phase or "", 0.0)
    return float(wave_policy(rollout)["soak_minutes"]) * 60


def wave_policy(rollout: RolloutFacts) -> Mapping[str, Any]:
    """Return what the policy says of the current wave; nothing of the canary."""
    name = rollout.plan.waves[rollout.wave].name
    found: Mapping[str, Any] = next((w for w in rollout.policy["rollout"]["waves"] if w["name"] == name), {})
    return found


WATCH_INVARIANTS: Final[Mapping[str, RolloutInvariant]] = {
    "INV-11 gate soundness": gates_judge_everybody,
    "INV-11 nothing ill passes": nothing_ill_passes,
    "INV-11 no crash is made up": no_crash_is_made_up,
    "INV-11 soak is watched": soak_is_watched,
    "INV-11 canary phases": phases_follow_each_other,
    "INV-11 extensions": extensions_are_bounded,
    "INV-11 silence": silence_decides_nothing,
}

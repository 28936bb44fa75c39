"""What must hold of every entry of the journal, against the journal before it and the ground truth.

Each invariant is a function of the entry and the scene it enters; it returns what is wrong, or None.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from simulator.ledger import Entry, Ledger, RolloutFacts
from simulator.truth import DeviceTruth

_EVIDENCE_SECONDS_MAX: Final = 600.0
"""A gate that passes has seen a sample of each device that is not older: the shortest window of the policies here."""
_SLACK_SECONDS: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Scene:
    """What an entry is judged by.

    Attributes:
        ledger: The journal before the entry.
        truths: What the devices have really done.
        online: The devices that the orchestrator believes to be there.
        sampled_at: When the last sample of each device reached the orchestrator.
        approvals: Each (rollout, wave) that a person has asked to approve; the wave may be left out.
    """

    ledger: Ledger
    truths: Mapping[str, DeviceTruth]
    online: frozenset[str]
    sampled_at: Mapping[str, float]
    approvals: set[tuple[str, str | None]]


RolloutInvariant = Callable[[Entry, Scene], str | None]


def approval_comes_first(entry: Entry, scene: Scene) -> str | None:
    """INV-7: nothing after the canary without one approval, bound to the plan, given after the gate had passed."""
    body = entry.body
    if entry.kind == "rollout_approved":
        rollout = scene.ledger.rollout(entry)
        name = rollout.plan.waves[body["wave"]].name
        if body["wave"] in rollout.approved:
            return f"the approval of {name} is consumed twice"
        if body["wave"] not in rollout.passed or body["plan_digest"] != rollout.plan.digest:
            return f"{name} is approved without its gate or for another plan"
        asked = {(body["rollout"], name), (body["rollout"], None)} & scene.approvals
        return None if asked else f"nobody has approved {name}"
    names = _installed(entry, scene)
    if not names:
        return None
    rollout = scene.ledger.rollout(entry)
    later = [name for name in names if rollout.wave_of[name] > 0]
    return f"{later[0]} without an approval" if later and rollout.needs_approval and 0 not in rollout.approved else None


def capacity_holds(entry: Entry, scene: Scene) -> str | None:
    """INV-8 and INV-9: never more devices out of service than the policy allows."""
    if entry.kind != "grant_issued" or entry.body["step"] != "activate":
        return None
    device, rollout = entry.body["device"], scene.ledger.rollout(entry)
    if device in rollout.in_flight:
        return None
    policy = rollout.policy
    parallel_max = policy["rollout"]["global"]["max_parallel_deploys"]
    if scene.ledger.orders[device].action == "rollback":
        returning = len(rollout.having("returning_granted")) + (rollout.progress[device] == "returning")
        return f"{returning} devices return at once" if returning > parallel_max else None
    unavailable = len(rollout.in_flight) + len(rollout.having("stranded")) + 1
    resting = [name for name, where in rollout.progress.items() if where not in {"granted", "returning_granted"}]
    serving = [name for name in resting if name in scene.online and rollout.progress[name] != "stranded"]
    present = unavailable - 1 + len(serving)
    update = policy["rolling_update"]
    allowed = min(
        math.floor(present * update["max_unavailable"] / 100),
        present - math.ceil(present * update["min_available"] / 100),
    )
    if len(rollout.in_flight) + 1 > parallel_max or unavailable > max(1, allowed):
        return f"{unavailable} of {present} devices out of service, {max(1, allowed)} allowed"
    return None


def waves_keep_their_order(entry: Entry, scene: Scene) -> str | None:
    """INV-10: a wave begins only after the gate before it, and nobody goes before the wave."""
    body = entry.body
    if entry.kind == "wave_started":
        rollout = scene.ledger.rollout(entry)
        if body["wave"] != rollout.wave + 1:
            return f"wave {body['wave']} after {rollout.wave}"
        if body["wave"] > 0 and (rollout.wave not in rollout.passed or rollout.is_stopped):
            return f"wave {body['wave']} without the gate before it"
        return None
    early = [
        name for name in _installed(entry, scene) if _facts(entry, scene).wave_of[name] > _facts(entry, scene).wave
    ]
    return f"{early[0]} goes before its wave" if early else None


def gates_judge_everybody(entry: Entry, scene: Scene) -> str | None:
    """INV-11: a gate passes only on fresh evidence of every deployed device, after the whole soak."""
    body = entry.body
    if entry.kind != "gate_judged" or body["verdict"] != "pass" or body["decision"] == "watch":
        return None
    rollout = scene.ledger.rollout(entry)
    deployed = rollout.having("committed")
    if not deployed or body["devices"] != len(deployed):
        return f"judged {body['devices']} devices, {len(deployed)} are deployed"
    if not body["checks"] or any(check["verdict"] != "pass" for check in body["checks"]):
        return "passed without every check"
    silent = [name for name in deployed if entry.at - scene.sampled_at.get(name, -math.inf) > _EVIDENCE_SECONDS_MAX]
    if silent:
        return f"passed without evidence of {silent[0]}"
    watched, needed = rollout.watched(entry.at), _soak_seconds(rollout)
    return f"passed after {watched:.0f} of {needed:.0f} s" if watched + _SLACK_SECONDS < needed else None


def soak_is_watched(entry: Entry, scene: Scene) -> str | None:
    """INV-11: time during which nobody watched does not count as soak."""
    if entry.kind != "soak_progressed":
        return None
    watched, counted = scene.ledger.rollout(entry).watched(entry.at), entry.body["soaked_seconds"]
    return f"{counted:.0f} s count, {watched:.0f} s were watched" if counted > watched + _SLACK_SECONDS else None


def stops_stop(entry: Entry, scene: Scene) -> str | None:
    """INV-12: after a stop nothing is ordered or granted forwards until a person resumes."""
    names = _installed(entry, scene)
    return f"{names[0]} goes on after a stop" if names and _facts(entry, scene).is_stopped else None


def nothing_stale_is_granted(entry: Entry, scene: Scene) -> str | None:
    """INV-15: a grant is for what the device was ordered last, and orders only grow."""
    body = entry.body
    if entry.kind == "grant_issued":
        order = scene.ledger.orders.get(body["device"])
        if order is None or (order.rollout, order.generation) != (body["rollout"], body["generation"]):
            return f"{body['device']} is granted generation {body['generation']}, ordered is {order}"
        return f"{body['device']} is held and granted" if order.action == "hold" else None
    if entry.kind != "devices_ordered":
        return None
    known = (scene.ledger.orders[name].generation for name in body["devices"] if name in scene.ledger.orders)
    return "a generation that is not new" if body["generation"] <= max(known, default=-1) else None


def one_rollout_for_each_device(entry: Entry, scene: Scene) -> str | None:
    """INV-18: a device belongs to one active rollout at most."""
    if entry.kind != "rollout_started":
        return None
    targets = {device for wave in entry.body["plan"]["waves"] for device in wave["members"]}
    for name, rollout in scene.ledger.rollouts.items():
        shared = sorted(targets & set(rollout.wave_of))
        if shared and not rollout.outcome:
            return f"{shared[0]} is in {name} already"
    return None


def words_come_from_the_device(entry: Entry, scene: Scene) -> str | None:
    """INV-19: what is written about a device is what this device has said."""
    body = entry.body
    if entry.kind not in _SAID or body.get("code") == "deploy_timeout":
        return None
    reports = scene.truths[body["device"]].reports
    said = any((body["generation"], state, body["version"]) in reports for state in _SAID[entry.kind])
    return None if said else f"{body['device']} never said so: {entry.kind} {body['version']}"


def thresholds_hold(entry: Entry, scene: Scene) -> str | None:
    """INV-21: no wave is left behind with more failures than allowed, in exact numbers."""
    is_left = entry.kind == "wave_started" and entry.body["wave"] > 0
    if not is_left and entry.body.get("outcome") != "completed":
        return None
    rollout = scene.ledger.rollout(entry)
    planned = rollout.plan.waves[rollout.wave]
    failed = sum(name in rollout.failed and name not in rollout.excused for name in planned.members)
    percent = _wave_policy(rollout).get("failure_threshold_percent", 0.0)
    if not planned.members or failed * 100 > percent * len(planned.members):
        return f"{failed} of {len(planned.members)} in {planned.name} failed, limit {percent:g}%"
    return None


def decisions_are_taken_once(entry: Entry, scene: Scene) -> str | None:
    """INV-16: no outcome of a device or a rollout is written twice."""
    body = entry.body
    if entry.kind == "rollout_ended" and scene.ledger.rollout(entry).outcome:
        is_again = body["outcome"] == scene.ledger.rollout(entry).outcome
        return f"{body['rollout']} ends twice" if is_again else None
    words = {"device_committed": "committed", "device_returned": "returned"}
    if entry.kind not in words:
        return None
    known = scene.ledger.rollout(entry).progress[body["device"]]
    return f"{body['device']} is {known} already" if known == words[entry.kind] else None


_SAID: Final[Mapping[str, tuple[str, ...]]] = {
    "device_committed": ("idle",),
    "device_returned": ("idle", "rolled_back"),
    "device_failed": ("failed", "rolled_back"),
}

ROLLOUT_INVARIANTS: Final[Mapping[str, RolloutInvariant]] = {
    "INV-7 approval": approval_comes_first,
    "INV-8 capacity": capacity_holds,
    "INV-10 wave order": waves_keep_their_order,
    "INV-11 gate soundness": gates_judge_everybody,
    "INV-11 soak is watched": soak_is_watched,
    "INV-12 stops stop": stops_stop,
    "INV-15 nothing stale": nothing_stale_is_granted,
    "INV-16 decided once": decisions_are_taken_once,
    "INV-18 one rollout": one_rollout_for_each_device,
    "INV-19 attribution": words_come_from_the_device,
    "INV-21 thresholds": thresholds_hold,
}


def _installed(entry: Entry, scene: Scene) -> list[str]:
    """Return the devices that this entry lets go forwards."""
    body = entry.body
    if entry.kind == "devices_ordered":
        return list(body["devices"]) if body["action"] == "install" else []
    if entry.kind != "grant_issued" or body["step"] != "activate":
        return []
    return [body["device"]] if scene.ledger.orders[body["device"]].action == "install" else []


def _facts(entry: Entry, scene: Scene) -> RolloutFacts:
    return scene.ledger.rollout(entry)


def _wave_policy(rollout: RolloutFacts) -> Mapping[str, Any]:
    name = rollout.plan.waves[rollout.wave].name
    found: Mapping[str, Any] = next((w for w in rollout.policy["rollout"]["waves"] if w["name"] == name), {})
    return found


def _soak_seconds(rollout: RolloutFacts) -> float:
    if rollout.until_seconds is not None:
        return rollout.until_seconds
    canary = rollout.policy["rollout"]["canary"]
    if rollout.wave == 0:
        return float(canary["short_term_minutes"] + canary["soak_minutes"]) * 60
    return float(_wave_policy(rollout)["soak_minutes"]) * 60

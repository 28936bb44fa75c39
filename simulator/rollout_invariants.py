"""What must hold of every entry of the journal, against the journal before it and the ground truth.

Each invariant is a function of the entry and the scene it enters; it returns what is wrong, or None.
"""

from collections.abc import Mapping
from typing import Final

from orchestrator.planning.plan import Plan
from schemas.times import parse_timestamp
from simulator.baseline_invariants import BASELINE_INVARIANTS
from simulator.floor_invariants import FLOOR_INVARIANTS
from simulator.rollout_facts import Entry, RolloutFacts, out_of_service_max
from simulator.scene import RolloutInvariant, Scene
from simulator.tries_invariants import TRIES_INVARIANTS
from simulator.watch_invariants import WATCH_INVARIANTS, wave_policy


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
        if rollout.policy["four_eyes"] and body["by"] == rollout.by:
            return f"{name} is approved by {body['by']}, who started it"
        asked = {(body["rollout"], name), (body["rollout"], None)} & scene.approvals
        return None if asked else f"nobody has approved {name}"
    names = _let_go(entry, scene)
    if not names:
        return None
    rollout = scene.ledger.rollout(entry)
    later = [name for name in names if rollout.wave_of[name] > 0]
    return f"{later[0]} without an approval" if later and rollout.needs_approval and 0 not in rollout.approved else None


def capacity_holds(entry: Entry, scene: Scene) -> str | None:
    """INV-8: never more devices out of service than the policy allows."""
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
    allowed = out_of_service_max(rollout, present)
    if len(rollout.in_flight) + 1 > parallel_max or unavailable > allowed:
        return f"{unavailable} of {present} devices out of service, {allowed} allowed"
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
    early = [name for name in _let_go(entry, scene) if _facts(entry, scene).wave_of[name] > _facts(entry, scene).wave]
    return f"{early[0]} goes before its wave" if early else None


def staging_lets_nobody_go(entry: Entry, scene: Scene) -> str | None:
    """INV-10: only a staged rollout orders ahead, only for waves that are not open, and begins once it is activated."""
    body = entry.body
    match entry.kind:
        case "devices_ordered" if body.get("ahead", False):
            rollout = scene.ledger.rollout(entry)
            opened = [
                name
                for name in body["devices"]
                if rollout.wave_of[name] <= rollout.wave and not _stands(entry, scene, name)
            ]
            if opened or not rollout.is_staged or body["action"] != "install":
                return f"{next(iter(opened), body['rollout'])} is ordered to {body['action']} ahead"
        case "wave_started" | "grant_issued":
            rollout = scene.ledger.rollout(entry)
            if rollout.is_staged and not rollout.is_activated:
                return f"{body['rollout']} goes on and nobody has activated it"
        case "rollout_activated":
            rollout, when = scene.ledger.rollout(entry), scene.ledger.rollout(entry).policy["distribution"]["activate"]
            if not rollout.is_staged or rollout.is_activated or rollout.is_stopped:
                return f"{body['rollout']} is activated and not waiting for it"
            is_time = when != "manual" and entry.at >= parse_timestamp(when)
            if not (is_time if body["by"] == "orchestrator" else body["rollout"] in scene.activations):
                return f"nobody has activated {body['rollout']}, and it should begin {when}"
        case "device_failed" | "device_retried" if body["code"] in {"deploy_timeout", "silent"}:
            rollout, name = scene.ledger.rollout(entry), body["device"]
            is_open = rollout.wave_of[name] <= rollout.wave  # Who asks at once goes by the order that came ahead.
            if scene.ledger.orders[name].is_ahead and not is_open:
                return f"{name} is late for a wave that is not open"
        case _:
            pass
    return None


def only_what_is_whole_completes(entry: Entry, scene: Scene) -> str | None:
    """INV-10: a rollout is complete after the gate of its last wave, or because a person does not wait any longer."""
    if entry.kind != "rollout_ended" or entry.body["outcome"] != "completed":
        return None
    rollout = scene.ledger.rollout(entry)
    is_last = rollout.wave == len(rollout.plan.waves) - 1
    if entry.body["by"] == "orchestrator":
        return None if is_last and rollout.wave in rollout.passed else f"complete in wave {rollout.wave}"
    return None if is_last and rollout.awaits == "await_devices" else f"finished while it awaits {rollout.awaits}"


def rollbacks_are_seen(entry: Entry, scene: Scene) -> str | None:
    """INV-6: a rollback is over when the devices that went back have been looked at."""
    if entry.kind != "rollout_ended" or entry.body["outcome"] != "rolled_back":
        return None
    return None if scene.ledger.rollout(entry).is_verified else "over without a look at what went back"


def stops_stop(entry: Entry, scene: Scene) -> str | None:
    """INV-12: after a stop nothing is ordered or granted forwards until a person resumes."""
    names = _sent_forwards(entry, scene)
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


def quarantine_keeps_out(entry: Entry, scene: Scene) -> str | None:
    """INV-18: a device in quarantine is ordered and granted nothing new."""
    out = [n for n in _sent_forwards(entry, scene) if n in scene.ledger.quarantined and not _stands(entry, scene, n)]
    return f"{out[0]} is in quarantine and goes on" if out else None


def one_rollout_for_each_device(entry: Entry, scene: Scene) -> str | None:
    """INV-18: a device belongs to one active rollout at most."""
    if entry.kind == "devices_joined":
        targets = set(entry.body["devices"])
    elif entry.kind == "rollout_started":
        targets = set(Plan.model_validate(entry.body["plan"]).targets)
    else:
        return None
    for name, rollout in scene.ledger.rollouts.items():
        shared = sorted(targets & set(rollout.wave_of))
        if shared and not rollout.outcome:
            return f"{shared[0]} is in {name} already"
    return None


def thresholds_hold(entry: Entry, scene: Scene) -> str | None:
    """INV-21: no wave is left behind with more failures than allowed, in exact numbers."""
    is_left = entry.kind == "wave_started" and entry.body["wave"] > 0
    if not is_left and entry.body.get("outcome") != "completed":
        return None
    rollout = scene.ledger.rollout(entry)
    planned = rollout.plan.waves[rollout.wave]
    failed = sum(name in rollout.failed and name not in rollout.excused for name in planned.members)
    percent = wave_policy(rollout).get("failure_threshold_percent", 0.0)
    if not planned.members or failed * 100 > percent * len(planned.members):
        return f"{failed} of {len(planned.members)} in {planned.name} failed, limit {percent:g}%"
    return None


def decisions_are_taken_once(entry: Entry, scene: Scene) -> str | None:
    """INV-16: no outcome of a device or a rollout is written twice, and no person's word is taken twice."""
    body = entry.body
    if entry.kind == "rollout_resumed":
        asked = scene.resumes[body["rollout"]]
        is_more = scene.ledger.rollout(entry).resumed_count >= asked
        return f"{body['rollout']} is resumed oftener than the {asked} times that people asked for" if is_more else None
    if entry.kind == "rollout_ended" and scene.ledger.rollout(entry).outcome:
        is_again = body["outcome"] == scene.ledger.rollout(entry).outcome
        return f"{body['rollout']} ends twice" if is_again else None
    words = {"device_committed": "committed", "device_returned": "returned"}
    if entry.kind not in words:
        return None
    known = scene.ledger.rollout(entry).progress[body["device"]]
    return f"{body['device']} is {known} already" if known == words[entry.kind] else None


_GONE: Final = frozenset({"granted", "proven", "committed"})

ROLLOUT_INVARIANTS: Final[Mapping[str, RolloutInvariant]] = {
    "INV-7 approval": approval_comes_first,
    "INV-8 capacity": capacity_holds,
    **FLOOR_INVARIANTS,
    **TRIES_INVARIANTS,
    "INV-6 rollbacks are seen": rollbacks_are_seen,
    "INV-10 wave order": waves_keep_their_order,
    "INV-10 staging": staging_lets_nobody_go,
    "INV-10 completion": only_what_is_whole_completes,
    **WATCH_INVARIANTS,
    **BASELINE_INVARIANTS,
    "INV-12 stops stop": stops_stop,
    "INV-15 nothing stale": nothing_stale_is_granted,
    "INV-16 decided once": decisions_are_taken_once,
    "INV-18 one rollout": one_rollout_for_each_device,
    "INV-18 quarantine": quarantine_keeps_out,
    "INV-21 thresholds": thresholds_hold,
}


def _let_go(entry: Entry, scene: Scene) -> list[str]:
    """Return the devices that this entry lets go forwards; an order ahead of a wave lets nobody go."""
    return [] if entry.body.get("ahead", False) else _installed(entry, scene)


def _installed(entry: Entry, scene: Scene) -> list[str]:
    """Return the devices that this entry orders or lets go forwards."""
    body = entry.body
    if entry.kind == "devices_ordered":
        return list(body["devices"]) if body["action"] == "install" else []
    if entry.kind != "grant_issued" or body["step"] != "activate":
        return []
    return [body["device"]] if scene.ledger.orders[body["device"]].action == "install" else []


def _sent_forwards(entry: Entry, scene: Scene) -> list[str]:
    """Return those of them that have not gone already: after a backup was put back, what stands is ordered again."""
    names = _installed(entry, scene)
    if not names or entry.kind != "devices_ordered":
        return names
    return [name for name in names if _facts(entry, scene).progress[name] not in _GONE]


def _stands(entry: Entry, scene: Scene, device: str) -> bool:
    """Say whether a device is ordered what it was ordered already: so it is once after a backup was put back."""
    body, order = entry.body, scene.ledger.orders.get(device)
    if order is None or entry.kind != "devices_ordered" or device not in scene.ledger.told_before:
        return False
    is_same = order._replace(generation=0) == (body["rollout"], body["action"], 0, body.get("ahead", False))
    return is_same and _facts(entry, scene).progress[device] == "ordered"


def _facts(entry: Entry, scene: Scene) -> RolloutFacts:
    return scene.ledger.rollout(entry)

"""What must hold of what is written about one device: its failures, its tries, and why it is kept out.

Each invariant is a function of an entry of the journal and the scene it enters; it returns what is wrong, or None.
"""

import math
from collections.abc import Mapping
from typing import Final

from orchestrator.core.clones import REASON as IS_COPIED
from simulator.rollout_facts import Entry
from simulator.scene import RolloutInvariant, Scene

_SAID: Final[Mapping[str, tuple[str, ...]]] = {
    "device_committed": ("idle",),
    "device_returned": ("idle", "rolled_back"),
    "device_failed": ("failed", "rolled_back"),
}
_ORCHESTRATOR: Final = "orchestrator"


def words_come_from_the_device(entry: Entry, scene: Scene) -> str | None:
    """INV-19: what is written about a device is what this device has said."""
    body = entry.body
    if entry.kind not in _SAID or body.get("code") == "deploy_timeout":
        return None
    if body.get("code") == "silent":
        limit = scene.ledger.rollout(entry).policy["rollout"]["global"]["silence_deadline_minutes"] * 60
        silent = entry.at - scene.sampled_at.get(body["device"], -math.inf)
        return f"{body['device']} was heard {silent:.0f} s ago" if silent <= limit else None
    reports = scene.truths[body["device"]].reports
    said = any((body["generation"], state, body["version"]) in reports for state in _SAID[entry.kind])
    return None if said else f"{body['device']} never said so: {entry.kind} {body['version']}"


def tries_are_bounded(entry: Entry, scene: Scene) -> str | None:
    """INV-6: a device is tried again as often as the policy says, and after that only by a person."""
    body = entry.body
    if entry.kind != "device_retried" or body["by"] != "orchestrator":
        return None
    rollout = scene.ledger.rollout(entry)
    limit, before = rollout.policy["rollout"]["global"]["max_retries"], rollout.attempts.get(body["device"], 0)
    if body["attempt"] != before + 1 or body["attempt"] > limit:
        return f"{body['device']}: try {body['attempt']} after {before}, at most {limit}"
    return None


def tries_are_used(entry: Entry, scene: Scene) -> str | None:
    """INV-6: nobody is given up who was let do nothing yet, has tries left, and whose failure may pass."""
    body = entry.body
    if entry.kind != "device_failed":
        return None
    device, rollout = body["device"], scene.ledger.rollout(entry)
    may_pass = body["code"] == "deploy_timeout" or (body["generation"], body["code"]) in scene.truths[device].passing
    tries, limit = rollout.attempts.get(device, 0), rollout.policy["rollout"]["global"]["max_retries"]
    goes_on = rollout.progress[device] == "ordered" and not rollout.is_stopped and not rollout.outcome
    return f"{device} is given up after {tries} of {limit} tries" if may_pass and goes_on and tries < limit else None


def tries_wait(entry: Entry, scene: Scene) -> str | None:
    """INV-6: nobody is ordered another try before its pause is over."""
    if entry.kind != "devices_ordered" or entry.body["action"] != "install":
        return None
    retry_at = scene.ledger.rollout(entry).retry_at
    early = [name for name in entry.body["devices"] if retry_at.get(name, -math.inf) > entry.at]
    return f"{early[0]} is tried again {retry_at[early[0]] - entry.at:.0f} s too early" if early else None


def failures_are_of_an_order(entry: Entry, scene: Scene) -> str | None:
    """INV-19: a device fails at what it was ordered, and not at the try before that one."""
    if entry.kind != "device_failed" or scene.ledger.rollout(entry).progress[entry.body["device"]] != "pending":
        return None
    return f"{entry.body['device']} failed at what it has yet to be ordered"


def nobody_is_late_too_soon(entry: Entry, scene: Scene) -> str | None:
    """INV-19: a device has the policy's whole time to say how it ended, since it was ordered or let go."""
    if entry.kind not in {"device_failed", "device_retried"} or entry.body["code"] != "deploy_timeout":
        return None
    device, rollout = entry.body["device"], scene.ledger.rollout(entry)
    limit = rollout.policy["rollout"]["global"]["deploy_timeout_minutes"] * 60
    took = entry.at - rollout.moved_at[device]
    return f"{device} is late after {took:.0f} of {limit:.0f} s" if took <= limit else None


def quarantine_has_its_reason(entry: Entry, scene: Scene) -> str | None:
    """INV-18: the orchestrator keeps a device out in the moment in which it failed, or for what it really does."""
    body = entry.body
    if entry.kind != "device_quarantined" or body["by"] != _ORCHESTRATOR:
        return None
    device = body["device"]
    if body["reason"] == IS_COPIED:
        return None if scene.is_copied(device) else f"there is one {device}"
    is_known = scene.ledger.mishaps.get(device) == (entry.at, body["reason"]) or device in scene.liars
    return None if is_known else f"{device} is kept out for {body['reason']}, which nothing says"


TRIES_INVARIANTS: Final[Mapping[str, RolloutInvariant]] = {
    "INV-6 tries are bounded": tries_are_bounded,
    "INV-6 tries are used": tries_are_used,
    "INV-6 tries wait": tries_wait,
    "INV-18 quarantine has a reason": quarantine_has_its_reason,
    "INV-19 attribution": words_come_from_the_device,
    "INV-19 failures are of an order": failures_are_of_an_order,
    "INV-19 nobody is late too soon": nobody_is_late_too_soon,
}

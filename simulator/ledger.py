"""What the durable journal says, read as plain JSON and folded once more, apart from the product's own fold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from orchestrator.planning.plan import Plan

_STOPPING: Final = frozenset({"rollout_halted", "rollout_ended"})


class Entry(NamedTuple):
    """One entry of the journal."""

    seq: int
    at: float
    kind: str
    body: Mapping[str, Any]


class Order(NamedTuple):
    """What a device was ordered last."""

    rollout: str
    action: str
    generation: int


@dataclass(slots=True)
class RolloutFacts:
    """What the journal holds about one rollout.

    Attributes:
        wave_of: Each target's wave.
        progress: Where each target is, in the ledger's own words.
        wave: The wave that is open; -1 before the first.
        passed: Waves whose gate passed since they were opened.
        approved: Approvals by wave.
        is_stopped: Halted, rolling back or ended badly, and not resumed.
        failed: Members that count against their wave.
        excused: Of these, the ones that a person let pass.
        watched_seconds: Soak of this wave that somebody watched.
        watched_since: From here on it is watched; None while it is not.
        until_seconds: So much soak this wave needs after it was extended; None while it was not.
    """

    version: str
    plan: Plan
    policy: Mapping[str, Any]
    wave_of: dict[str, int]
    progress: dict[str, str]
    wave: int = -1
    passed: set[int] = field(default_factory=set)
    approved: dict[int, int] = field(default_factory=dict)
    is_stopped: bool = False
    outcome: str = ""
    failed: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)
    watched_seconds: float = 0.0
    watched_since: float | None = None
    until_seconds: float | None = None

    def having(self, *progress: str) -> list[str]:
        """Return the members in one of these states, in the plan's order."""
        return [device for device, where in self.progress.items() if where in progress]

    def watched(self, now: float) -> float:
        """Return the watched soak of this wave in seconds."""
        return self.watched_seconds + (0.0 if self.watched_since is None else now - self.watched_since)

    @property
    def in_flight(self) -> list[str]:
        """Members that were granted a change whose outcome is not known."""
        return self.having("granted", "returning_granted")

    @property
    def needs_approval(self) -> bool:
        """Whether a person must approve the canary."""
        return bool(self.policy["rollout"]["canary"]["require_human_approval_after"])


@dataclass(slots=True)
class Ledger:
    """All facts of the journal.

    Attributes:
        orders: What each device was ordered last.
        ordered: Every (device, generation) that was ever ordered.
        grants: The entry of every grant, by device and nonce.
    """

    rollouts: dict[str, RolloutFacts] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    ordered: set[tuple[str, int]] = field(default_factory=set)
    grants: dict[tuple[str, str], Entry] = field(default_factory=dict)
    last_seq: int = 0

    def rollout(self, entry: Entry) -> RolloutFacts:
        """Return the rollout that an entry is about."""
        return self.rollouts[entry.body["rollout"]]

    def apply(self, entry: Entry) -> None:
        """Fold in the next entry."""
        self.last_seq = entry.seq
        body = entry.body
        match entry.kind:
            case "epoch_opened":
                for rollout in self.rollouts.values():
                    _interrupt(rollout, entry.at)
            case "rollout_started":
                self.rollouts[body["rollout"]] = _started(body)
            case "devices_ordered":
                self._order(entry)
            case "grant_issued":
                self._grant(entry)
            case _ if "rollout" in body:
                _apply_to_rollout(self.rollout(entry), entry)

    def _order(self, entry: Entry) -> None:
        body, rollout = entry.body, self.rollout(entry)
        word = {"install": "ordered", "rollback": "returning", "hold": "held"}[body["action"]]
        for device in body["devices"]:
            self.orders[device] = Order(body["rollout"], body["action"], body["generation"])
            self.ordered.add((device, body["generation"]))
            rollout.progress[device] = word

    def _grant(self, entry: Entry) -> None:
        device = entry.body["device"]
        self.grants[device, entry.body["nonce"]] = entry
        rollout = self.rollout(entry)
        if entry.body["step"] == "activate":
            granted = {"ordered": "granted", "returning": "returning_granted"}
            rollout.progress[device] = granted.get(rollout.progress[device], rollout.progress[device])


def _started(body: Mapping[str, Any]) -> RolloutFacts:
    plan = Plan.model_validate(body["plan"])
    wave_of = {device: number for number, wave in enumerate(plan.waves) for device in wave.members}
    return RolloutFacts(body["release"]["version"], plan, body["policy"], wave_of, dict.fromkeys(wave_of, "pending"))


def _interrupt(rollout: RolloutFacts, at: float) -> None:
    """Nobody watched since the last entry that said so; only what was journaled counts."""
    if rollout.watched_since is not None:
        rollout.watched_since = at


def _apply_to_rollout(rollout: RolloutFacts, entry: Entry) -> None:
    body = entry.body
    match entry.kind:
        case "wave_started":
            rollout.wave, rollout.watched_seconds, rollout.watched_since = body["wave"], 0.0, None
            rollout.passed.discard(body["wave"])
            rollout.until_seconds = None
        case "device_committed":
            rollout.progress[body["device"]] = "committed"
        case "device_failed":
            was_returning = rollout.progress[body["device"]].startswith("returning")
            rollout.progress[body["device"]] = "stranded" if was_returning else "failed"
            rollout.failed.add(body["device"])
        case "device_returned":
            rollout.progress[body["device"]] = "returned"
        case "soak_started":
            rollout.watched_since = entry.at
        case "soak_progressed":
            rollout.watched_seconds, rollout.watched_since = body["soaked_seconds"], entry.at
        case "soak_extended":
            rollout.until_seconds = body["until_seconds"]
        case "gate_judged" if body["verdict"] == "pass" and body["decision"] != "watch":
            rollout.passed.add(body["wave"])
        case "rollout_approved":
            rollout.approved[body["wave"]] = rollout.approved.get(body["wave"], 0) + 1
        case "rollout_resumed":
            if rollout.is_stopped:
                rollout.watched_seconds, rollout.watched_since = 0.0, entry.at
                rollout.until_seconds = None
            rollout.is_stopped = False
            rollout.excused.update(body["excused"])
        case "rollback_ordered":
            if body["scope"] == "device":
                rollout.failed.update(body["devices"])
            else:
                rollout.is_stopped = True
        case kind if kind in _STOPPING:
            rollout.is_stopped = body.get("outcome") != "completed"
            rollout.outcome = body.get("outcome", "")
        case _:
            pass

"""What the durable journal says, read as plain JSON and folded once more, apart from the product's own fold."""

from dataclasses import dataclass, field
from typing import NamedTuple

from simulator.rollout_facts import Entry, RolloutFacts, apply_fact, started


class Order(NamedTuple):
    """What a device was ordered last."""

    rollout: str
    action: str
    generation: int
    is_ahead: bool


@dataclass(slots=True)
class Ledger:
    """All facts of the journal.

    Attributes:
        orders: What each device was ordered last.
        ordered: Every (device, generation) that was ever ordered.
        grants: The entry of every grant, by device and nonce.
        quarantined: Devices that are kept out of waves.
        mishaps: When and of what each device failed last, or was ordered back alone.
        is_frozen: So many devices fell silent that nothing is decided.
        told_before: Devices that were told more than the journal knows, since a backup was put back; ordered once more.
    """

    rollouts: dict[str, RolloutFacts] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    ordered: set[tuple[str, int]] = field(default_factory=set)
    grants: dict[tuple[str, str], Entry] = field(default_factory=dict)
    quarantined: set[str] = field(default_factory=set)
    mishaps: dict[str, tuple[float, str]] = field(default_factory=dict)
    is_frozen: bool = False
    told_before: set[str] = field(default_factory=set)
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
                    rollout.interrupt(entry.at)
            case "fleet_frozen":
                self.is_frozen = True
                for rollout in self.rollouts.values():
                    rollout.freeze(entry.at)
            case "fleet_thawed":
                self.is_frozen = False
                for rollout in self.rollouts.values():
                    rollout.thaw(entry.at)
            case "device_quarantined":
                self.quarantined.add(body["device"])
            case "device_released":
                self.quarantined.discard(body["device"])
            case "rollout_started":
                self.rollouts[body["rollout"]] = started(body)
            case "devices_ordered":
                self._order(entry)
            case "grant_issued":
                self._grant(entry)
            case _ if "rollout" in body:
                self._note_mishaps(entry)
                apply_fact(self.rollout(entry), entry)

    def _note_mishaps(self, entry: Entry) -> None:
        body = entry.body
        if entry.kind == "device_failed":
            self.mishaps[body["device"]] = (entry.at, body["code"])
        elif entry.kind == "rollback_ordered" and body["scope"] == "device":
            self.mishaps.update(dict.fromkeys(body["devices"], (entry.at, body["trigger"])))

    def _order(self, entry: Entry) -> None:
        body, rollout = entry.body, self.rollout(entry)
        word = {"install": "ordered", "rollback": "returning", "hold": "held"}[body["action"]]
        self.told_before.difference_update(body["devices"])
        for device in body["devices"]:
            is_ahead = body.get("ahead", False)
            self.orders[device] = Order(body["rollout"], body["action"], body["generation"], is_ahead)
            self.ordered.add((device, body["generation"]))
            rollout.progress[device], rollout.moved_at[device] = word, entry.at
            rollout.retry_at.pop(device, None)

    def _grant(self, entry: Entry) -> None:
        device = entry.body["device"]
        self.grants[device, entry.body["nonce"]] = entry
        rollout = self.rollout(entry)
        if entry.body["step"] == "activate":
            granted = {"ordered": "granted", "returning": "returning_granted"}
            if rollout.progress[device] in granted:
                rollout.progress[device], rollout.moved_at[device] = granted[rollout.progress[device]], entry.at

"""What must hold of the whole world: now and then (trials), and when it has come to rest (journal, fold, accounts)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from device_client.core.codes import ErrorCode
from device_client.core.machine import Phase
from device_client.core.record import Record
from orchestrator.adapters.journal import Journal, JournalError
from orchestrator.core.events import event_from_json
from orchestrator.core.inventory import Inventory
from orchestrator.core.replaying import Recorded, replay
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State, evolve
from schemas.trust import Root
from simulator.device import SimulatedDevice
from simulator.ledger import Ledger
from simulator.rollout_facts import RolloutFacts, not_healthy_max, out_of_service_max

_RESTING: Final = frozenset({Phase.IDLE, Phase.ROLLED_BACK, Phase.FAILED})
_MOMENT_SECONDS: Final = 5.0
_FINAL: Final = frozenset({"committed", "failed", "returned", "stranded"})


def trials_end(devices: Iterable[SimulatedDevice]) -> str | None:
    """INV-5: nothing is still on trial a moment after its deadline, whether anything happens on the device or not."""
    for device in devices:
        trial = None if device.core is None or device.is_asleep else device.core.record.trial
        if device.core is None or trial is None or device.core.record.phase is not Phase.TRIAL:
            continue
        late = device.boot_now - trial.deadline_at
        if late > _MOMENT_SECONDS:
            return f"{device.spec.id} is on trial {late:.0f} s after its deadline"
    return None


def chain_is_whole(journal: Journal) -> str | None:
    """INV-16: every entry is there and unchanged."""
    try:
        journal.verify()
    except JournalError as error:
        return str(error)
    return None


def recorded(journal: Journal) -> list[Recorded]:
    """Return all entries of a journal with their facts, as the product reads them after a restart."""
    return [Recorded(entry.seq, entry.at, event_from_json(entry.body)) for entry in journal.read()]


def state_is_the_fold(entries: Iterable[Recorded], state: State) -> str | None:
    """INV-17: what the orchestrator knows is what its journal says."""
    folded = State()
    for entry in entries:
        evolve(folded, entry.event, entry.at)
    for name, ours, theirs in (
        ("rollouts", folded.rollouts, state.rollouts),
        ("devices", _journaled(folded.devices), _journaled(state.devices)),
        ("epoch", folded.epoch, state.epoch),
        ("generation", folded.generation, state.generation),
        ("silence", _silence(folded), _silence(state)),
    ):
        if ours != theirs:
            return f"{name} differ: {_first_difference(ours, theirs)}"
    return None


def decisions_follow(entries: Iterable[Recorded]) -> str | None:
    """INV-26: every decision comes out the same when it is taken again from the journal."""
    done = replay(entries)
    return f"entry {done.mismatches[0].seq}: {done.mismatches[0].message}" if done.mismatches else None


def accounts_balance(name: str, ledger: Ledger, rollout: Rollout, devices: Mapping[str, SimulatedDevice]) -> str | None:
    """INV-18: each target is in one place, the same for the journal's reader and for the product."""
    facts = ledger.rollouts[name]
    places = Counter(facts.progress.values())
    strangers = set(facts.plan.targets) - set(facts.progress)
    if strangers:
        return f"{name} does not account for {min(strangers)}"
    known = {device: member.progress.value for device, member in rollout.members.items()}
    ours = {device: "returning" if where == "returning_granted" else where for device, where in facts.progress.items()}
    if known != ours:
        return f"{name} accounts differ: {_first_difference(known, ours)}"
    if facts.outcome == "rolled_back" and places["committed"] + places["granted"]:
        return f"{name} is rolled back with {dict(places)}"
    for device in facts.having("returning_granted", "granted"):
        if facts.outcome and ledger.orders[device].rollout == name and not devices[device].is_gone:
            return f"{name} ended, {device} is under way"
    return None


def roots_arrived(root: Root, devices: Iterable[SimulatedDevice]) -> list[str]:
    """INV-25: whoever is connected follows the newest trust root."""
    return [
        f"{device.spec.id} follows root {device.core.root.version}, the newest is {root.version}"
        for device in devices
        if device.core is not None and device.core.root is not None and device.client.is_connected
        if device.core.root.version != root.version
    ]


def everything_arrived(
    ledger: Ledger, devices: Mapping[str, SimulatedDevice], waiting_for_people: Iterable[str]
) -> list[str]:
    """INV-25: every rollout is over or waits for a person, and every device is where its last order wants it."""
    wrong = []
    people = set(waiting_for_people)
    for name, rollout in ledger.rollouts.items():
        if not rollout.outcome and name not in people:
            wrong.append(f"{name} goes on for ever in wave {rollout.wave}: {dict(Counter(rollout.progress.values()))}")
    for name, device in devices.items():
        problem = _not_there(ledger, name, device)
        if problem is not None:
            wrong.append(problem)
    return wrong


def waits_for_repair(rollout: RolloutFacts) -> bool:
    """Say whether nobody may go because so many devices are stranded, which somebody must look at."""
    stranded = len(rollout.having("stranded"))
    return bool(stranded and not rollout.in_flight and stranded >= out_of_service_max(rollout, len(rollout.progress)))


def waits_for_health(rollout: RolloutFacts, present: int, ill: int) -> bool:
    """Say whether no healthy device may go because so many of those present do not serve."""
    out = ill + len(rollout.having("stranded"))
    return bool(ill and not rollout.in_flight and out >= not_healthy_max(rollout, present))


def _not_there(ledger: Ledger, name: str, device: SimulatedDevice) -> str | None:
    """Return what keeps a device from being where its last order wants it."""
    order = ledger.orders.get(name)
    if device.core is None or device.is_asleep or order is None:
        return None
    record = device.core.record
    if record.generation != order.generation:
        return f"{name} has generation {record.generation}, ordered is {order.generation}"
    rollout = ledger.rollouts[order.rollout]
    is_kept_out = rollout.progress[name] == "failed" or name in ledger.quarantined
    may_wait = order.action == "install" and (rollout.outcome != "completed" or is_kept_out)
    if record.phase in (Phase.READY, Phase.WAITING) and may_wait:
        return None
    if record.phase not in _RESTING:
        return f"{name} never rests: {record.phase}, ordered is {order.action}"
    serving = record.serving.version if record.serving is not None else None
    ran = device.plant.application.version if device.plant.application is not None else None
    progress = rollout.progress[name]
    if ran not in (None, serving):
        return f"{name} runs {ran} and says {serving}"
    if progress == "returned" and serving == rollout.version and not _was_damaged(record):
        return f"{name} counts as returned and runs {serving}"
    if order.action == "rollback" and progress not in _FINAL:
        return f"{name} was ordered back and is {progress}"
    return None


def _was_damaged(record: Record) -> bool:
    """Say whether the device has told that its slot was damaged, so that whatever else is whole serves."""
    return record.error is not None and record.error.code == ErrorCode.INTEGRITY_FAILED


def _journaled(devices: Inventory) -> dict[str, dict[str, Any]]:
    """Return each device without what is only seen of it."""
    names = [name for name, field in devices.fields.items() if not field.volatile]
    return {device.id: {name: getattr(device, name) for name in names} for device in devices.values()}


def _silence(state: State) -> tuple[str, float, float]:
    return state.frozen, state.frozen_at, state.thawed_at


def _first_difference(ours: object, theirs: object) -> str:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [*ours, *theirs]:
            if ours.get(key) != theirs.get(key):
                return f"{key}: {str(ours.get(key))[:200]} is not {str(theirs.get(key))[:200]}"
    return f"{ours} is not {theirs}"

"""What the durable journal says about one rollout, folded apart from the product's own fold."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil, floor, inf
from typing import Any, Final, NamedTuple

from orchestrator.planning.plan import Plan

_STOPPING: Final = frozenset({"rollout_halted", "rollout_ended"})


class Entry(NamedTuple):
    """One entry of the journal."""

    seq: int
    at: float
    kind: str
    body: Mapping[str, Any]


@dataclass(slots=True)
class RolloutFacts:
    """What the journal holds about one rollout.

    Attributes:
        by: Who started it.
        wave_of: Each target's wave.
        progress: Where each target is, in the ledger's own words.
        wave: The wave that is open; -1 before the first.
        passed: Waves whose gate passed since they were opened.
        awaits: What the last gate that was acted upon waits for.
        approved: Approvals by wave.
        resumed_count: How often a person let it go on.
        is_stopped: Halted, rolling back or ended badly, and not resumed.
        failed: Members that count against their wave.
        excused: Of these, the ones that a person let pass.
        attempts: How often each member was tried again.
        retry_at: When the next try of a member may be ordered at the earliest; of those that wait for it.
        moved_at: When each member was ordered or let go last.
        phase: Of the canary's watch; None in the first and in other waves.
        phase_since_seconds: At how much soak that phase began.
        phase_verdict: The phase that was judged last, and how.
        watched_seconds: Soak of this wave that somebody watched.
        watched_since: From here on it is watched; None while it is not, infinite while nobody is heard.
        until_seconds: So much soak this wave needs after it was extended; None while it was not.
        extensions: How often it was.
        is_verified: What was ordered back has been seen to be well, or is named.
        normal_values: What it may be compared with.
        is_staged: Members may fetch and install before their wave is open.
        is_activated: It was let begin after that.
    """

    by: str
    version: str
    plan: Plan
    policy: Mapping[str, Any]
    wave_of: dict[str, int]
    progress: dict[str, str]
    wave: int = -1
    passed: set[int] = field(default_factory=set)
    awaits: str = ""
    approved: dict[int, int] = field(default_factory=dict)
    resumed_count: int = 0
    is_stopped: bool = False
    outcome: str = ""
    failed: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)
    attempts: dict[str, int] = field(default_factory=dict)
    retry_at: dict[str, float] = field(default_factory=dict)
    moved_at: dict[str, float] = field(default_factory=dict)
    phase: str | None = None
    phase_since_seconds: float = 0.0
    phase_verdict: tuple[str, str] | None = None
    watched_seconds: float = 0.0
    watched_since: float | None = None
    until_seconds: float | None = None
    extensions: int = 0
    is_verified: bool = False
    normal_values: frozenset[float] = frozenset()
    is_staged: bool = False
    is_activated: bool = False

    def having(self, *progress: str) -> list[str]:
        """Return the members in one of these states, in the plan's order."""
        return [device for device, where in self.progress.items() if where in progress]

    def watched(self, now: float) -> float:
        """Return the watched soak of this wave in seconds."""
        return self.watched_seconds + (0.0 if self.watched_since is None else max(0.0, now - self.watched_since))

    @property
    def phase_seconds(self) -> dict[str, float]:
        """The canary's phases that have a length, in order."""
        canary = self.policy["rollout"]["canary"]
        minutes = {
            "immediate": canary["immediate_minutes"],
            "short_term": canary["short_term_minutes"] - canary["immediate_minutes"],
            "soak": canary["soak_minutes"],
        }
        return {name: its * 60.0 for name, its in minutes.items() if its > 0}

    @property
    def current_phase(self) -> str | None:
        """The phase in which the canary is watched."""
        return self.phase or next(iter(self.phase_seconds), None)

    @property
    def in_flight(self) -> list[str]:
        """Members that were granted a change whose outcome is not known."""
        return self.having("granted", "returning_granted")

    @property
    def needs_approval(self) -> bool:
        """Whether a person must approve the canary."""
        return bool(self.policy["rollout"]["canary"]["require_human_approval_after"])

    def interrupt(self, at: float) -> None:
        """Nobody watched since the last entry that said so; only what was journaled counts."""
        if self.watched_since not in {None, inf}:
            self.watched_since = at

    def freeze(self, at: float) -> None:
        """From now on nobody is heard."""
        if self.watched_since is not None:
            self.watched_seconds, self.watched_since = self.watched(at), inf

    def thaw(self, at: float) -> None:
        """Somebody is heard again."""
        if self.watched_since == inf:
            self.watched_since = at


def started(body: Mapping[str, Any]) -> RolloutFacts:
    """Return what the entry says with which a rollout begins."""
    plan = Plan.model_validate(body["plan"])
    wave_of = {device: number for number, wave in enumerate(plan.waves) for device in wave.members}
    version, progress = body["release"]["version"], dict.fromkeys(wave_of, "pending")
    normal = _values_of(body["baselines"])
    return RolloutFacts(body["by"], version, plan, body["policy"], wave_of, progress, normal_values=normal)


def out_of_service_max(rollout: RolloutFacts, present: int) -> int:
    """Return how many of the devices that are present may be out of service, at least one."""
    by_maximum: int = floor(present * rollout.policy["rolling_update"]["max_unavailable"] / 100)
    return max(1, min(by_maximum, not_healthy_max(rollout, present)))


def not_healthy_max(rollout: RolloutFacts, present: int) -> int:
    """Return how many of the devices that are present may be anything but healthy, at least one."""
    needed: int = ceil(present * rollout.policy["rolling_update"]["min_available"] / 100)
    return max(1, present - needed)


def apply_fact(rollout: RolloutFacts, entry: Entry) -> None:
    """Fold the next entry about ``rollout`` in."""
    body = entry.body
    match entry.kind:
        case "wave_started":
            rollout.wave, rollout.watched_seconds, rollout.watched_since = body["wave"], 0.0, None
            rollout.passed.discard(body["wave"])
            rollout.until_seconds, rollout.extensions, rollout.phase_since_seconds = None, 0, 0.0
        case "staging_started":
            rollout.is_staged = True
        case "rollout_activated":
            rollout.is_activated = True
        case "devices_joined":
            rollout.wave_of.update(dict.fromkeys(body["devices"], len(rollout.plan.waves) - 1))
            rollout.progress.update(dict.fromkeys(body["devices"], "pending"))
        case "rollout_approved":
            rollout.approved[body["wave"]] = rollout.approved.get(body["wave"], 0) + 1
        case "rollout_resumed":
            _resume(rollout, entry)
        case "rollback_ordered":
            rollout.is_verified = False
            if body["scope"] == "device":
                rollout.failed.update(body["devices"])
            else:
                rollout.is_stopped = True
        case "rollback_verified":
            rollout.is_verified = True
        case kind if kind in _STOPPING:
            rollout.is_stopped = body.get("outcome") != "completed"
            rollout.outcome = body.get("outcome", "")
        case kind if kind.startswith("device_"):
            _apply_to_member(rollout, entry)
        case _:
            _apply_to_watch(rollout, entry)


def _apply_to_member(rollout: RolloutFacts, entry: Entry) -> None:
    device = entry.body["device"]
    match entry.kind:
        case "device_staged":
            pass  # It has what it was ordered, and is where it was.
        case "device_failed":
            was_returning = rollout.progress[device].startswith("returning")
            rollout.progress[device] = "stranded" if was_returning else "failed"
            rollout.failed.add(device)
        case "device_retried":
            rollout.progress[device] = "pending"
            rollout.failed.discard(device)
            rollout.attempts[device], rollout.retry_at[device] = entry.body["attempt"], entry.body["not_before"]
        case kind:
            rollout.progress[device] = kind.removeprefix("device_")


def _apply_to_watch(rollout: RolloutFacts, entry: Entry) -> None:
    body = entry.body
    match entry.kind:
        case "soak_started":
            rollout.watched_since = entry.at
        case "soak_progressed":
            rollout.watched_seconds = body["soaked_seconds"]
            rollout.interrupt(entry.at)
        case "soak_extended":
            rollout.until_seconds, rollout.extensions = body["until_seconds"], body["extension"]
        case "canary_phase_started":
            rollout.phase, rollout.phase_since_seconds = body["phase"], body["soaked_seconds"]
            rollout.watched_seconds, rollout.until_seconds = body["soaked_seconds"], None
            rollout.interrupt(entry.at)
        case "gate_judged" if body["decision"] == "watch":
            rollout.phase_verdict = (body["phase"], body["verdict"])
        case "gate_judged":
            rollout.awaits = body["decision"]
            if body["verdict"] == "pass":
                rollout.passed.add(body["wave"])
        case _:
            pass


def _resume(rollout: RolloutFacts, entry: Entry) -> None:
    rollout.resumed_count += 1
    if rollout.is_stopped:
        rollout.watched_seconds, rollout.watched_since = 0.0, entry.at
        rollout.until_seconds, rollout.extensions, rollout.phase_since_seconds = None, 0, 0.0
    rollout.is_stopped = False
    rollout.excused.update(entry.body["excused"])


def _values_of(baselines: Mapping[str, Mapping[str, Any]]) -> frozenset[float]:
    """Return every number that something may be compared with."""

    def values() -> Iterator[float | None]:
        for each in baselines.values():
            yield each["error_rate"]
            yield each["cpu_ratio"]
            yield from (each[f"latency_{name}_seconds"] for name in ("p50", "p95", "p99"))
            yield from each["quality"].values()

    return frozenset(value for value in values() if value is not None)

"""What happens, counted and timed as it happens: the metrics that cannot be read from the state afterwards.

They begin with the process, as counters do; a replayed journal counts nothing a second time.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric

from orchestrator.core import events as e
from orchestrator.core.members import Progress
from orchestrator.core.rollout import Phase, Rollout
from orchestrator.core.state import State
from orchestrator.core.stopping import FAILURE_THRESHOLD
from orchestrator.tally import OTHER

TYPES_MAX: Final = 50
"""Types of devices that are timed apart; they are the devices' own words."""
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR
_INSTALL_SECONDS: Final = (1, 5, 15, 30, 60, 120, 300, 600, 1800, _HOUR, 4 * _HOUR, _DAY)
_ROLLOUT_SECONDS: Final = (10 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, _DAY, 3 * _DAY, 7 * _DAY)
_WAIT_SECONDS: Final = (_MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 4 * _HOUR, 8 * _HOUR, _DAY, 3 * _DAY)
_COMMIT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

_SCOPES: Final[Mapping[str, str]] = {
    "rollback_device": "device",
    "rollback_affected": "device",
    "rollback_wave": "wave",
    "rollback_all": "fleet",
}


class FactMetrics:
    """Counters and histograms of facts; mutable. ``note_fact`` is the engine's, ``note_commit`` the journal's."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._evaluations = Counter(
            "tidegate_gate_evaluations",
            "Verdicts of gates that changed or were acted upon.",
            ["gate", "verdict"],
            registry=self._registry,
        )
        self._rollbacks = Counter(
            "tidegate_rollbacks",
            "Rollbacks that were ordered, by a trigger, a gate or a person.",
            ["scope", "trigger"],
            registry=self._registry,
        )
        self._rollout_seconds = Histogram(
            "tidegate_rollout_duration_seconds",
            "From the start of a rollout to its end, by how it ended.",
            ["status"],
            buckets=_ROLLOUT_SECONDS,
            registry=self._registry,
        )
        self._wait_seconds = Histogram(
            "tidegate_rollout_manual_wait_seconds",
            "How long a rollout waited for a person: for an approval, halted or paused.",
            buckets=_WAIT_SECONDS,
            registry=self._registry,
        )
        self._install_seconds = Histogram(
            "tidegate_install_duration_seconds",
            "Of a device: prepare, from order to go; prove, from there to good health; return, all of a way back.",
            ["device_type", "phase"],
            buckets=_INSTALL_SECONDS,
            registry=self._registry,
        )
        self._commit_seconds = Histogram(
            "tidegate_store_commit_seconds",
            "One commit of the journal, until it would survive a power cut.",
            buckets=_COMMIT_SECONDS,
            registry=self._registry,
        )
        self._spans = Counter(
            "tidegate_trace_spans",
            "Spans of traces: sent, failed with a collector that did not take them, or dropped as too many waited.",
            ["result"],
            registry=self._registry,
        )
        self._types: set[str] = set()
        self._waiting_since: dict[str, float] = {}
        self._expected: set[str] = set()
        """Rollouts whose ways back are shown."""

    def collect(self) -> Iterable[Metric]:
        """Yield all families, without the moments at which each was made."""
        for family in self._registry.collect():
            family.samples = [each for each in family.samples if not each.name.endswith("_created")]
            yield family

    def expect(self, state: State) -> None:
        """Show what may be counted of the rollouts that go on as 0: a rise from nothing is none to Prometheus."""
        active = {each.id: each for each in state.active}
        for name in active.keys() - self._expected:
            for scope, trigger in _ways_back(active[name]):
                self._rollbacks.labels(scope, trigger)
        self._expected = set(active)

    def note_commit(self, seconds: float) -> None:
        """Take how long a commit took."""
        self._commit_seconds.observe(seconds)

    def note_spans(self, result: str, count: int) -> None:
        """Take what became of so many spans; from any thread."""
        self._spans.labels(result).inc(count)

    def note_fact(self, state: State, event: e.AnyEvent, now: float) -> None:
        """Take a fact that ``state`` does not hold yet."""
        match event:
            case e.GrantIssued() | e.DeviceProven() | e.DeviceCommitted() | e.DeviceReturned():
                self._note_device(state, event, now)
            case e.GateJudged():
                self._evaluations.labels(event.gate, event.verdict).inc()
                if event.decision == "await_approval":
                    self._begin_to_wait(event.rollout, now)
            case e.RolloutHalted() | e.RolloutPaused():
                self._begin_to_wait(event.rollout, now)
            case e.RolloutResumed():
                self._end_to_wait(event.rollout, now)
                if _awaits_approval_then(state.rollouts[event.rollout]):
                    self._begin_to_wait(event.rollout, now)
            case e.RolloutApproved() | e.WaveStarted():
                self._end_to_wait(event.rollout, now)
            case e.RollbackOrdered():
                self._rollbacks.labels(event.scope, event.trigger).inc()
                if event.scope != "device":
                    self._end_to_wait(event.rollout, now)
            case e.RolloutEnded():
                self._end_to_wait(event.rollout, now)
                self._rollout_seconds.labels(event.outcome).observe(now - state.rollouts[event.rollout].started_at)
            case _:
                pass

    def _note_device(
        self,
        state: State,
        event: e.GrantIssued | e.DeviceProven | e.DeviceCommitted | e.DeviceReturned,
        now: float,
    ) -> None:
        member = state.rollouts[event.rollout].members[event.device]
        phase, since = "prove", member.granted_at
        match event:
            case e.GrantIssued() if event.step == "activate" and member.progress is Progress.ORDERED:
                phase, since = "prepare", member.ordered_at
            case e.GrantIssued():
                return
            case e.DeviceCommitted() if member.progress is Progress.PROVEN:
                return  # It was timed when it had proven itself.
            case e.DeviceReturned():
                phase, since = "return", member.ordered_at
            case _:
                pass
        if since is not None:
            device_type = self._bounded(state.devices[event.device].info.device_type)
            self._install_seconds.labels(device_type, phase).observe(max(0.0, now - since))

    def _bounded(self, device_type: str) -> str:
        if device_type in self._types or len(self._types) < TYPES_MAX:
            self._types.add(device_type)
            return device_type
        return OTHER

    def _begin_to_wait(self, rollout: str, now: float) -> None:
        self._waiting_since.setdefault(rollout, now)

    def _end_to_wait(self, rollout: str, now: float) -> None:
        since = self._waiting_since.pop(rollout, None)
        if since is not None:
            self._wait_seconds.observe(now - since)


def _ways_back(rollout: Rollout) -> Iterator[tuple[str, str]]:
    """Yield by which scope and trigger a rollout may be ordered back."""
    yield from (("wave", each) for each in ("canary_gate", "wave_gate", FAILURE_THRESHOLD))
    yield from (("fleet", each) for each in ("operator", "rejected"))
    for trigger in rollout.policy.rollback_triggers.all:
        if trigger.action in _SCOPES:
            yield _SCOPES[trigger.action], trigger.name


def _awaits_approval_then(rollout: Rollout) -> bool:
    """Say whether a rollout that is being resumed still waits for an approval."""
    is_halted = rollout.phase is Phase.HALTED
    return (rollout.halted_from if is_halted else rollout.phase) is Phase.AWAITING_APPROVAL

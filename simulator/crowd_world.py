"""A world for a crowd: the product's engine and telemetry, a person, and devices that are played in bulk.

The engine is the orchestrator's own: its planner, its steps, its triggers and gates, in the order of its ticks. What it
would publish to single devices is handed over as columns; see ``crowd`` for what the devices do with it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from orchestrator.adapters.journal import Journal
from orchestrator.core import events as e
from orchestrator.core.context import Context
from orchestrator.core.inputs import CommandReceived, Tick
from orchestrator.core.inventory import Device, lasting
from orchestrator.core.members import Progress
from orchestrator.core.operator import decide_command
from orchestrator.core.rollout import TERMINAL, Phase, Rollout
from orchestrator.core.state import evolve
from orchestrator.outgoing import Outgoing
from orchestrator.service import Engine
from orchestrator.telemetry.monitor import LONGEST_SECONDS, Monitor
from schemas.commands import Command, RolloutCommand, StartCommand
from schemas.conditions import Metric
from schemas.documents import Reply
from schemas.policy import CHECK_METRICS, Check, Policy
from schemas.topics import TopicTree
from simulator.clock import START_SECONDS
from simulator.crowd import Crowd
from simulator.crowd_desk import Desk
from simulator.crowd_facts import Mask
from simulator.crowd_health import Health
from simulator.mail import info_of
from simulator.materials import NEW_RELEASE, NEW_VERSION, OLD_VERSION, DeviceSpec, make_release
from simulator.people import AGAIN_SECONDS, ALICE, SENT_MAX
from simulator.scenario import POLICY, ROLLOUT, WARM_UP_SECONDS, Scenario

_PACES: Final = ((10_000, 2.0, 30), (100_000, 2.0, 6), (300_000, 1.0, 2), (math.inf, 0.5, 2))
"""For so many devices at most: how often the orchestrator looks at everything while each sends a sample, which is twice
with whole ones, and how often devices get on between two questions to their applications."""
_PLAY_SECONDS: Final = 15.0
"""The longest time between two."""
_WAITS: Final = frozenset({Phase.HALTED, Phase.AWAITING_APPROVAL, Phase.AWAITING_DEVICES, Phase.STAGING})
_OF_ONE: Final = (
    e.DeviceQuarantined, e.DeviceStaged, e.DeviceProven, e.DeviceCommitted, e.DeviceFailed, e.DeviceRetried,
    e.DeviceReturned, e.DeviceSkipped, e.GrantIssued,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Noted:
    """A fact that concerns more than one device, and when it was decided."""

    at: float
    fact: e.AnyEvent


class _BulkEngine(Engine):
    """The product's engine; its facts are applied and noted, and nobody listens for what would be published."""

    def __init__(self, journal: Journal, context: Context, note: Callable[[e.AnyEvent, float], None]) -> None:
        super().__init__(journal, context, lambda payload: payload, TopicTree(), summary_seconds=float("inf"))
        self._note = note

    def command(self, verb: str, command: Command, now: float) -> Reply:
        """Carry out what a person wants."""
        outcome = decide_command(self.state, CommandReceived(ALICE, verb, command), self.context, now)
        self._commit(outcome.events, now)
        return outcome.reply

    def _commit(self, events: Sequence[e.AnyEvent], now: float) -> list[Outgoing]:
        for event in events:
            evolve(self.state, event, now)
            self._note(event, now)
        return []


class CrowdWorld:
    """Everything in one place; ``run`` lets it go on until it has come to rest.

    Args:
        scenario: Without faults of the world.
        has_fault: On which devices of its fleet the new version misbehaves; the fleet is sorted by name, as plans are,
            because columns are read fastest in their order.
        tell: Told now and then where it is: a phase in words, and how many devices have been let go.

    Attributes:
        facts: All that concern more than one device.
        refused: Why the rollout was not started; None once it is.
    """

    def __init__(
        self, scenario: Scenario, has_fault: Mask, tell: Callable[[str, int], None] = lambda _where, _count: None
    ) -> None:
        self.facts: list[Noted] = []
        self.refused: str | None = "it is not answered"
        self.now = START_SECONDS
        self._scenario = scenario
        _, looks, self._plays_each_beat = next(pace for pace in _PACES if len(scenario.fleet) <= pace[0])
        self._tick_seconds = scenario.sample_seconds / looks
        self._tell = tell
        self._orders: list[e.DevicesOrdered] = []
        self._due_at: dict[str, float] = {"start": START_SECONDS + WARM_UP_SECONDS}
        """When the person on duty does what."""
        self._tries = 0
        self._seen: set[tuple[str, int]] = set()
        """What the person has thought of, and in which wave."""
        release, monitor = make_release(NEW_VERSION), Monitor()
        monitor.reserve(len(scenario.fleet))
        context = Context(monitor, {NEW_RELEASE: release}, {POLICY: scenario.policy}, "http://registry.example")
        self._engine = _BulkEngine(Journal(None), context, self._take)
        self._engine.start(self.now)
        self.state = self._engine.state
        self._settle_in()
        seed = np.random.SeedSequence(scenario.seed)
        devices_rng, desk_rng, health_rng = (np.random.default_rng(each) for each in seed.spawn(3))
        self.crowd = Crowd(scenario.policy, scenario.release, has_fault, devices_rng, self.now)
        self._desk_rng = desk_rng
        self._desk: Desk | None = None
        self._health = Health(
            self.state, monitor, self.crowd,
            seconds=scenario.sample_seconds, seconds_max=_silence_seconds(scenario.policy),
            tick_seconds=self._tick_seconds, tells_quality=_judges_quality(scenario.policy), rng=health_rng,
            now=self.now,
        )  # fmt: skip

    @property
    def rollout(self) -> Rollout | None:
        """The rollout, once it has begun."""
        return self.state.rollouts.get(ROLLOUT)

    def run(self) -> Rollout | None:
        """Run until nobody is about anything any more, or the time is over; None if the rollout never began."""
        beat_seconds = self._scenario.policy.rolling_update.health_check.interval_seconds
        tick_seconds = self._tick_seconds
        plays = math.ceil(tick_seconds / min(_PLAY_SECONDS, beat_seconds / self._plays_each_beat))
        end = self.now + WARM_UP_SECONDS + self._scenario.at_rest_within_seconds
        while self.now < end and not self._is_at_rest():
            began = self.now
            for play in range(1, plays + 1):
                self.now = began + tick_seconds * play / plays
                if play == plays or min(self.crowd.next_at, *self._due_at.values(), np.inf) <= self.now:
                    self._play()
            self._health.hear(self.now)
            self._engine.handle(Tick(), self.now)
            self._hand_over()
            self._look()
        return self.rollout

    def _settle_in(self) -> None:
        """Let all devices be there: what is left when each has announced itself."""
        fleet, devices, now = self._scenario.fleet, self.state.devices, self.now
        rows = devices.add([spec.id for spec in fleet])
        kinds: dict[object, int] = {}
        codes = np.fromiter((kinds.setdefault(_kind(spec), len(kinds)) for spec in fleet), np.int32, len(fleet))
        samples = [fleet[place] for place in np.unique(codes, return_index=True)[1].tolist()]
        for code, spec in enumerate(samples):
            info = info_of(spec, 1, OLD_VERSION, "crowd")
            alike = rows[codes == code]
            devices.fill(alike, Device.said, lasting(info))
            devices.fill(alike, Device.info, lasting(info))
            devices.fill(alike, Device.disk_free, float(info.disk_free_bytes or 0))
        devices.fill(rows, Device.version, OLD_VERSION)
        devices.fill(rows, Device.is_online, value=True)
        for field in (Device.online_since, Device.heard_at, Device.said_at):
            devices.fill(rows, field, now)

    def _take(self, fact: e.AnyEvent, at: float) -> None:
        if isinstance(fact, e.DevicesOrdered):
            self._orders.append(fact)
        elif not isinstance(fact, _OF_ONE):
            self.facts.append(Noted(at, fact))

    def _play(self) -> None:
        for what in [what for what, at in self._due_at.items() if at <= self.now]:
            del self._due_at[what]
            self._do(what)
            self._hand_over()
        if self._desk is not None:
            self.crowd.play(self._desk, self.now)

    def _hand_over(self) -> None:
        """Let the devices have their orders."""
        orders, self._orders = self._orders, []
        for order in orders:
            assert self._desk is not None, "a rollout that orders has begun"
            self.crowd.obey(self.state.devices.rows(order.devices), order.action, self._desk, self.now)

    def _do(self, what: str) -> None:
        """Command what the person on duty has in mind; what is too early is commanded again."""
        command: Command = RolloutCommand(rollout=ROLLOUT)
        if what == "start":
            command = StartCommand(release=NEW_RELEASE, policy=POLICY, rollout=ROLLOUT, ignore_lint=True)
        reply = self._engine.command(what, command, self.now)
        self._tries += 1
        if reply.error is not None and reply.error.code == "conflict" and self._tries < SENT_MAX:
            self._due_at[what] = self.now + AGAIN_SECONDS
        if what != "start":
            return
        self.refused = None if reply.error is None else reply.error.message
        if self.rollout is not None:
            self._desk = Desk(self.state, self.rollout, self._desk_rng)
            self._health.watch(self.rollout)

    def _look(self) -> None:
        """See what the rollout waits for, as the person on duty does."""
        rollout, habits = self.rollout, self._scenario.habits
        if rollout is None:
            return
        waits = {Phase.AWAITING_APPROVAL: ("approve", habits.approve_after_seconds)}
        waits[Phase.STAGING] = ("activate", habits.activate_after_seconds)
        what, seconds = waits.get(rollout.phase, ("", None))
        if seconds is not None and (what, rollout.wave) not in self._seen:
            self._seen.add((what, rollout.wave))
            self._due_at[what] = self.now + seconds
        self._tell(rollout.phase.value, int(self.crowd.has_run.sum()))

    def _is_at_rest(self) -> bool:
        rollout = self.rollout
        if self._due_at:
            return False
        if rollout is None:
            return True
        is_over = rollout.phase in TERMINAL or rollout.phase in _WAITS
        under_way = rollout.counts(Progress.GRANTED, Progress.RETURNING)
        return is_over and not under_way and not self.crowd.is_under_way


def _kind(spec: DeviceSpec) -> tuple[object, ...]:
    """Return all that a device says of itself but its name."""
    return (
        spec.device_type, spec.region, spec.group, spec.time_zone, spec.arch, spec.site, spec.tags,
        spec.single_point_of_failure, spec.maintenance, spec.known_issues,
    )  # fmt: skip


def _wave_checks(policy: Policy) -> list[Check]:
    gates = (policy.health_gates.wave_gate, policy.health_gates.completion_gate)
    return [check for gate in gates if gate is not None for check in gate.checks]


def _judges_quality(policy: Policy) -> bool:
    """Say whether a wave is judged by what the application's output is worth."""
    metrics = {CHECK_METRICS[check.type] for check in _wave_checks(policy)}
    return Metric.QUALITY in metrics | {trigger.condition.metric for trigger in policy.rollback_triggers.all}


def _silence_seconds(policy: Policy) -> float:
    """Return how long a device may say nothing and still be seen in everything that a wave is judged by."""
    windows = [check.window / 2 for check in _wave_checks(policy) if check.window is not None]
    reaches = [trigger.reach_seconds for trigger in policy.rollback_triggers.all]
    return min([*windows, *(seconds for seconds in reaches if seconds is not None)], default=LONGEST_SECONDS / 2)

"""The world: a fleet, an orchestrator, people and a broker on one virtual clock, and what became of them."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.core.explain_floor import floor_reason
from orchestrator.core.rollout import TERMINAL, Phase, Rollout
from schemas.topics import TopicTree
from simulator.application import GOOD
from simulator.authority import Authority
from simulator.clock import Clock, stream
from simulator.device import SimulatedDevice
from simulator.disk import Disk, DiskTrouble
from simulator.endings import (
    accounts_balance,
    chain_is_whole,
    decisions_follow,
    everything_arrived,
    recorded,
    roots_arrived,
    state_is_the_fold,
    trials_end,
    waits_for_health,
    waits_for_repair,
)
from simulator.faults import NO_FAULTS, Faults
from simulator.hardship import Hardship
from simulator.mail import Mail
from simulator.materials import (
    NEW_RELEASE,
    NEW_VERSION,
    NEXT_VERSION,
    OLD_VERSION,
    DeviceSpec,
    broker_acl,
    make_content,
    make_release,
)
from simulator.mischief import Mischief
from simulator.network import Network
from simulator.orchestrator import Materials, SimulatedOrchestrator
from simulator.people import ALICE, BOB, Habits, Person
from simulator.plant import Plant
from simulator.scenario import POLICY, ROLLOUT, WARM_UP_SECONDS, Scenario, draw_scenario
from simulator.trace import Trace
from simulator.view_invariants import view
from simulator.witness import Witness

_LOOK_SECONDS: Final = 60.0
_QUIET_LOOKS: Final = 5
"""So many looks in a row must find nothing going on."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a world.

    Attributes:
        violations: Broken invariants, with the virtual second; empty is good.
        outcomes: The phase in which each rollout ended.
        ran: The devices that ever ran each version.
        virtual_seconds: How long it took in there.
        trace: One line for each visible step.
    """

    seed: int
    trace_hash: str
    violations: tuple[str, ...]
    outcomes: Mapping[str, str]
    ran: Mapping[str, tuple[str, ...]]
    virtual_seconds: float
    trace: tuple[str, ...]


class World:
    """Everything in one place; ``run`` lets it go on until it has come to rest.

    Attributes:
        devices: By id.
        clones: Devices that have a copy of another one's disk, and its name.
        hardship: What happens to machines.
        orchestrator: The process, one after another.
        person: Who is on duty, Alice.
        colleague: Bob, who only does what a story has him do.
        authority: Whose grants devices obey.
        clock: ``clock.after`` lets a story interfere; see ``at``.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.clock = Clock()
        self.trace = Trace(self.clock)
        self.witness = Witness(self.clock, {spec.id: spec.group for spec in scenario.fleet})
        self._tree = TopicTree()
        self._sample_seconds = scenario.sample_seconds
        self.authority = Authority(scenario.seed)
        self.network = Network(self.clock, broker_acl(ALICE, BOB), scenario.faults, self.stream("network"), self.trace)
        self.orchestrator = self._make_orchestrator()
        self.devices = {spec.id: self._make_device(spec) for spec in scenario.fleet}
        self.witness.serves = self._serves
        self.witness.ill_seconds = self._ill_seconds
        self.person = self._make_person(ALICE, scenario.habits, self.stream("people"))
        self.colleague = self._make_person(BOB, Habits(approve_after_seconds=None), self.stream(BOB))
        self.clones: list[SimulatedDevice] = []
        self._planned = 0
        self._planned_until = 0.0
        self.is_healed = False
        self._mischief = Mischief(self, self.stream("mischief"))
        self.hardship = Hardship(self)

    @property
    def faults(self) -> Faults:
        """What goes wrong here."""
        return self.scenario.faults

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something so many seconds after the first rollout was asked for; the world goes on until it is done."""
        self._planned += 1
        self._planned_until = max(self._planned_until, seconds)

        def act() -> None:
            self._planned -= 1
            action()

        self.clock.after(seconds - self.seconds, act)

    @property
    def seconds(self) -> float:
        """How long ago the first rollout was asked for; below 0 before that."""
        return self.clock.elapsed_seconds - WARM_UP_SECONDS

    def run(self) -> Result:
        """Run until everything has come to rest or the time is over, and judge."""
        self.hardship.upset_clocks()
        for name, device in self.devices.items():
            if name not in self.scenario.absent:
                device.boot()
        self.orchestrator.boot()
        self.person.client.start()
        self.colleague.client.start()
        self.at(0.0, self._ask_for_rollout)
        if self.faults != NO_FAULTS:
            self._mischief.begin()
            self.hardship.begin()
        self.clock.after(WARM_UP_SECONDS + self._mischief.stop_seconds, self._heal)
        quiet_looks, over_looks = 0, 0
        while quiet_looks < _QUIET_LOOKS and self.seconds < self._rests_by() and self.clock.run(_LOOK_SECONDS):
            self._look()
            quiet_looks = quiet_looks + 1 if self._is_at_rest() else 0
            over_looks = over_looks + 1 if self._is_over() else 0
            if over_looks == _QUIET_LOOKS:
                self._heal()  # there is nothing left to disturb
        self._judge()
        return self._result()

    def _look(self) -> None:
        late = trials_end(self.devices.values())
        if late is not None:
            self.witness.accuse("INV-5 local autonomy", "world", late)

    def _rests_by(self) -> float:
        return max(self._mischief.stop_seconds, self._planned_until) + self.scenario.at_rest_within_seconds

    def phase(self, rollout: str = ROLLOUT) -> str:
        """Return the phase of a rollout as the orchestrator sees it; empty before it has begun."""
        engine = self.orchestrator.engine
        found = engine.state.rollouts.get(rollout) if engine is not None else None
        return found.phase.value if found is not None else ""

    def _serves(self, name: str) -> bool:
        application = self.devices[name].plant.application
        return application is not None and application.is_well(self.clock.now)

    def _ill_seconds(self, name: str) -> float:
        application = self.devices[name].plant.application
        return 0.0 if application is None else application.ill_seconds(self.clock.now)

    def _is_silent(self, name: str) -> bool:
        application = self.devices[name].plant.application
        return application is not None and application.is_silent(self.clock.now)

    def _ask_for_rollout(self) -> None:
        against = {"ignore_lint": True} if self.scenario.ignore_lint else {}
        self.person.command("start", release=NEW_RELEASE, policy=POLICY, rollout=ROLLOUT, **against)

    def _heal(self) -> None:
        if self.is_healed:
            return
        self.is_healed = True
        self.trace.add("world", "nothing goes wrong any more")
        self.network.heal()
        for clone in self.clones:
            clone.vanish()
        self.orchestrator.crash = self.orchestrator.journal_failure = 0.0
        for device in self.devices.values():
            device.power_cut = 0.0
            device.plant.step_failure = device.plant.hook_waits = device.plant.trouble.chance = 0.0

    def _is_over(self) -> bool:
        """Say whether no rollout goes on by itself and nobody has anything in mind."""
        engine = self.orchestrator.engine
        if engine is None or self._planned or self._are_people_busy() or not engine.state.rollouts:
            return False
        waiting = self._waiting_for_people()
        return all(each.phase in TERMINAL or each.id in waiting for each in engine.state.rollouts.values())

    def _is_at_rest(self) -> bool:
        engine = self.orchestrator.engine
        if (
            engine is None
            or self._planned
            or not self.is_healed
            or self._are_people_busy()
            or not self.orchestrator.is_idle
        ):
            return False
        if any(device.core is None or device.is_asleep for device in self.devices.values() if not device.is_gone):
            return False
        return not self._missing()

    def _missing(self) -> list[str]:
        """Return what is not as it shall be in the end."""
        arrived = everything_arrived(self.witness.ledger, self.devices, self._waiting_for_people())
        return [*arrived, *roots_arrived(self.authority.root, self.devices.values())]

    def _waiting_for_people(self) -> list[str]:
        engine = self.orchestrator.engine
        if engine is None:
            return []
        waits = {Phase.AWAITING_APPROVAL, Phase.AWAITING_DEVICES, Phase.HALTED}
        is_stopped = bool(self.person.is_braking or engine.state.frozen)
        broken = {name for name, facts in self.witness.ledger.rollouts.items() if waits_for_repair(facts)}
        rollouts = engine.state.rollouts.values()
        return [
            each.id
            for each in rollouts
            if each.phase in waits
            or each.paused
            or is_stopped
            or each.id in broken
            or _awaits_activation(each)
            or self._awaits_health(each)
        ]

    def _awaits_health(self, rollout: Rollout) -> bool:
        """Say whether a rollout says that it waits for devices that are ill or silent, and there are so many."""
        if floor_reason(rollout) is None:
            return False
        facts, ledger = self.witness.ledger.rollouts[rollout.id], self.witness.ledger
        there = [name for name in facts.progress.keys() - ledger.quarantined if self.devices[name].client.is_connected]
        ill = [name for name in there if not self._serves(name) or self._is_silent(name)]
        return waits_for_health(facts, len(there), len(ill))

    def _are_people_busy(self) -> bool:
        return self.person.is_waiting or self.colleague.is_waiting

    def _judge(self) -> None:
        """Hold what is left against the invariants of the end."""
        witness, engine = self.witness, self.orchestrator.engine
        broken = chain_is_whole(self.orchestrator.journal)
        if broken is not None:
            witness.accuse("INV-16 audit", "journal", broken)
        if engine is None:
            witness.accuse("INV-25 liveness", "orchestrator", "is not there at the end")
            return
        entries = recorded(self.orchestrator.journal)
        differs = state_is_the_fold(entries, engine.state)
        if differs is not None:
            witness.accuse("INV-17 fold", "orchestrator", differs)
        forged = decisions_follow(entries)
        if forged is not None:
            witness.accuse("INV-26 replay", "journal", forged)
        for name, rollout in engine.state.rollouts.items():
            wrong = accounts_balance(name, witness.ledger, rollout, self.devices)
            if wrong is not None:
                witness.accuse("INV-18 accounting", name, wrong)
        wrong = view(engine.state, engine.context, self.network.retained(), self._tree, self.clock.now)
        if wrong is not None:
            witness.accuse("INV-27 view", "orchestrator", wrong)
        for wrong in self._missing():
            witness.accuse("INV-25 liveness", "world", wrong)

    def _result(self) -> Result:
        engine = self.orchestrator.engine
        truths = self.witness.truths
        versions = sorted({version for truth in truths.values() for version in truth.ran})
        return Result(
            seed=self.scenario.seed,
            trace_hash=self.trace.hash,
            violations=tuple(self.witness.violations),
            outcomes={each.id: each.phase.value for each in engine.state.rollouts.values()} if engine else {},
            ran={v: tuple(name for name, truth in truths.items() if v in truth.ran) for v in versions},
            virtual_seconds=self.clock.elapsed_seconds,
            trace=tuple(self.trace.lines),
        )

    def stream(self, name: str) -> random.Random:
        """Return the random numbers of one part of this world."""
        return stream(self.scenario.seed, name)

    def make_clone(self, device: SimulatedDevice) -> SimulatedDevice:
        """Return another device with a copy of a device's disk, and with its name."""
        body = f"{device.spec.id}+{len(self.clones) + 1}"
        self.witness.truths[body] = self.witness.truths[device.spec.id].of_a_copy()
        clone = self._assemble(device.spec, device.disk.copy(), body)
        self.clones.append(clone)
        return clone

    def _make_orchestrator(self) -> SimulatedOrchestrator:
        releases = {each.release: each for each in map(make_release, (NEW_VERSION, NEXT_VERSION))}
        orchestrator = SimulatedOrchestrator(
            self.clock,
            self.network,
            self._tree,
            self.authority,
            materials=Materials(releases, {POLICY: self.scenario.policy}),
            tick_seconds=self._sample_seconds / self.scenario.ticks_each_sample,
            rng=self.stream("orchestrator"),
            disk_rng=self.stream("orchestrator/disk"),
            witness=self.witness,
            trace=self.trace,
        )
        orchestrator.crash = self.faults.orchestrator_crash
        orchestrator.journal_failure = self.faults.journal_failure
        return orchestrator

    def _make_person(self, name: str, habits: Habits, rng: random.Random) -> Person:
        return Person(
            self.clock,
            self.network,
            self._tree,
            habits,
            rng=rng,
            witness=self.witness,
            trace=self.trace,
            name=name,
        )

    def _make_device(self, spec: DeviceSpec) -> SimulatedDevice:
        disk = Disk(active="blue")
        disk.end_write("blue", make_content(OLD_VERSION, self.scenario.policy.rolling_update.health_check))
        if self.faults.key_changes_per_hour or self.faults.revokes_per_hour:
            disk.root = self.authority.first
        self.witness.truths[spec.id].note_delivered("blue", disk.slots["blue"].write_count)
        return self._assemble(spec, disk, spec.id)

    def _assemble(self, spec: DeviceSpec, disk: Disk, body: str) -> SimulatedDevice:
        rng = self.stream(body)
        check = self.scenario.policy.rolling_update.health_check
        behaviors = {OLD_VERSION: GOOD, NEW_VERSION: self.scenario.behavior_on(spec)}
        plant = Plant(body, disk, behaviors, clock=self.clock, rng=rng, witness=self.witness)
        plant.step_failure = self.faults.step_failure
        plant.hook_waits = self.faults.hook_waits
        plant.trouble = DiskTrouble(self.faults.disk_failure, self.stream(f"{body}/disk"))
        plant.has_router = spec.setup.has_router
        device = SimulatedDevice(
            spec,
            disk,
            plant,
            clock=self.clock,
            network=self.network,
            mail=Mail(spec, self._tree, self.authority.first.command.raw_keys[0], disk.root),
            beat_seconds=check.interval_seconds,
            sample_beats=max(1, round(self._sample_seconds / check.interval_seconds)),
            rng=rng,
            witness=self.witness,
            trace=self.trace,
        )
        device.power_cut = self.faults.power_cut
        return device


def _awaits_activation(rollout: Rollout) -> bool:
    """Say whether a rollout is staged, and begins when a person says so."""
    return rollout.phase is Phase.STAGING and rollout.policy.distribution.activate == "manual"


def simulate(seed: int, *, device_count: int | None = None, faults: Faults | None = None) -> Result:
    """Run the whole rollout of a seed.

    Args:
        seed: Draws the release, the faults and every moment; the same seed gives the same result.
        device_count: Devices of the fleet, at least 1; None draws it from the seed.
        faults: What goes wrong; None draws it from the seed.
    """
    return World(draw_scenario(seed, device_count=device_count, faults=faults)).run()

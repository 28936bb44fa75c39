# ruff: noqa: ANN401 - an event of any kind
"""Random lives of a device: whatever happens in whatever order, the invariants hold after every event."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from device_client.core.codes import ErrorCode
from device_client.core.device import next_wake
from device_client.core.effects import LogRefusal, PublishReady
from device_client.core.events import (
    HOOKS,
    ApplicationExited,
    Connected,
    ConsentGiven,
    Disconnected,
    GrantReceived,
    HoldCleared,
    HoldReceived,
    Step,
    StepSucceeded,
)
from device_client.core.machine import CHANGING, Phase
from device_client.core.revoking import is_revoked
from device_client.core.setup import BARE, Setup
from schemas.messages import Grant
from schemas.times import format_timestamp
from tests.core.trust_roots import make_root
from tests.device.device_bench import Bench, make_content
from tests.device.media_bench import DAY_SECONDS, MADE_AT, look, make_media_order

SETUPS = [BARE, Setup(has_router=True, drains=True, hooks=HOOKS), Setup(has_router=True, needs_consent=True)]
VERSIONS = st.sampled_from(["1.0.0", "1.1.0", "1.2.0"])
NUMBER = 1_000_000
"""Above all generations here, so that the two are not mixed up unseen."""


class Life(RuleBasedStateMachine):
    """One device, an orchestrator that says anything, and a power supply that cannot be relied upon."""

    @initialize(empty=st.booleans(), setup=st.sampled_from(SETUPS))
    def begin(self, *, empty: bool, setup: Setup) -> None:
        self.bench = Bench(link=None, disk={}, setup=setup) if empty else Bench(setup=setup)
        self.bench.start()
        self.generation = 0
        self.grants: list[Grant] = []
        self.accepted: set[str] = set()
        self.agreed: set[int] = set()
        self.marks = self.bench.record.marks

    @rule(version=VERSIONS, action=st.sampled_from(["install", "install", "rollback", "hold"]),
          commit_on=st.sampled_from(["local_health", "round_trip", "gate"]), step=st.integers(-1, 2),
          strategy=st.sampled_from(["blue_green", "rolling"]))  # fmt: skip
    def order(self, version: str, action: str, commit_on: str, step: int, strategy: str) -> None:
        generation = max(0, self.generation + step)
        self.generation = max(self.generation, generation)
        self.bench.order(generation, version, action=action, commit_on=commit_on, strategy=strategy)

    @precondition(lambda self: self.bench.all(PublishReady))
    @rule(decision=st.sampled_from(["go", "go", "wait"]), epoch=st.integers(1, 2))
    def grant(self, decision: str, epoch: int) -> None:
        self.deliver(self.bench.make_grant(self.bench.question, decision, epoch=epoch))

    @precondition(lambda self: self.grants)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        self.deliver(data.draw(st.sampled_from(self.grants)))

    def deliver(self, grant: Grant) -> None:
        effects = self.bench.send(GrantReceived(grant))
        if not any(isinstance(effect, LogRefusal) for effect in effects):
            assert grant.nonce not in self.accepted, "a grant works once"
            self.accepted.add(grant.nonce)
        self.grants = [*self.grants, grant][-5:]

    @rule(ok=st.booleans(), count=st.integers(1, 12))
    def probe(self, *, ok: bool, count: int) -> None:
        for _ in range(count):
            self.bench.probe(ok=ok)

    @rule()
    def lie(self) -> None:
        self.bench.probe(version="0.0.1")

    @rule()
    def exit(self) -> None:
        self.bench.send(ApplicationExited())

    @rule(seconds=st.sampled_from([1.0, 20.0, 200.0, 10_000.0]))
    def wait(self, seconds: float) -> None:
        self.bench.wait(seconds)

    @rule(
        orders=st.lists(
            st.tuples(st.integers(0, 6), VERSIONS, st.sampled_from(["pi-1", "pi-1", "pi-2"])),
            max_size=3,
            unique_by=lambda order: order[0],
        ),
        clock=st.sampled_from([0.0, MADE_AT + 60, MADE_AT + 40 * DAY_SECONDS]),
    )
    def look_at_media(self, orders: list[tuple[int, str, str]], clock: float) -> None:
        limit = format_timestamp(MADE_AT + 30 * DAY_SECONDS)
        there = [
            make_media_order(NUMBER + number, version, devices=(device,), not_after=limit)
            for number, version, device in orders
        ]
        before = self.bench.record.marks.media
        look(self.bench, *there, clock=clock)
        if self.bench.record.marks.media != before:
            taken = next(each for each in there if each.number == self.bench.record.marks.media)
            assert taken.devices == ("pi-1",)
            assert clock < MADE_AT + 30 * DAY_SECONDS or self.bench.device.server_ahead_seconds is not None
            assert self.bench.record.order_number == taken.number

    @rule(event=st.sampled_from([Connected(), Disconnected(), HoldReceived(), HoldCleared()]))
    def hear(self, event: Any) -> None:
        self.bench.send(event)

    @rule()
    def agree(self) -> None:
        self.agreed.add(self.bench.record.order_number)
        self.bench.send(ConsentGiven(self.bench.record.order_number))

    @rule(answers=st.booleans())
    def stall(self, *, answers: bool) -> None:
        self.bench.answers = answers
        bench = self.bench
        if answers and bench.device.step is not None:
            effect = next(e for e in reversed(bench.log) if getattr(e, "ticket", None) == bench.device.ticket)
            bench.send(*bench.answer(effect))

    @rule(step=st.sampled_from(Step), code=st.sampled_from(ErrorCode), retryable=st.booleans())
    def damage(self, step: Step, code: ErrorCode, *, retryable: bool) -> None:
        self.bench.fail(step, code, retryable=retryable)

    @rule()
    def repair(self) -> None:
        self.bench.failures.clear()

    @rule(reboot=st.booleans())
    def cut_power(self, *, reboot: bool) -> None:
        self.bench.answers = True
        if reboot:
            self.bench.reboot()
        else:
            self.bench.start()

    @rule(
        revoked=st.sets(VERSIONS, max_size=2), counter_min=st.sampled_from([0, 0, 0, 105, 115]), expired=st.booleans()
    )
    def learn(self, revoked: set[str], counter_min: int, *, expired: bool) -> None:
        version = 1 if self.bench.root is None else self.bench.root.version + 1
        self.bench.learn(
            make_root(
                version,
                revoked=tuple(sorted(f"app-{each}" for each in revoked)),
                release_counter_min=counter_min,
                expires="2026-01-01T00:00:00Z" if expired else None,
            )
        )

    @rule()
    def hear_an_answer_nobody_asked_for(self) -> None:
        self.bench.send(StepSucceeded(Step.SWITCH, self.bench.device.ticket + 1))

    @invariant()
    def marks_never_fall(self) -> None:
        marks = self.bench.record.marks
        assert marks.epoch >= self.marks.epoch
        assert marks.generation >= self.marks.generation
        assert marks.media >= self.marks.media
        assert (marks.epoch, marks.seq) >= (self.marks.epoch, self.marks.seq)
        self.marks = marks

    @invariant()
    def everything_known_is_durable(self) -> None:
        assert self.bench.record == self.bench.device.record

    @invariant()
    def slot_that_serves_is_verified_and_never_written(self) -> None:
        assert self.bench.link is None or self.bench.link in self.bench.disk

    @invariant()
    def nothing_is_on_trial_to_which_nobody_agreed(self) -> None:
        trial = self.bench.record.trial
        if trial is not None and self.bench.setup.needs_consent:
            assert trial.generation in self.agreed

    @invariant()
    def trial_has_its_fallback(self) -> None:
        record = self.bench.record
        if record.trial is not None and record.trial.previous is not None:
            assert record.content(record.trial.previous) is not None

    @invariant()
    def device_at_rest_is_not_on_trial(self) -> None:
        record = self.bench.record
        if record.phase in (Phase.IDLE, Phase.ROLLED_BACK, Phase.FAILED):
            assert record.trial is None
            assert record.going_back is None

    @invariant()
    def release_that_failed_is_not_on_trial_under_the_same_generation(self) -> None:
        record = self.bench.record
        if record.trial is not None:
            assert not record.is_refused(record.trial.generation, record.trial.manifest_sha256)

    @invariant()
    def nothing_revoked_is_on_trial_or_asked_for(self) -> None:
        device = self.bench.device
        if device.phase not in (Phase.TRIAL, Phase.READY, Phase.WAITING):
            return
        assert device.record.trial is None or not is_revoked(device, device.record.serving)
        desired = device.record.desired
        if desired is not None and desired.action == "install" and device.phase is not Phase.TRIAL:
            assert not is_revoked(device, device.record.content(device.record.standby))

    @invariant()
    def device_that_wants_something_wakes_up_for_it(self) -> None:
        device = self.bench.device
        if device.phase is Phase.TRIAL:
            assert next_wake(device) is not None

    @invariant()
    def changes_end(self) -> None:
        if self.bench.phase() in CHANGING - {Phase.ROLLING_BACK}:
            assert self.bench.device.step is not None


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase


def test_life_ends_well_once_the_trouble_is_over() -> None:
    bench = Bench(disk={"blue": make_content("1.0.0")})
    bench.fail(Step.SWITCH, ErrorCode.IO_ERROR)
    bench.started().order(1)
    bench.grant()
    bench.failures.clear()

    bench.order(2)
    bench.grant()
    bench.probe_for(90)

    assert (bench.phase(), bench.version) == (Phase.IDLE, "1.1.0")

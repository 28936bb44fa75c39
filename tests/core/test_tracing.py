"""A rollout as a trace: which spans there are, what they belong to, and that a restart changes no name."""

from dataclasses import dataclass, field

import pytest

from orchestrator import tracing
from orchestrator.core.events import AnyEvent
from orchestrator.core.state import State
from orchestrator.core.trace_ids import trace_id, traceparent, wave_span_id
from orchestrator.tracing import Span, Tracer
from schemas.codec import decode
from schemas.messages import Desired, MediaReport, Reported
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, make_fleet, make_policy


@dataclass
class Traced:
    """A bench, and the spans of what happens on it."""

    tracer: Tracer = field(default_factory=Tracer)
    spans: list[Span] = field(default_factory=list)

    def bench(self, count: int = 4, *, traced: bool = True) -> Bench:
        return Bench(
            fleet=make_fleet(count), note_fact=self.note_fact, note_report=self.note_report, traced=traced
        )  # fmt: skip

    def note_fact(self, state: State, event: AnyEvent, now: float) -> None:
        self.spans += self.tracer.note_fact(state, event, now)

    def note_report(self, state: State, name: str, reported: Reported, now: float) -> None:
        self.spans += self.tracer.note_report(state, name, reported, now)

    def named(self, name: str) -> list[Span]:
        return [each for each in self.spans if each.name == name]

    def of(self, device: str) -> list[Span]:
        return [each for each in self.spans if each.attributes.get("tidegate.device") == device]


def install_slowly(bench: Bench, name: str) -> None:
    """Have a device take ten seconds for each step."""
    for state in ("downloading", "verifying", "installing", "ready"):
        bench.now += 10
        bench.report(name, state)
    bench.now += 10
    bench.install(name)


def test_rollout_is_one_trace_in_which_each_span_has_its_parent() -> None:
    traced = Traced()
    bench = traced.bench()
    bench.start()
    for _ in range(3):
        bench.install_wave()
        bench.soak()

    assert bench.phase() == "completed"
    assert {each.trace_id for each in traced.spans} == {trace_id(bench.rollout)}
    ids = [each.span_id for each in traced.spans]
    assert len(set(ids)) == len(ids)
    assert {each.parent_id for each in traced.spans} - {None} <= set(ids)
    (root,) = traced.named("rollout")
    assert [each.parent_id for each in traced.named("wave")] == [root.span_id] * 3
    assert (root.parent_id, root.began_at, root.ended_at) == (None, bench.rollout.started_at, bench.rollout.ended_at)
    assert root.attributes["tidegate.outcome"] == "completed"
    assert {each.attributes["tidegate.device"] for each in traced.named("member")} == set(bench.devices)
    assert all(each.began_at <= each.ended_at for each in traced.spans)


def test_steps_of_a_device_follow_each_other_and_fill_its_order() -> None:
    traced = Traced()
    bench = traced.bench()
    bench.start()
    (name,) = bench.wave(0)

    install_slowly(bench, name)

    steps = [each for each in traced.of(name) if each.name != "member"]
    assert [each.name for each in steps] == ["pick_up", "download", "verify", "install", "wait", "trial"]
    (member,) = [each for each in traced.of(name) if each.name == "member"]
    assert {each.parent_id for each in steps} == {member.span_id}
    assert [each.ended_at for each in steps[:-1]] == [each.began_at for each in steps[1:]]
    assert (steps[0].began_at, steps[-1].ended_at) == (member.began_at, member.ended_at)
    assert steps[1].ended_at - steps[1].began_at == 10
    assert member.marks == (("granted", bench.member(name).granted_at),)


def test_repeated_late_and_foreign_reports_make_no_span() -> None:
    traced = Traced()
    bench = traced.bench()
    bench.start()
    (name,) = bench.wave(0)
    bench.report(name, "downloading")
    before = list(traced.spans)

    bench.report(name, "downloading")
    bench.report(name, "trial", generation=0)
    bench.report(bench.wave(1)[0], "downloading", generation=0)
    medium = Reported(
        observed_generation=bench.member(name).generation, seq=1, state="trial", boot_id="b", media=MediaReport(order=7)
    )
    bench.say(Kind.REPORTED, medium, device=name)

    assert traced.spans == before


def test_device_that_fails_has_an_error_and_so_has_the_rollout_that_went_back() -> None:
    traced = Traced()
    bench = traced.bench()
    bench.start()
    (name,) = bench.wave(0)
    bench.fail(name)
    for _ in range(3):
        bench.tick()

    (member,) = traced.named("member")
    assert (member.attributes["tidegate.outcome"], member.error) == ("failed", "smoke_test_failed: it broke")
    (back,) = traced.named("rollback_ordered")
    assert back.attributes["tidegate.trigger"]
    (root,) = traced.named("rollout")
    assert root.attributes["tidegate.outcome"] == "rolled_back"
    assert root.error


def test_order_that_is_replaced_ends_and_the_way_back_is_an_order_of_its_own() -> None:
    traced = Traced()
    bench = traced.bench()
    bench.start()
    (name,) = bench.wave(0)
    assert bench.ask(name).decision == "go"
    bench.report(name, "trial")

    assert bench.command("rollback", rollout=bench.rollout.id).status == "ok"
    bench.tick()
    bench.go_back(name)

    members = [each for each in traced.of(name) if each.name == "member"]
    assert [each.attributes["tidegate.action"] for each in members] == ["install", "rollback"]
    assert [each.attributes["tidegate.outcome"] for each in members] == ["superseded", "returned"]
    assert members[0].span_id != members[1].span_id


def test_restart_in_the_middle_changes_no_name_and_no_beginning() -> None:
    whole, halved = Traced(), Traced()
    for each in (whole, halved):
        bench = each.bench()
        bench.start()
        (name,) = bench.wave(0)
        bench.report(name, "downloading")
        if each is halved:
            each.tracer = Tracer()
            bench.boot(settle_seconds=0)
            bench.speak()
            bench.report(name, "downloading")
        bench.install(name)
        bench.advance(700)

    def kept(traced: Traced) -> list[tuple[object, ...]]:
        found = [*traced.named("member"), *traced.named("wave")]
        return [(each.trace_id, each.span_id, each.parent_id, each.began_at) for each in found]

    assert kept(whole)
    assert kept(halved) == kept(whole)
    assert [each.name for each in halved.of(name)] == [each.name for each in whole.of(name)]


def test_of_a_large_wave_only_the_first_are_followed_and_whoever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MEMBERS_MAX", 1)
    traced = Traced()
    bench = traced.bench(12)
    bench.reach_wave(2)
    before = len(traced.spans)
    first, second, third, *_ = bench.wave(2)

    bench.install(first, second)
    bench.fail(third)

    seen = {each.attributes["tidegate.device"]: each.error for each in traced.spans[before:] if each.name == "member"}
    assert seen == {first: "", third: "smoke_test_failed: it broke"}
    assert not [each for each in traced.of(second) if each.name in {"pick_up", "trial"}]


def test_no_more_devices_are_followed_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "FOLLOWED_MAX", 0)
    traced = Traced()
    bench = traced.bench()
    bench.start()
    (name,) = bench.wave(0)

    install_slowly(bench, name)

    assert [each.name for each in traced.of(name)] == ["member"]


def test_orders_of_a_traced_rollout_name_its_trace_and_the_waves_span() -> None:
    bench = Traced().bench()
    bench.start()
    (name,) = bench.wave(0)
    topic = TREE.build(Kind.DESIRED, device=name)
    said = decode(Desired, bench.retained()[topic]).traceparent

    assert said == traceparent(bench.rollout, 0)
    assert said is not None
    version, trace, span, flags = said.split("-")
    assert (version, int(trace, 16), int(span, 16), flags) == (
        "00", trace_id(bench.rollout), wave_span_id(bench.rollout, 0), "01"
    )  # fmt: skip
    bench.boot(settle_seconds=0)
    assert decode(Desired, bench.retained()[topic]).traceparent == said


def test_orders_name_no_trace_where_none_is_sent_anywhere() -> None:
    bench = Traced().bench(traced=False)
    bench.start()
    (name,) = bench.wave(0)

    assert b"traceparent" not in bench.retained()[TREE.build(Kind.DESIRED, device=name)]
    assert "traced" not in bench.facts("rollout_started")[0]


def test_two_fleets_whose_rollouts_have_one_name_have_two_traces() -> None:
    one, other = Traced().bench(4), Traced().bench(5)
    one.start()
    other.start()

    assert one.rollout.id == other.rollout.id
    assert trace_id(one.rollout) != trace_id(other.rollout)


def test_what_is_fetched_ahead_of_a_wave_is_an_order_of_its_own_and_belongs_to_the_rollout() -> None:
    traced = Traced()
    policy = make_policy(distribution={"activate": "manual"})
    bench = Bench(
        fleet=make_fleet(4), policy=policy, note_fact=traced.note_fact, note_report=traced.note_report, traced=True
    )
    bench.start()
    for name in bench.fleet:
        bench.report(name, "downloading")
        bench.report(name, "ready")
    assert bench.command("activate", rollout=bench.rollout.id).status == "ok"
    bench.tick()
    (canary,) = bench.wave(0)
    bench.install(canary)

    assert [each.name for each in traced.of(canary)] == [
        "pick_up", "download", "wait", "member", "pick_up", "trial", "member",
    ]  # fmt: skip
    ahead, member = [each for each in traced.of(canary) if each.name == "member"]
    assert [each.attributes["tidegate.outcome"] for each in (ahead, member)] == ["staged", "committed"]
    (started,) = traced.named("rollout_started")
    assert ahead.parent_id == started.parent_id
    assert member.parent_id == wave_span_id(bench.rollout, 0)
    assert len(traced.named("rollout_activated")) == 1

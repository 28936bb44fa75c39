import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.adapters.journal import Journal
from orchestrator.core.inputs import CommandReceived, Tick
from orchestrator.core.interpret import Received
from orchestrator.core.members import Progress
from orchestrator.core.rollout import Phase
from orchestrator.outgoing import Outgoing
from orchestrator.service import Engine
from schemas.codec import decode, encode
from schemas.commands import RolloutCommand
from schemas.documents import AuditRecord, Reply
from schemas.dsse import GRANT_TYPE, seal, unseal
from schemas.messages import Grant, Ready, Sync
from schemas.topics import RULES, Kind
from tests.core.core_bench import START, TREE, Bench, document, durable, fold, make_fleet, make_policy

CANARY = "d-0001"
ONCE = {
    "rollout_started", "wave_started", "rollout_approved", "rollback_ordered", "rollout_halted", "rollout_resumed",
    "rollout_ended", "device_committed", "device_failed", "device_returned", "soak_started",
}  # fmt: skip


class CrashError(Exception):
    """The process has just died."""


class MortalJournal(Journal):
    """A journal whose process dies right after so many appends have become durable."""

    def __init__(self, appends_left: int) -> None:
        super().__init__(None)
        self.appends_left = appends_left

    def append(self, rows: Sequence[tuple[str, str]], at: float) -> tuple[AuditRecord, ...]:
        records = super().append(rows, at)
        self.appends_left -= 1
        if self.appends_left == 0:
            raise CrashError
        return records


def drive(bench: Bench) -> None:
    """Take whatever step the fleet and its people would take next, until the story has come to its end.

    The story: a canary, an approval, a first wave in which one device fails and is excused, a second wave.
    """
    for _ in range(400):
        if bench.state.rollouts and bench.phase() is Phase.COMPLETED:
            return
        try:
            advance_story(bench)
        except CrashError:
            bench.boot()
            bench.speak()
            for name in bench.devices:
                if bench.state.devices[name].rollout is not None:
                    bench.report(name)
    raise AssertionError(f"no end: {bench.phase()} {bench.rollout.reason}")


def advance_story(bench: Bench) -> None:
    if not bench.state.rollouts:
        bench.command("start", release="app-2.0.0", policy="careful", rollout="r-1")
        return
    if bench.phase() is Phase.AWAITING_APPROVAL:
        bench.command("approve", rollout="r-1")
    elif bench.phase() is Phase.HALTED:
        bench.command("resume", rollout="r-1")
    for name in bench.rollout.having(Progress.ORDERED, Progress.GRANTED):
        if bench.rollout.wave == 1 and name == bench.wave(1)[0]:
            bench.ask(name)
            bench.report(name, "failed", code="smoke_test_failed")
        elif bench.ask(name).decision == "go":
            bench.run(name, "2.0.0")
            bench.report(name)
    bench.advance(30)


STORY = make_policy(
    canary={"require_human_approval_after": True},
    waves=[
        {"name": "wave-1", "percentage": 50, "auto_rollback": False},
        {"name": "wave-2", "percentage": 100},
    ],
    max_soak_extensions=50,
)


def story_bench(journal: Journal) -> Bench:
    return Bench(make_fleet(7), STORY, journal)


def told() -> Bench:
    bench = story_bench(Journal(None))
    drive(bench)
    return bench


def outcome(bench: Bench) -> dict[str, Any]:
    """Return what a rollout came to, without times and numbers that a restart may change."""
    rollout = bench.rollout
    return {
        "phase": rollout.phase,
        "wave": rollout.wave,
        "plan": rollout.plan.digest,
        "members": {name: (m.progress, m.failed, m.excused, m.error) for name, m in rollout.members.items()},
        "approvals": sorted(rollout.approvals),
        "quarantine": {name: device.quarantine for name, device in bench.state.devices.items()},
    }


TOLD = told()


def test_the_story_contains_what_it_promises() -> None:
    kinds = Counter(TOLD.kinds())

    assert kinds["rollout_approved"] == kinds["rollout_halted"] == kinds["rollout_resumed"] == 1
    assert (kinds["wave_started"], kinds["device_committed"], kinds["device_failed"]) == (3, 6, 1)


def count_appends() -> int:
    class Counting(Journal):
        count = 0

        def append(self, rows: Sequence[tuple[str, str]], at: float) -> tuple[AuditRecord, ...]:
            Counting.count += 1
            return super().append(rows, at)

    drive(story_bench(Counting(None)))
    return Counting.count


FIRST_APPEND = 9  # after the fleet has announced itself


@pytest.mark.parametrize("dies_at", range(FIRST_APPEND, count_appends() + 1))
def test_a_crash_after_any_append_changes_neither_the_outcome_nor_the_decisions(dies_at: int) -> None:
    bench = story_bench(MortalJournal(dies_at))

    drive(bench)

    assert outcome(bench) == outcome(TOLD)
    assert {kind: count for kind, count in Counter(bench.kinds()).items() if kind in ONCE} == {
        kind: count for kind, count in Counter(TOLD.kinds()).items() if kind in ONCE
    }
    assert durable(fold(bench.entries())) == durable(bench.state)
    bench.journal.verify()


def test_the_state_is_the_fold_of_the_journal() -> None:
    assert durable(fold(TOLD.entries())) == durable(TOLD.state)
    assert TOLD.journal.verify().entry_count == len(TOLD.entries())


def test_a_restart_publishes_every_retained_document_as_it_was() -> None:
    bench = told()
    before = {topic: payload for topic, payload in bench.retained().items() if "/status" not in topic}

    again = {each.topic: each.payload for each in bench.boot() if each.retain}

    assert {topic: again.get(topic) for topic in before} == before
    status = document(again["fleet/v1/rollout/r-1/status"])
    assert (status["phase"], status["counts"]["committed"]) == ("completed", 6)


def test_desired_states_are_the_same_bytes_after_every_restart() -> None:
    bench = Bench()
    bench.start()
    topic = f"fleet/v1/device/{CANARY}/desired"
    first = bench.retained()[topic]

    for _ in range(3):
        bench.now += 1000
        assert [each.payload for each in bench.boot() if each.topic == topic] == [first]
        bench.speak()


def test_a_reconnect_publishes_everything_again_and_asks_the_fleet_to_speak() -> None:
    bench = Bench()
    bench.start()
    before = bench.retained()

    outgoing = bench.take(bench.engine.reconnected(bench.now))

    assert {each.topic for each in outgoing if each.retain} == set(before)
    assert outgoing[-1].topic == TREE.build(Kind.SYNC)
    assert decode(Sync, outgoing[-1].payload).spread_seconds == 10.0


def test_every_message_travels_by_the_rules_of_its_kind() -> None:
    for each in TOLD.sent:
        address = TREE.parse(each.topic)
        assert address is not None
        rule = RULES[address.kind]
        assert (each.retain, each.qos) == (rule.retained, rule.qos)


def test_the_audit_on_the_bus_is_the_journal() -> None:
    records = [decode(AuditRecord, each.payload) for each in TOLD.sent if each.topic == TREE.build(Kind.AUDIT)]

    assert records == [entry.record() for entry in TOLD.entries()]


def test_a_crash_before_publishing_leaves_no_gap_in_the_audit() -> None:
    bench = Bench(journal=MortalJournal(11), warm_up_seconds=330)
    with pytest.raises(CrashError):
        advance_until_crash(bench)
    seen = {document(each.payload)["seq"] for each in bench.sent if each.topic == TREE.build(Kind.AUDIT)}
    lost = {entry.seq for entry in bench.entries()} - seen
    assert lost

    outgoing = bench.boot()

    repeated = [document(each.payload)["seq"] for each in outgoing if each.topic == TREE.build(Kind.AUDIT)]
    assert repeated == sorted({*lost, len(bench.entries())})


def advance_until_crash(bench: Bench) -> None:
    bench.start()
    for _ in range(20):
        bench.install_wave()
        bench.advance(30)


def test_a_message_that_may_be_lost_is_published_again_and_a_performed_one_is_not() -> None:
    bench = Bench()
    bench.take(bench.engine.handle(Tick(), bench.now))
    received = CommandReceived("alice", "pause", RolloutCommand(rollout="r-001"))
    bench.start()
    bench.engine.handle(received, bench.now)  # its messages never reach the broker

    first, second = ([each.topic for each in bench.boot()] for _ in range(2))

    event = "fleet/v1/rollout/r-001/event/paused"
    assert (first.count(event), second.count(event)) == (1, 0)
    assert "fleet/v1/rollout/r-001/event/started" not in first


# Settling


def test_nothing_goes_on_while_the_orchestrator_settles() -> None:
    bench = Bench()
    bench.start()
    bench.boot(settle_seconds=60)
    bench.speak()
    facts = len(bench.entries())

    bench.advance(30)
    waited = bench.ask(CANARY)

    assert (waited.decision, waited.reason) == ("wait", "settling")
    assert len(bench.entries()) == facts
    bench.advance(30)
    assert bench.ask(CANARY).decision == "go"


def test_nobody_is_let_go_just_after_a_reconnect_either() -> None:
    bench = Bench()
    bench.start()
    bench.take(bench.engine.reconnected(bench.now))

    first = bench.ask(CANARY)
    bench.advance(30)

    assert (first.reason, bench.ask(CANARY).decision) == ("settling", "go")


def test_nobody_is_overdue_because_the_orchestrator_was_away() -> None:
    bench = Bench()
    bench.start()
    bench.now += 7200
    bench.boot()
    bench.speak()

    bench.advance(30)

    assert not bench.member(CANARY).failed


def test_a_hold_that_is_heard_while_settling_is_never_overtaken() -> None:
    bench = Bench()
    bench.start()
    bench.boot()
    bench.speak()

    first = bench.ask(CANARY)
    bench.hold()
    bench.advance(30)

    assert (first.reason, bench.ask(CANARY).reason) == ("settling", "hold")


def test_soak_that_nobody_watched_does_not_count() -> None:
    bench = Bench()
    bench.start()
    bench.install_wave()
    bench.advance(150)
    bench.now += 3600
    bench.boot()
    bench.speak()

    bench.advance(120)
    assert (bench.phase(), bench.rollout.wave) == (Phase.SOAKING, 0)
    bench.advance(60)

    assert bench.rollout.wave == 1


def test_telemetry_starts_empty_after_a_restart_and_no_gate_passes_on_it() -> None:
    bench = Bench()
    bench.start()
    bench.install_wave()
    bench.advance(270)
    bench.boot()
    bench.speak()
    for device in bench.devices.values():
        device.is_silent = True

    bench.advance(120)

    assert bench.rollout.wave == 0
    assert bench.facts("gate_judged")[-1]["verdict"] == "inconclusive"


# Taking over


def test_each_process_has_an_epoch_of_its_own_and_numbers_its_orders_with_it() -> None:
    bench = Bench()
    bench.start()
    assert bench.ask(CANARY).epoch == 1

    bench.boot()
    bench.speak()
    bench.advance(30)

    assert bench.state.epoch == 2
    assert bench.ask(CANARY).epoch == 2
    assert bench.state.devices[CANARY].epoch == 1  # the order itself is the old one


def test_what_the_one_before_wrote_until_it_was_fenced_off_is_not_missed() -> None:
    bench = Bench()
    bench.start()
    older = bench.engine

    class LateJournal(Journal):
        def open_epoch(self, at: float, above: int = 0) -> int:
            older.handle(CommandReceived("bob", "pause", RolloutCommand(rollout="r-001")), bench.now)
            return bench.journal.open_epoch(at)

        read = bench.journal.read
        append = bench.journal.append
        mark_performed = bench.journal.mark_performed

    newer = Engine(LateJournal(None), bench.engine.context, bytes, TREE)
    newer.start(bench.now)

    assert newer.state.rollouts["r-001"].paused
    assert durable(fold(bench.entries())) == durable(newer.state)


# Answers


def ask_to(bench: Bench, response_topic: str | None, verb: str = "list") -> list[Outgoing]:
    return bench.hear(f"fleet/v1/ops/alice/cmd/{verb}", b"", response_topic=response_topic, correlation=b"\x00\x07")


OWN = "fleet/v1/ops/alice/reply/list"


@pytest.mark.parametrize(
    ("response_topic", "answered"),
    [
        (None, [OWN]),
        (OWN, [OWN]),
        ("fleet/v1/ops/alice/reply/mine", [OWN, "fleet/v1/ops/alice/reply/mine"]),
        ("my/app/answers", [OWN, "my/app/answers"]),
        ("fleet/v1/ops/bob/reply/list", [OWN]),
        ("fleet/v1/ops/alice/cmd/start", [OWN]),
        ("fleet/v1/device/pi-1/desired", [OWN]),
        ("fleet/v1/all/hold", [OWN]),
        ("fleet/v1/ops/alice/reply/#", [OWN]),
        ("fleet/v1/ops/alice/reply/+", [OWN]),
        ("$SYS/x", [OWN]),
        ("a/#", [OWN]),
        ("a/+/b", [OWN]),
        ("", [OWN]),
        ("a\x00b", [OWN]),
        ("a" * 513, [OWN]),
    ],
)
def test_an_answer_goes_to_its_asker_and_to_no_place_that_is_not_his(
    response_topic: str | None, answered: list[str]
) -> None:
    outgoing = ask_to(Bench(warm_up_seconds=0), response_topic)

    assert [each.topic for each in outgoing] == answered
    assert not any(each.retain for each in outgoing)
    assert len({each.payload for each in outgoing}) == 1
    if response_topic == answered[-1]:
        assert outgoing[-1].correlation == b"\x00\x07"


def test_a_retained_command_is_cleared_answered_and_not_carried_out() -> None:
    bench = Bench()
    topic = "fleet/v1/ops/alice/cmd/start"
    facts = len(bench.entries())

    outgoing = bench.hear(topic, json.dumps({"release": "app-2.0.0", "policy": "careful"}).encode(), retained=True)

    assert outgoing[0] == Outgoing(topic, b"", retain=True)
    (reply,) = [decode(Reply, each.payload) for each in outgoing if "/reply/" in each.topic]
    assert reply.error is not None
    assert reply.error.code == "retained_command"
    assert bench.state.rollouts == {}
    assert bench.kinds(facts) == ["command_answered"]
    assert bench.hear(topic, b"", retained=True) == []


def test_an_unknown_command_is_answered_and_audited() -> None:
    bench = Bench(warm_up_seconds=0)

    outgoing = bench.hear("fleet/v1/ops/alice/cmd/explode", b"r-1")

    (reply,) = [decode(Reply, each.payload) for each in outgoing if "/reply/" in each.topic]
    assert reply.error is not None
    assert reply.error.code == "unknown_command"
    assert bench.facts("command_answered")[-1]["code"] == "unknown_command"


def test_a_grant_is_sealed_with_the_command_key_and_bound_to_the_question() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    bench = Bench()
    bench.start()
    signing = Engine(bench.journal, bench.engine.context, lambda payload: seal(GRANT_TYPE, payload, key), TREE)
    signing.start(bench.now)
    ready = Ready(generation=1, step="activate", nonce="cd" * 16)

    message = Received(TREE.build(Kind.READY, device=CANARY), encode(ready))
    outgoing = signing.receive(message, bench.now + 60)

    (envelope,) = [each.payload for each in outgoing if each.topic == TREE.build(Kind.GRANT, device=CANARY)]
    grant = decode(Grant, unseal(GRANT_TYPE, envelope, [key.public_key().public_bytes_raw()]))
    assert (grant.device, grant.nonce, grant.decision, grant.ttl_seconds) == (CANARY, "cd" * 16, "go", 120.0)


def test_a_grant_is_in_the_journal_before_it_is_sent() -> None:
    bench = Bench(journal=MortalJournal(12))
    bench.start()

    bench.ask(CANARY)
    bench.ask(CANARY)
    with pytest.raises(CrashError):
        bench.ask(CANARY)
    bench.boot()

    assert bench.member(CANARY).progress is Progress.GRANTED
    assert bench.kinds().count("grant_issued") == 1 + sum("/grant" in each.topic for each in bench.sent)


def test_numbers_of_grants_only_grow() -> None:
    bench = Bench()
    bench.start()

    seqs = [(grant.epoch, grant.seq) for grant in (bench.ask(CANARY) for _ in range(3))]
    bench.hold()
    seqs += [(grant.epoch, grant.seq) for grant in (bench.ask(CANARY) for _ in range(3))]
    bench.boot()
    bench.speak()
    bench.hold(b"")
    seqs += [(grant.epoch, grant.seq) for grant in (bench.ask(CANARY) for _ in range(3))]

    assert seqs == sorted(set(seqs))


def test_a_sample_is_no_fact() -> None:
    bench = Bench()
    facts = len(bench.entries())

    bench.advance(600)

    assert len(bench.entries()) == facts
    assert bench.now > START

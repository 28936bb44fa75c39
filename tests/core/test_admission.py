"""What a device may say beside its health."""

import pytest

from orchestrator.core import admission
from orchestrator.core import events as e
from orchestrator.core.admission import BURST_COUNT, INFO_COUNTS_FOR, MESSAGES_PER_SECOND, Admission
from orchestrator.core.interpret import Received
from schemas.messages import Ready, Reported
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, make_info


def said(device: str, kind: Kind = Kind.READY, payload: bytes = b"") -> Received:
    return Received(TREE.build(kind, device=device), payload)


def test_a_device_is_heard_up_to_its_burst_and_then_as_often_as_it_may_speak() -> None:
    found = Admission(TREE)
    assert [found.admit(said("a"), 1000.0) for _ in range(BURST_COUNT + 2)] == [True] * BURST_COUNT + [False] * 2
    heard = sum(found.admit(said("a"), 1000.0 + each / 1000) for each in range(1, 10_001))
    assert heard == 10 * MESSAGES_PER_SECOND
    assert found.floods() == {"a": 2 + 10_000 - heard}
    assert found.floods() == {}


def test_all_kinds_of_a_device_share_its_measure_and_others_have_their_own() -> None:
    found = Admission(TREE)
    kinds = (Kind.AVAILABILITY, Kind.REPORTED, Kind.READY)
    for number in range(BURST_COUNT - INFO_COUNTS_FOR):
        assert found.admit(said("a", kinds[number % 3]), 1000.0)
    assert found.admit(said("a", Kind.INFO), 1000.0)
    assert not any(found.admit(said("a", kind), 1000.0) for kind in (*kinds, Kind.INFO))
    assert found.admit(said("b"), 1000.0)


def test_people_and_the_brake_are_never_refused() -> None:
    found = Admission(TREE)
    topics = (TREE.build(Kind.COMMAND, actor="alice", verb="get"), TREE.build(Kind.HOLD), "elsewhere")
    assert all(found.admit(Received(topic, b""), 1000.0) for topic in topics for _ in range(3 * BURST_COUNT))


def test_only_the_last_word_of_a_flood_waits_and_a_newer_one_takes_its_place() -> None:
    found = Admission(TREE)
    for number in range(BURST_COUNT + 5):
        found.admit(said("a", Kind.REPORTED, b"%d" % number), 1000.0)
        found.admit(said("a", Kind.READY, b"%d" % number), 1000.0)
    assert [each.payload for each in found.last_words()] == [b"%d" % (BURST_COUNT + 4)]
    assert found.admit(said("a", Kind.REPORTED, b"newer"), 1010.0)
    assert found.last_words() == ()


def test_devices_that_are_quiet_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "SWEPT_FROM", 10)
    found = Admission(TREE)
    for number in range(1000):
        assert found.admit(said(f"d-{number}"), 1000.0 + number)
    assert len(found) <= 11


def report(bench: Bench, device: str, version: str, seq: int) -> None:
    reported = {
        "observed_generation": 0, "seq": seq, "state": "idle", "installed_version": version, "boot_id": "boot",
    }  # fmt: skip
    bench.say(Kind.REPORTED, Reported.model_validate(reported), device=device)


def test_the_last_report_of_a_flood_is_heard_when_the_device_may_speak_again() -> None:
    bench = Bench()
    for number in range(3 * BURST_COUNT):
        report(bench, "d-0001", f"1.0.{number}", number)
    assert bench.state.devices["d-0001"].version == f"1.0.{BURST_COUNT - 1}"
    bench.now += 1.0
    bench.tick()
    assert bench.state.devices["d-0001"].version == f"1.0.{3 * BURST_COUNT - 1}"
    assert bench.engine.tally.refused[Kind.REPORTED, "flood"] == 2 * BURST_COUNT


def test_a_flood_of_news_is_not_written_down_and_its_sender_is_kept_out_after_a_minute() -> None:
    bench = Bench()
    before = bench.engine.seq
    for second in range(75):
        for number in range(200):
            info = make_info(tags=(f"{second}-{number}",))
            bench.say(Kind.INFO, info, device="d-0001")
        bench.say(Kind.READY, Ready(generation=1, step="activate", nonce="0" * 32), device="d-0002")
        bench.advance(1.0)
    facts = [e.event_from_json(entry.body) for entry in bench.journal.read(before)]
    kept_out = [(fact.device, fact.reason) for fact in facts if isinstance(fact, e.DeviceQuarantined)]
    assert kept_out == [("d-0001", "sends more than allowed, or samples that are none, for more than a minute")]
    assert len(facts) <= (BURST_COUNT + 80 * MESSAGES_PER_SECOND) / INFO_COUNTS_FOR


def test_a_flood_of_what_does_not_decode_costs_no_decoding() -> None:
    bench = Bench()
    for _ in range(BURST_COUNT + 1000):
        bench.hear(TREE.build(Kind.REPORTED, device="d-0001"), b"nonsense")
    bench.tick()
    assert bench.engine.tally.refused[Kind.REPORTED, "undecodable"] <= BURST_COUNT + 1

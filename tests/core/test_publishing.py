"""What of a wave's health is published, and when."""

import pytest

from orchestrator.core.rollout import Phase
from schemas.codec import RETAINED, decode
from schemas.documents import StatusDocument, WaveDocument
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, make_fleet, make_policy


@pytest.fixture
def bench() -> Bench:
    return Bench(make_fleet(6), make_policy(), summary_seconds=10.0)


def published(bench: Bench, wave: str = "canary") -> list[WaveDocument]:
    """Return the documents of a wave since this was asked last."""
    topic = TREE.build(Kind.WAVE, rollout="r-001", wave=wave)
    found = [decode(WaveDocument, each.payload, RETAINED) for each in bench.sent if each.topic == topic]
    bench.sent.clear()
    return found


def test_nothing_is_said_of_a_waves_health_before_anything_is_known(bench: Bench) -> None:
    bench.start()
    bench.advance(60)

    assert {each.health for each in published(bench)} == {None}


def test_a_wave_that_has_begun_is_published_again_with_how_its_devices_do_on_the_new_version(bench: Bench) -> None:
    bench.start()
    bench.install_wave(errors_per_sample=1)
    published(bench)
    bench.advance(60)

    last = published(bench)[-1].health
    assert last is not None
    assert (last.fresh, last.healthy, last.requests, last.error_rate) == (1, 1, 100, 0.01)


def test_the_status_counts_who_is_healthy_who_is_not_and_who_failed() -> None:
    waves = [{"name": "wave-1", "percentage": 100, "failure_threshold_percent": 50}]
    bench = Bench(make_fleet(6), make_policy(waves=waves), summary_seconds=10.0)
    bench.reach_wave(1)
    first, second, third, *_ = bench.wave(1)
    bench.install(first)
    bench.install(second, is_healthy=False)
    bench.advance(30)
    bench.fail(third)
    bench.tick()

    topic = TREE.build(Kind.STATUS, rollout="r-001")
    status = decode(StatusDocument, bench.retained()[topic], RETAINED)

    wave = status.waves[1]
    assert (wave.devices, wave.done, wave.healthy, wave.failed) == (5, 2, 1, 1)


def test_a_canary_that_waits_for_approval_says_so_in_its_own_document() -> None:
    bench = Bench(make_fleet(6), make_policy(canary={"require_human_approval_after": True}))
    bench.start()
    bench.install_wave()
    bench.soak()

    assert bench.phase() is Phase.AWAITING_APPROVAL
    assert published(bench)[-1].state == "awaiting_approval"


def test_news_of_a_waves_members_is_not_lost_when_something_else_is_told_of_the_rollout_first() -> None:
    bench = Bench(make_fleet(6), make_policy())
    bench.start()
    later = bench.rollout.plan.waves[1]
    assert bench.command("skip", rollout="r-001", devices=[later.members[0]], reason="in repair").status == "ok"
    assert bench.command("pause", rollout="r-001").status == "ok"
    bench.tick()

    assert published(bench, later.name)[-1].counts["skipped"] == 1


def test_waves_that_wait_say_nothing_of_health(bench: Bench) -> None:
    bench.start()
    bench.install_wave()
    bench.advance(60)

    assert {each.health for each in published(bench, bench.rollout.plan.waves[1].name)} == {None}


def test_a_wave_is_not_published_again_while_its_health_stays_the_same(bench: Bench) -> None:
    bench.start()
    (canary,) = bench.install_wave()
    bench.advance(60)
    bench.devices[canary].is_silent = True
    published(bench)

    for _ in range(3):
        bench.now += 10.0
        bench.tick()

    assert published(bench) == []


def test_news_of_members_keep_what_is_known_of_their_health(bench: Bench) -> None:
    bench.start()
    bench.install_wave()
    bench.advance(60)
    published(bench)

    bench.command("pause", rollout="r-001")

    (document,) = published(bench)
    assert document.health is not None


def test_what_a_wave_did_is_no_longer_told_when_its_rollout_has_ended(bench: Bench) -> None:
    bench.start()
    bench.install_wave()
    bench.advance(60)
    bench.command("abort", rollout="r-001")
    bench.advance(60)

    assert published(bench)[-1].health is None
    bench.boot(settle_seconds=0.0)
    bench.advance(60)
    assert {each.health for each in published(bench)} == {None}


def test_earlier_waves_forget_their_health_as_well(bench: Bench) -> None:
    bench.reach_wave(1)
    bench.advance(60)
    assert published(bench)[-1].health is not None

    bench.command("abort", rollout="r-001")
    bench.advance(30)

    assert [each.health for each in published(bench)] == [None]


def test_no_wave_is_summarized_where_nobody_reads_it() -> None:
    bench = Bench(make_fleet(6), make_policy())
    bench.start()
    bench.install_wave()
    bench.advance(120)

    assert {each.health for each in published(bench)} == {None}

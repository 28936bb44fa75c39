"""What Prometheus reads of an engine; the engine is driven on a bench."""

import re
from pathlib import Path

import pytest

from orchestrator.adapters.metric_facts import TYPES_MAX, FactMetrics
from orchestrator.adapters.metric_rollouts import RECENT_MAX, RECENT_SECONDS, margin_ratio
from orchestrator.adapters.metric_state import PAIRS_MAX, REASONS, VERSIONS_MAX
from orchestrator.core.rollout import Phase
from schemas.documents import CheckResult
from schemas.times import format_timestamp
from schemas.topics import Kind
from schemas.verdicts import Verdict
from tests.core.core_bench import TREE, make_fleet, make_policy
from tests.shell.metrics_bench import Scrape, Watch, ask, eventful, make_watch

ROOT = Path(__file__).parents[2]
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""What Prometheus 3 says it accepts."""


def states(scrape: Scrape) -> dict[str, float]:
    return scrape.values("tidegate_devices", "state")


async def test_devices_are_counted_by_where_they_are_and_one_in_quarantine_as_that_alone() -> None:
    watch = make_watch(fleet=make_fleet(6))
    bench = watch.bench
    until = format_timestamp(bench.now + 3600)
    bench.say(Kind.INFO, bench.devices["d-0001"].info.model_copy(update={"sleeping_until": until}), device="d-0001")
    bench.set_online("d-0001", "d-0002", is_online=False)
    bench.command("quarantine", device="d-0003", reason="smoke")

    assert states(await watch.scrape()) == {"offline": 1, "sleeping": 1, "quarantined": 1, "online": 3}
    bench.now += 3601
    assert states(await watch.scrape()) == {"offline": 2, "sleeping": 0, "quarantined": 1, "online": 3}


async def test_exactly_one_phase_of_a_rollout_is_on_and_its_devices_are_counted_by_wave() -> None:
    watch = make_watch(fleet=make_fleet(6))
    watch.bench.reach_wave(1)
    watch.bench.install_wave()

    scrape = await watch.scrape()

    rollout = watch.bench.rollout
    phases = scrape.values("tidegate_rollout_phase", "phase", rollout=rollout.id)
    assert set(phases) == {each.value for each in Phase}
    assert [phase for phase, value in phases.items() if value] == [rollout.phase.value]
    devices = scrape.values("tidegate_rollout_devices", "wave", "state", rollout=rollout.id)
    expected = {
        (rollout.plan.waves[number].name, progress.value): len(
            [name for name, member in rollout.in_wave(number) if member.progress is progress]
        )
        for number in range(len(rollout.plan.waves))
        for progress in rollout.members.vocabularies["progress"].values
    }
    assert devices == {key: count for key, count in expected.items() if count}
    assert scrape.value("tidegate_rollout_progress_ratio") == pytest.approx(4 / 6)
    (info,) = scrape.families["tidegate_rollout_info"].samples
    assert (info.labels["from_version"], info.labels["to_version"]) == ("1.0.0", "2.0.0")


async def test_devices_that_are_waited_for_are_counted_while_healthy_ones_wait_for_them() -> None:
    update = {"max_unavailable": "20%", "min_available": "80%"}
    policy = make_policy(waves=[{"name": "wave-1", "percentage": 100}], update=update)
    watch = make_watch(fleet=make_fleet(20), policy=policy)
    bench = watch.bench
    bench.reach_wave(1)
    ill = bench.wave(1)[-4:]
    before = await watch.scrape()
    for name in ill:
        bench.devices[name].is_healthy = False
    bench.advance(30)
    meanwhile = await watch.scrape()
    bench.devices[ill[0]].is_healthy = True
    bench.advance(30)

    after = await watch.scrape()

    shown = [each.value("tidegate_rollout_blocking_devices") for each in (before, meanwhile, after)]
    assert shown == [0, 4, 0]


async def test_checks_are_shown_as_they_are_now_while_a_person_is_awaited() -> None:
    watch = make_watch(fleet=make_fleet(6), policy=make_policy(canary={"require_human_approval_after": True}))
    bench = watch.bench
    bench.start()
    canaries = bench.install_wave()
    bench.soak()
    assert bench.phase() == "awaiting_approval"
    before = await watch.scrape()
    for name in canaries:
        bench.devices[name].errors_per_sample = 1
    bench.advance(30)

    after = await watch.scrape()

    where = {"gate": "canary_gate", "check": "error_rate"}
    assert bench.phase() == "awaiting_approval"
    assert before.value("tidegate_gate_check_value", **where) == 0
    assert 0 < after.value("tidegate_gate_check_value", **where) < after.value("tidegate_gate_check_limit", **where)
    assert 0 < after.value("tidegate_gate_check_margin_ratio", **where) < 1
    verdicts = after.values("tidegate_gate_verdict", "verdict")
    assert verdicts == {each.word: float(each is Verdict.PASS) for each in Verdict}


@pytest.mark.parametrize(
    ("limit_expr", "observed", "limit", "left"),
    [
        ("error_rate <= baseline + 2%", 0.01, 0.02, 0.5),
        ("error_rate <= baseline + 2%", 0.03, 0.02, -0.5),
        ("healthy_percentage >= 95%", 0.95, 0.95, 0.0),
        ("healthy_percentage >= 95%", 0.475, 0.95, -0.5),
        ("crash_count == 0", 0.0, 0.0, None),
        ("error_rate <= baseline + 2%", None, 0.02, None),
    ],
)
def test_margin_is_the_share_of_the_limit_that_is_left(
    limit_expr: str, observed: float | None, limit: float, left: float | None
) -> None:
    check = CheckResult(
        check="any",
        limit_expr=limit_expr,
        observed=observed,
        baseline=None,
        limit=limit,
        samples=9,
        verdict="pass",
        why="",
    )

    assert margin_ratio(check) == (None if left is None else pytest.approx(left))


async def test_what_happened_is_counted_and_timed() -> None:
    watch = eventful()
    scrape = await watch.scrape()

    assert scrape.values("tidegate_commands_total", "verb", "status") == {
        ("start", "ok"): 2, ("approve", "ok"): 1, ("other", "error"): 1,
    }  # fmt: skip
    assert scrape.value("tidegate_gate_evaluations_total", gate="wave_gate", verdict="pass") == 2
    rollbacks = scrape.values("tidegate_rollbacks_total", "scope", "trigger")
    assert {key: count for key, count in rollbacks.items() if count} == {
        ("device", "crash_loop"): 1, ("wave", "failure_threshold"): 1,
    }  # fmt: skip
    assert scrape.value("tidegate_messages_invalid_total", kind="info", reason="undecodable") == 1
    assert scrape.value("tidegate_rollout_duration_seconds_count", status="completed") == 1
    ended = watch.bench.state.rollouts["r-001"]
    assert ended.ended_at is not None
    assert scrape.value("tidegate_rollout_duration_seconds_sum") == ended.ended_at - ended.started_at
    assert scrape.value("tidegate_install_duration_seconds_count", phase="prepare") == 8
    assert scrape.value("tidegate_install_duration_seconds_count", phase="prove") == 8


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_every_way_back_stands_at_none_before_it_is_taken(is_restarted: bool) -> None:  # noqa: FBT001 - a case
    """Else the first rollback would be no rise, and nobody would be told of it."""
    watch = make_watch(fleet=make_fleet(6))
    bench = watch.bench
    bench.start()
    if is_restarted:
        bench.boot()
        watch.facts = FactMetrics()
        bench.engine._note_fact = watch.facts.note_fact
    before = (await watch.scrape()).values("tidegate_rollbacks_total", "scope", "trigger")
    bench.advance(30)
    bench.command("rollback", rollout=bench.rollout.id)

    after = (await watch.scrape()).values("tidegate_rollbacks_total", "scope", "trigger")

    assert set(before.values()) == {0}
    assert {key: count for key, count in after.items() if count} == {("fleet", "operator"): 1}
    assert set(after) == set(before)
    assert {("device", "crash_loop"), ("wave", "canary_gate"), ("wave", "wave_gate")} <= set(before)


async def test_the_wait_for_a_person_lasts_from_the_verdict_to_the_approval() -> None:
    watch = make_watch(fleet=make_fleet(6), policy=make_policy(canary={"require_human_approval_after": True}))
    bench = watch.bench
    bench.start()
    bench.install_wave()
    bench.soak()
    since = bench.rollout.gates_at[0]
    bench.advance(900)
    bench.command("approve", rollout=bench.rollout.id)

    scrape = await watch.scrape()

    assert scrape.value("tidegate_rollout_manual_wait_seconds_count") == 1
    assert scrape.value("tidegate_rollout_manual_wait_seconds_sum") == bench.now - since


async def test_a_rollout_that_was_halted_while_it_awaited_approval_waits_twice() -> None:
    watch = make_watch(fleet=make_fleet(6), policy=make_policy(canary={"require_human_approval_after": True}))
    bench = watch.bench
    bench.start()
    bench.install_wave()
    bench.soak()
    began = bench.now
    bench.command("pause", rollout=bench.rollout.id)
    bench.advance(300)
    bench.command("resume", rollout=bench.rollout.id)
    assert bench.phase() == "awaiting_approval"
    bench.advance(600)
    bench.command("approve", rollout=bench.rollout.id)

    scrape = await watch.scrape()

    assert scrape.value("tidegate_rollout_manual_wait_seconds_count") == 2
    assert scrape.value("tidegate_rollout_manual_wait_seconds_sum") >= bench.now - began


async def test_a_replayed_journal_counts_nothing_a_second_time() -> None:
    watch = eventful()
    watch.bench.boot()

    scrape = await watch.scrape()

    assert scrape.value("tidegate_rollout_duration_seconds_count") == 1
    assert scrape.value("tidegate_rollbacks_total", trigger="failure_threshold") == 1


async def test_no_device_is_named_unless_it_is_asked_for() -> None:
    watch = eventful()

    assert "d-0001" not in await watch.text()
    named = (await watch.scrape(per_device=True)).values("tidegate_device_version_info", "device", "installed_version")
    assert set(named) == {(name, device.version) for name, device in watch.bench.devices.items()}


async def test_groups_types_and_versions_that_devices_make_up_are_counted_together() -> None:
    count = PAIRS_MAX + VERSIONS_MAX + TYPES_MAX
    watch = make_watch(
        fleet=make_fleet(count, group=lambda n: f"g-{n}", device_type=lambda n: f"t-{n}"), warm_up_seconds=0.0
    )
    for number, device in enumerate(watch.bench.devices.values()):
        device.version = f"1.0.{number}"
    watch.bench.speak()

    scrape = await watch.scrape()

    online = scrape.values("tidegate_devices", "group", state="online")
    assert len(online) == PAIRS_MAX  # with what is counted together, and without what a device was before it spoke
    assert sum(online.values()) == count
    assert online["other"] == count - PAIRS_MAX + 1
    running = scrape.values("tidegate_devices_running", "version")
    assert len(running) == VERSIONS_MAX + 1
    assert sum(running.values()) == count


async def test_reasons_and_verbs_that_senders_make_up_are_counted_together() -> None:
    watch = make_watch()
    tally = watch.bench.engine.tally
    tally.refused[Kind.EVALUATOR_SAMPLES, "invented-1"] += 2
    tally.refused[Kind.EVALUATOR_SAMPLES, "invented-2"] += 3
    for verb in ("reboot", "destroy"):
        watch.bench.hear(f"{TREE.root}/ops/mallory/cmd/{verb}", b"{}")
    watch.bench.hear("somewhere/else", b"{}")

    scrape = await watch.scrape()

    assert scrape.value("tidegate_messages_invalid_total", reason="other") == 5
    assert scrape.value("tidegate_messages_invalid_total", reason="foreign_topic", kind="other") == 1
    assert scrape.value("tidegate_commands_total", verb="other", status="error") == 2


def test_every_reason_for_which_a_message_is_refused_has_its_place() -> None:
    sources = [path.read_text() for path in (ROOT / "orchestrator").glob("*.py")]
    sources.append((ROOT / "orchestrator/core/interpret.py").read_text())
    found = {
        reason
        for text in sources
        for line in re.findall(r"Refused\(.*|tally\.refused\[.*", text)
        for reason in re.findall(r'"([a-z]+_[a-z_]+|undecodable)"', line)
    }

    assert len(found) > 8
    assert found | {"flood"} == REASONS


async def test_an_ended_rollout_is_shown_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = eventful()
    state = watch.bench.state
    ended = state.rollouts["r-001"]
    assert set((await watch.scrape()).values("tidegate_rollout_paused", "rollout")) == {"r-001", "r-002"}

    watch.bench.now = (ended.ended_at or 0.0) + RECENT_SECONDS

    assert set((await watch.scrape()).values("tidegate_rollout_paused", "rollout")) == {"r-002"}
    monkeypatch.setattr("orchestrator.adapters.metric_rollouts.RECENT_SECONDS", float("inf"))
    state.rollouts |= {f"old-{number}": ended for number in range(2 * RECENT_MAX)}
    assert len((await watch.scrape()).families["tidegate_rollout_info"].samples) == RECENT_MAX + 1


async def test_within_a_second_the_same_is_told_again() -> None:
    watch = make_watch(fleet=make_fleet(3))
    async with watch.served() as url:
        before = await ask(f"{url}/metrics")
        watch.bench.set_online("d-0001", is_online=False)
        within = await ask(f"{url}/metrics")
        watch.bench.now += 1
        after = await ask(f"{url}/metrics")

    assert before == within
    assert states(Scrape(after[2]))["offline"] == 1


async def test_whoever_asks_for_openmetrics_gets_it() -> None:
    async with make_watch().served() as url:
        status, headers, text = await ask(f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0")

    assert status == 200
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize(
    "accept",
    ["application/openmetrics-text", PROMETHEUS_3, "text/plain, application/openmetrics-text;version=1.0.0;q=0.5"],
)
async def test_openmetrics_is_told_in_the_one_version_that_there_is(accept: str) -> None:
    async with make_watch().served() as url:
        status, headers, _ = await ask(f"{url}/metrics", Accept=accept)

    assert status == 200
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/plain; version=abc", "application/openmetrics-text; version=abc", ";;,=,;version",
     "application/openmetrics-text;version=2.0.0", "application/openmetrics-text;version=", "application/json"],
)  # fmt: skip
async def test_whoever_asks_for_what_there_is_not_gets_plain_text(accept: str) -> None:
    async with make_watch().served() as url:
        status, headers, text = await ask(f"{url}/metrics", Accept=accept)

    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert Scrape(text).value("tidegate_broker_connected") == 1


async def test_versions_that_are_made_up_are_neither_collected_nor_remembered_each_for_itself() -> None:
    watch = make_watch(fleet=make_fleet(3))
    async with watch.served() as url:
        await ask(f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0")
        await ask(f"{url}/metrics")
        watch.bench.set_online("d-0001", is_online=False)
        made_up = [f"{kind}; version={number}.0; escaping={scheme}"
                   for kind in ("application/openmetrics-text", "text/plain")
                   for number in range(1, 9) for scheme in ("dots", "values", "x")]  # fmt: skip
        told = [await ask(f"{url}/metrics", Accept=each) for each in made_up]

    assert {status for status, _, _ in told} == {200}
    assert {states(Scrape(text))["offline"] for _, _, text in told} == {0}, "from before: nothing was collected anew"


async def test_fleet_wide_conditions_are_shown() -> None:
    watch: Watch = make_watch()
    watch.bench.hold()
    watch.bus.is_connected = False
    watch.bench.state.frozen = "silence"
    watch.bench.state.unread = "shard 7"

    scrape = await watch.scrape()

    for name in ("fleet_held", "fleet_frozen", "fleet_unread"):
        assert scrape.value(f"tidegate_{name}") == 1
    assert scrape.value("tidegate_broker_connected") == 0


async def test_lag_is_how_late_decisions_by_time_are() -> None:
    watch = make_watch()  # It should tick every 30 s.
    assert (await watch.scrape()).value("tidegate_reconcile_lag_seconds") == 0
    watch.bench.now += 40
    assert (await watch.scrape()).value("tidegate_reconcile_lag_seconds") == 10
    watch.bench.tick()
    assert (await watch.scrape()).value("tidegate_reconcile_lag_seconds") == 10
    watch.bench.advance(30)
    assert (await watch.scrape()).value("tidegate_reconcile_lag_seconds") == 0

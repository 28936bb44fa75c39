"""A process whose rollouts are traced: over a kill in the middle of one, and without anybody who collects."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.light_fleet import living
from tests.end_to_end.rollout_bench import DEVICES, command, make_devices, until_phase, until_the_canary_passed
from tests.end_to_end.stage import Stage, make_stage
from tests.shell.collector import collecting, until
from tests.shell.metrics_bench import Scrape, ask


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield make_stage(stack, tmp_path, DEVICES)


async def in_time(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(until, condition, what)


async def test_rollout_is_one_trace_also_when_the_orchestrator_is_killed_in_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = make_devices(stage)
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        stage.start("--no-metrics")
        async with living(devices, stage.broker):
            await until_the_canary_passed(stage)
            await in_time(lambda: bool(collector.named("gate_judged")), "the gate's span is there")
            stage.kill()
            stage.start("--no-metrics")
            await until_phase(stage, "awaiting_approval")
            await command(stage, "abort", rollout="r-1", reason="seen enough")
            await in_time(lambda: bool(collector.named("rollout")), "the rollout's span is there")
        await asyncio.to_thread(stage.stop)

    (root,) = collector.named("rollout")
    (canary,) = collector.named("wave")
    members = collector.named("member")
    assert {each.trace_id for each in collector.spans} == {root.trace_id}
    assert (root.parent_id, canary.parent_id) == (0, root.span_id)
    assert root.error == "seen enough"
    assert len(members) == 2
    assert all(each.parent_id == canary.span_id and each.marks == ["granted"] for each in members)
    for member in members:
        steps = sorted(
            (each for each in collector.spans if each.parent_id == member.span_id), key=lambda step: step.begin
        )
        assert [each.name for each in steps] == ["pick_up", "wait", "trial"]
        assert (steps[0].begin, steps[-1].end) == (member.begin, member.end)
    told = {each.traceparent for each in devices} - {None}
    assert told == {f"00-{root.trace_id:032x}-{canary.span_id:016x}-01"}
    assert sum(each.traceparent is not None for each in devices) == 2


async def test_rollout_goes_on_and_the_process_ends_where_nobody_collects(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    stage.start("--metrics-port", "0")
    lost = 0.0
    async with living(make_devices(stage), stage.broker):
        await until_the_canary_passed(stage)
        for _ in range(300):
            _, _, text = await ask(str(stage.said["metrics"]))
            lost = sum(Scrape(text).values("tidegate_trace_spans_total", "result", result="failed").values())
            if lost:
                break
            await asyncio.sleep(0.1)
    await asyncio.to_thread(stage.stop)

    assert lost > 0
    assert stage.process is not None
    assert stage.process.returncode == 0

"""A process that is watched: over a rollout, without its broker, and as Prometheus's own tools see it."""

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.adapters.brokers import start_embedded
from tests.end_to_end.light_fleet import living
from tests.end_to_end.rollout_bench import DEVICES, all_online, make_devices, until_the_canary_passed
from tests.end_to_end.stage import Stage, furnish, make_stage
from tests.shell.metrics_bench import Scrape, ask
from tests.shell.test_grafana import QUERIES

GRAFANA = Path(__file__).parents[2] / "grafana"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield make_stage(stack, tmp_path, DEVICES)


def linted(text: str) -> tuple[int, str]:
    """Return what Prometheus's linter says of metrics."""
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def metrics_url(stage: Stage) -> str:
    return str(stage.said["metrics"])


async def scrape(stage: Stage) -> str:
    status, _, text = await ask(metrics_url(stage))
    assert status == 200
    return text


async def until_answered(stage: Stage, path: str, status: int, text: str) -> None:
    answer: tuple[int, str] = 0, ""
    for _ in range(200):
        code, _, body = await ask(metrics_url(stage).replace("/metrics", path))
        answer = code, body
        if answer == (status, text):
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"waited in vain for {status} {text}: {answer}")


async def test_rollout_is_seen_from_its_metrics(stage: Stage) -> None:
    stage.start("--metrics-port", "0")
    async with living(make_devices(stage), stage.broker):
        await all_online(stage)
        await until_answered(stage, "/readyz", 200, "ok")
        await until_the_canary_passed(stage)
        await asyncio.sleep(1.1)  # For so long the same is told again.
        found = Scrape(await scrape(stage))

    assert found.value("tidegate_broker_connected") == 1
    assert found.value("tidegate_rollout_phase", rollout="r-1", phase="awaiting_approval") == 1
    assert sum(found.values("tidegate_devices", "group", state="online").values()) == len(DEVICES)
    assert found.value("tidegate_rollout_devices", rollout="r-1", wave="canary", state="committed") == 2
    assert found.value("tidegate_gate_check_value", check="error_rate") <= found.value(
        "tidegate_gate_check_limit", check="error_rate"
    )
    assert found.value("tidegate_store_commit_seconds_count") > 5
    assert found.value("tidegate_messages_received_total", kind="health") > 10
    assert found.value("tidegate_messages_received_total", kind="info") >= len(DEVICES)
    assert found.value("tidegate_install_duration_seconds_count", phase="prove") == 2


async def test_without_a_broker_the_process_is_healthy_and_not_ready(tmp_path: Path) -> None:
    with ExitStack() as stack:
        brokers = stack.enter_context(ExitStack())
        stage = furnish(stack, tmp_path, brokers.enter_context(start_embedded(tmp_path)))
        stage.start("--metrics-port", "0")
        await until_answered(stage, "/readyz", 200, "ok")
        brokers.close()

        await until_answered(stage, "/readyz", 503, "it is not connected to the broker")
        await until_answered(stage, "/healthz", 200, "ok")
        await asyncio.sleep(1.1)  # For so long the same is told again.
        assert Scrape(await scrape(stage)).value("tidegate_broker_connected") == 0


def test_nobody_listens_if_nobody_shall(stage: Stage) -> None:
    stage.start("--no-metrics")

    assert "metrics" not in stage.said


@pytest.mark.debian
async def test_prometheus_finds_nothing_wrong_with_the_metrics(stage: Stage) -> None:
    stage.start("--metrics-port", "0", "--metrics-per-device")
    async with living(make_devices(stage), stage.broker):
        await until_the_canary_passed(stage)
        await asyncio.sleep(1.1)  # For so long the same is told again.
        text = await scrape(stage)

    assert linted(text) == (0, "")
    code, said = linted(text.replace("tidegate_messages_received_total", "tidegate_messages_received"))
    assert code != 0
    assert 'should have "_total" suffix' in said


@pytest.mark.debian
def test_prometheus_accepts_the_alert_rules_and_they_fire_when_they_should() -> None:
    for command in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")):
        done = subprocess.run(["promtool", *command], cwd=GRAFANA, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.debian
def test_prometheus_accepts_its_configuration() -> None:
    command = ["promtool", "check", "config", "--syntax-only", "prometheus.yml"]

    done = subprocess.run(command, cwd=GRAFANA, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.debian
def test_prometheus_can_read_every_query_of_the_dashboard(tmp_path: Path) -> None:
    plain = {title: re.sub(r"\$__rate_interval", "5m", query) for title, query in QUERIES.items()}
    rules = [
        {"record": f"query_{number}", "expr": query}
        for number, query in enumerate(plain.values())
        if not query.startswith("label_values(")
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))

    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout

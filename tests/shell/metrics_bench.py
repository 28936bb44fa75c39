"""An engine that is watched: its metrics as Prometheus reads them, and a story in which each of them occurs."""

import asyncio
import contextlib
import http.client
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.adapters.metric_facts import FactMetrics
from orchestrator.adapters.registry import serve_app
from orchestrator.adapters.watching import Watched, create_app
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, make_fleet, make_policy

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from orchestrator.adapters.mqtt import MqttBus

Answer = tuple[int, dict[str, str], str]


@dataclass
class FakeBus:
    """What is watched of the bus."""

    is_connected: bool = True
    failure: Exception | None = None


@dataclass
class Watch:
    """A bench whose orchestrator is watched."""

    bench: Bench
    facts: FactMetrics
    bus: FakeBus = field(default_factory=FakeBus)

    @property
    def watched(self) -> Watched:
        bench = self.bench
        bus = cast("MqttBus", self.bus)
        return Watched(bench.engine, bus, bench.journal, self.facts, lambda: bench.now, tick_seconds=30.0)

    @contextlib.asynccontextmanager
    async def served(self, *, per_device: bool = False) -> AsyncIterator[str]:
        async with serve_app(
            create_app(self.watched, per_device=per_device), "127.0.0.1", 0, who="metrics", options="--metrics-"
        ) as url:
            yield url

    async def text(self, *, per_device: bool = False) -> str:
        async with self.served(per_device=per_device) as url:
            status, headers, text = await ask(f"{url}/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=")
        return text

    async def scrape(self, *, per_device: bool = False) -> "Scrape":
        return Scrape(await self.text(per_device=per_device))


class Scrape:
    """Families by name, and the values of their samples."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, Metric] = {each.name: each for each in text_string_to_metric_families(text)}

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        for family in self.families.values():
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value

    def values(self, name: str, *labels: str, **where: str) -> dict[Any, float]:
        """Return values by ``labels`` where the others are as given."""
        return {
            tuple(found[each] for each in labels) if len(labels) > 1 else found[labels[0]]: value
            for sample, found, value in self.samples()
            if sample == name and where.items() <= found.items()
        }

    def value(self, name: str, **where: str) -> float:
        (value,) = [
            value for sample, labels, value in self.samples() if sample == name and where.items() <= labels.items()
        ]
        return value


async def ask(url: str, **headers: str) -> Answer:
    def run() -> Answer:
        parts = urlsplit(url)
        with contextlib.closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)) as connection:
            connection.request("GET", parts.path, headers=headers)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode()

    return await asyncio.to_thread(run)


def make_watch(**changes: Any) -> Watch:  # noqa: ANN401 - any field of a bench
    facts = FactMetrics()
    return Watch(Bench(note_fact=facts.note_fact, **changes), facts)


def eventful() -> Watch:
    """A rollout that a person approved and that reached all, then one whose canary went back, and some bad messages."""
    policy = make_policy(canary={"require_human_approval_after": True, "min_devices": 2, "max_devices": 2})
    watch = make_watch(fleet=make_fleet(6), policy=policy)
    bench = watch.bench
    watch.facts.note_commit(0.002)
    watch.facts.note_spans("sent", 3)
    bench.start()
    bench.install_wave()
    bench.soak()
    assert bench.phase() == "awaiting_approval", bench.rollout.reason
    bench.advance(600)
    assert bench.command("approve", rollout=bench.rollout.id).status == "ok"
    bench.tick()
    for _ in range(2):
        bench.install_wave()
        bench.soak()
    assert bench.phase() == "completed", bench.rollout.reason
    bench.start("3.0.0")
    bench.install_wave(crashes_per_sample=5)
    bench.advance(60)
    bench.hear(TREE.build(Kind.INFO, device="d-0001"), b"{", retained=True)
    bench.hear(f"{TREE.root}/ops/alice/cmd/stop", b"r-1")
    return watch

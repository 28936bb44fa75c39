"""The orchestrator's process: journal, registry and broker wired to the engine."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from orchestrator.adapters import clock
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.dashboard import DashboardConfig, check_dashboard_url
from orchestrator.adapters.histories import HISTORY_NAME, WRITTEN_EACH_SECONDS, KeptHistories
from orchestrator.adapters.journal import JOURNAL_NAME, Journal
from orchestrator.adapters.keys import load_private
from orchestrator.adapters.metric_facts import FactMetrics
from orchestrator.adapters.mqtt import MqttBus, RefusalLog
from orchestrator.adapters.otlp import Traces, open_traces
from orchestrator.adapters.registry import check_registry_url, serve_registry
from orchestrator.adapters.releases import ReleaseStore
from orchestrator.adapters.sites import read_caches, read_limits
from orchestrator.adapters.snapshots import EACH_ENTRIES, SNAPSHOT_NAME, Snapshots
from orchestrator.adapters.trust import LiveTrust, ReleaseTrust
from orchestrator.adapters.watching import Endpoint, Watched, serve_watching
from orchestrator.core.context import Context
from orchestrator.core.enrolment import OPEN, Enrolment
from orchestrator.core.events import AnyEvent
from orchestrator.core.releases import ReleaseError
from orchestrator.core.state import State
from orchestrator.service import Engine
from orchestrator.shelf import Policies, Releases
from orchestrator.telemetry.monitor import Monitor
from orchestrator.version import VERSION
from schemas.codec import decode, encode
from schemas.documents import OrchestratorInfo
from schemas.dsse import GRANT_TYPE, seal
from schemas.errors import DecodeError
from schemas.times import format_timestamp
from schemas.topics import TOPIC_ROOT, TopicTree

log = logging.getLogger(__name__)

RESTORED: Final = "the journal was put back from a backup: look at what the devices run by now, then resume or abort"
SNAPSHOT_LOOK_SECONDS: Final = 5.0
"""How often it is seen whether a snapshot is due."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How an orchestrator is started.

    Attributes:
        broker: Where to connect, with the orchestrator's own user.
        folder: Holds ``keys/``, ``releases/``, ``policies/`` and the journal.
        registry_url: What devices are told to fetch from; None takes the address it listens on.
        enrolment: Which devices may introduce themselves.
        tick_seconds: How often decisions by time are taken.
        settle_seconds: How long after a connect nothing goes on.
        metrics: Where others watch it; None: nowhere.
        restored: The journal was put back from a backup, and the broker may not remember that there was a newer one.
        dashboard: Whether the registry's port also serves the dashboard.
        dashboard_broker_url: Where browsers find the broker's WebSocket; None lets the page guess.
    """

    broker: BrokerUrl
    folder: Path
    registry_host: str = "127.0.0.1"
    registry_port: int = 0
    registry_url: str | None = None
    topic_root: str = TOPIC_ROOT
    enrolment: Enrolment = OPEN
    tick_seconds: float = 1.0
    settle_seconds: float = 5.0
    metrics: Endpoint | None = None
    restored: bool = False
    dashboard: bool = True
    dashboard_broker_url: str | None = None

    def page(self) -> DashboardConfig | None:
        """Return what the dashboard is told; None if there is to be none."""
        return DashboardConfig(self.dashboard_broker_url, self.topic_root) if self.dashboard else None


async def run_orchestrator(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until cancelled; ``announce`` gets one line of JSON when the first connection is up.

    Raises:
        FleetError: Keys, journal, port or broker are not what they must be; the message names the remedy.
    """
    started_at = clock.now()
    _check_urls(settings)
    command_key = load_private(settings.folder / "keys" / "command.key")
    public_key = command_key.public_key().public_bytes_raw()
    live = LiveTrust(settings.folder, public_key)
    store = ReleaseStore(settings.folder / "releases")
    if live.trust.root is None:
        store.verify(live.trust)
    else:
        _name_useless(store, live.trust)
    facts = FactMetrics()
    journal = Journal(settings.folder / JOURNAL_NAME, facts.note_commit)
    traces = open_traces(facts.note_spans)
    tree = TopicTree(settings.topic_root)
    try:
        async with serve_registry(
            settings.folder / "releases", settings.registry_host, settings.registry_port, settings.page()
        ) as local_url:
            url = settings.registry_url or local_url
            monitor, histories = Monitor(), KeptHistories(settings.folder / HISTORY_NAME)
            monitor.remember(histories.load(), started_at)
            context = Context(
                monitor,
                Releases(store, live, clock.now),
                Policies(settings.folder / "policies"),
                url,
                settings.enrolment,
                partial(read_caches, settings.folder),
                partial(read_limits, settings.folder),
                traced=traces is not None,
            )
            sign = partial(seal, GRANT_TYPE, key=command_key)
            refusals = RefusalLog(clock.now)
            engine = Engine(
                journal,
                context,
                sign,
                tree,
                settle_seconds=settings.settle_seconds,
                note_refusal=refusals.note,
                note_fact=facts.note_fact if traces is None else partial(_note_both, facts, traces),
                note_report=None if traces is None else traces.note_report,
            )

            kept = Snapshots(settings.folder / SNAPSHOT_NAME, journal)
            known = kept.load()
            if known is not None:
                engine.resume(*known)

            def greet() -> bytes:
                info = OrchestratorInfo(
                    version=VERSION,
                    started_at=format_timestamp(started_at),
                    epoch=engine.state.epoch,
                    command_keys=(public_key.hex(),),
                    release_keys=tuple(key.hex() for key in live.trust.keys),
                    root_version=None if live.trust.root is None else live.trust.root.version,
                    journal_entries=engine.seq,
                    journal_head=journal.hash_at(engine.seq),
                )
                return encode(info)

            def roots() -> bytes | None:
                live.renew()
                return live.document

            def suspect(remembered: bytes | None) -> str:
                if settings.restored:
                    return RESTORED
                return RESTORED if remembered is not None and not _holds(journal, remembered) else ""

            bus = MqttBus(
                engine,
                settings.broker,
                tree,
                clock=clock.now,
                tick_seconds=settings.tick_seconds,
                greet=greet,
                roots=roots,
                suspect=suspect,
                together=journal.together,
            )
            keeping = [
                asyncio.create_task(_keep_snapshots(engine, bus, kept)),
                asyncio.create_task(_keep_histories(monitor, histories)),
            ]
            watched = Watched(engine, bus, journal, facts, clock.now, settings.tick_seconds)
            try:
                await _serve(watched, settings.metrics, url, announce)
            except asyncio.CancelledError:
                if bus.failure is None:
                    kept.write(kept.make(engine.state, engine.seq))
                histories.write(monitor.histories())
                raise
            finally:
                for each in keeping:
                    each.cancel()
    finally:
        _close(journal, traces)


def _close(journal: Journal, traces: Traces | None) -> None:
    journal.close()
    if traces is not None:
        traces.close()


def _note_both(facts: FactMetrics, traces: Traces, state: State, event: AnyEvent, now: float) -> None:
    facts.note_fact(state, event, now)
    traces.note_fact(state, event, now)


async def _serve(watched: Watched, endpoint: Endpoint | None, url: str, announce: Callable[[str], None]) -> None:
    async with serve_watching(watched, endpoint) as metrics_url:

        async def ready() -> None:
            said = {"ready": True, "epoch": watched.engine.state.epoch, "registry": url, "metrics": metrics_url}
            announce(json.dumps({key: value for key, value in said.items() if value is not None}))

        await watched.bus.run(ready)


def _check_urls(settings: Settings) -> None:
    check_registry_url(settings.registry_url)
    check_dashboard_url(settings.dashboard_broker_url)


def _name_useless(store: ReleaseStore, trust: ReleaseTrust) -> None:
    """Log the releases that no device installs any more; after a rotation they are no reason not to start."""
    for name in store.names():
        try:
            stored = store.get(name)
            if stored is not None:
                store.verify_release(stored, trust)
        except ReleaseError as error:
            log.warning("release %s cannot be rolled out: %s", name, error)


def _holds(journal: Journal, remembered: bytes) -> bool:
    """Say whether a journal goes on from what ``remembered`` says of it; what cannot be read says nothing."""
    try:
        info = decode(OrchestratorInfo, remembered)
    except DecodeError:
        return True
    return not info.journal_entries or journal.hash_at(info.journal_entries) == info.journal_head


async def _keep_snapshots(engine: Engine, bus: MqttBus, kept: Snapshots) -> None:
    """Keep the state whenever the journal has grown enough; the disk is waited for elsewhere."""
    kept_seq = engine.seq
    while True:
        await asyncio.sleep(SNAPSHOT_LOOK_SECONDS)
        if bus.failure is None and engine.seq - kept_seq >= EACH_ENTRIES:
            kept_seq = engine.seq
            await asyncio.to_thread(kept.write, kept.make(engine.state, kept_seq))


async def _keep_histories(monitor: Monitor, histories: KeptHistories) -> None:
    while True:
        await asyncio.sleep(WRITTEN_EACH_SECONDS)
        await asyncio.to_thread(histories.write, monitor.histories())

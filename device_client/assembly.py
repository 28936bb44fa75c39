"""Putting an agent together from its settings, and finding out how things stand on its device."""

import logging
import pwd
import random
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from device_client.adapters.applications import Applications
from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.boot import boot_id, boot_seconds
from device_client.adapters.chunked import Chunked, media_or, registries_and
from device_client.adapters.clock import timestamp, wall_seconds
from device_client.adapters.compression import supported_formats
from device_client.adapters.consent import Consent
from device_client.adapters.crossing import Public
from device_client.adapters.draining import Draining
from device_client.adapters.hardware import Hardware
from device_client.adapters.health import Observer, disk_free_bytes, memory_total_bytes
from device_client.adapters.hooks import Hooks
from device_client.adapters.hosting import Host
from device_client.adapters.hosts import host_of
from device_client.adapters.journal import Journal
from device_client.adapters.layout import RECORD
from device_client.adapters.media import Media, MediaWatch
from device_client.adapters.metrics import Names, parse_selector
from device_client.adapters.mqtt import Bus
from device_client.adapters.peers import Neighbours
from device_client.adapters.performer import Performer
from device_client.adapters.pushed import SOCKET, Pushed
from device_client.adapters.router import Router
from device_client.adapters.runtime import Runtime
from device_client.adapters.sampler import Sampler, Sources
from device_client.adapters.service import Service
from device_client.adapters.slots import SLOT_NAMES, Slots
from device_client.adapters.transports import Transports
from device_client.adapters.trust import Trusted
from device_client.adapters.worker import Worker
from device_client.agent import Agent, Inbox
from device_client.core.codes import ErrorCode
from device_client.core.events import Facts, PeerDistrusted, Restoration
from device_client.core.record import Record
from device_client.core.redirects import Redirects
from device_client.core.setup import Setup
from device_client.guardian.documents import read_memory
from device_client.settings import Settings, SettingsError, broker_of, trust_of
from schemas.manifest import CHUNKS
from schemas.messages import Info, SlotName
from schemas.topics import Kind, TopicTree

if TYPE_CHECKING:
    from device_client.adapters.peer_server import PeerServer
    from device_client.adapters.pieces import Pieces

_log = logging.getLogger(__name__)


def build_agent(settings: Settings) -> tuple[Agent, Record, Facts]:
    """Wire an agent, and find out how things stand on this device.

    Returns:
        The agent, and what its ``run`` needs.

    Raises:
        SettingsError: The broker's password or the keys that are trusted cannot be read.
        OSError: The folder cannot be used.
    """
    slots = Slots(Path(settings.root))
    journal = Journal(slots.state / RECORD)
    boot = boot_id()
    service = Service(slots.state, boot, boot_seconds)
    service.starting()
    record = journal.load()
    inbox = Inbox()
    host = host_of(slots.root, settings.runtime.model_dump(), settings.limits.model_dump())
    _check_limits(settings, host)
    applications = _applications(settings, slots, host)
    trust = trust_of(settings, slots.state)
    identity = Identity(settings.arch, settings.device_type, trust)
    neighbours = Neighbours(
        None if settings.peers is None else settings.peers.announced,
        lambda url, reason: inbox.post(PeerDistrusted(url, reason)),
    )
    media = None if settings.media is None else Media(settings.media.folder, trust)
    pieces = _pieces(settings)
    transports = Transports("http" in settings.transports, pieces, Redirects(settings.redirects))
    online = registries_and(neighbours.sources, transports)
    chunked = Chunked(slots, online if media is None else media_or(media, online))
    worker = Worker(
        slots,
        Artifacts(slots, identity, chunked=chunked, media=media, transports=transports),
        applications,
        public=_public(settings),
        draining=_draining(settings, slots),
        hooks=_hooks(settings, slots),
        post=inbox.post,
    )
    worker.start()
    bus = Bus(
        broker_of(settings),
        TopicTree(settings.topic_root),
        settings.device,
        trust=trust,
        clock=boot_seconds,
        post=inbox.post,
        neighbours=neighbours,
        pieces=pieces,
    )
    neighbours.listen_with(bus.listen_to_peers)
    if pieces is not None:
        pieces.ask_with(partial(bus.publish, Kind.FETCH))
    taken_over = applications.take_over()
    sources = _sources(settings, slots, host, is_new_boot=record.boot_id != boot)
    # On the wire a boot is one life of the agent: its counters begin at zero with it.
    life = f"{boot[:8]}-{record.session + 1}"
    sampler = Sampler(slots.root, life, boot_seconds, sources, applications.running)
    observer = Observer(sampler, settings.sample_interval_seconds, boot_seconds, inbox.post)
    introduce = partial(_introduce, settings=settings, slots=slots, trust=trust, boot=boot)
    performer = Performer(journal, slots, applications, worker, bus, introduce)
    agent = Agent(
        settings.device,
        inbox=inbox,
        performer=performer,
        applications=applications,
        observer=observer,
        bus=bus,
        consent=Consent(slots.state),
        service=service,
        encoding=settings.encoding,
        clock=boot_seconds,
        peer_server=_peer_server(settings, slots),
        media_watch=None if media is None else MediaWatch(media, wall_seconds, inbox.post),
        setup=Setup(
            has_router=settings.router is not None,
            drains=settings.drain is not None,
            hooks=frozenset(settings.hooks.commands),
            needs_consent=settings.needs_consent,
            window=settings.maintenance_window,
            group=settings.group,
            arch=settings.arch,
            media_wait_seconds=0.0 if settings.media is None else settings.media.wait_seconds,
        ),
    )
    facts = Facts(boot, slots.active(), slots.verified(), taken_over, _restoration(slots), trust.root)
    return agent, record, facts


def _peer_server(settings: Settings, slots: Slots) -> "PeerServer | None":
    table = settings.peers
    if table is None:
        return None
    # Python's HTTP server is a megabyte that most devices have no use for.
    from device_client.adapters.peer_server import PeerLimits, PeerServer  # noqa: PLC0415

    limits = PeerLimits(table.connections_max, table.upload_bytes_per_second)
    return PeerServer(slots, table.host, table.port, limits)


def _pieces(settings: Settings) -> "Pieces | None":
    if "mqtt" not in settings.transports:
        return None
    from device_client.adapters.pieces import Pieces  # noqa: PLC0415 - held only where it is needed

    return Pieces(random.Random())  # noqa: S311 - spreads questions, keeps no secret


def _applications(settings: Settings, slots: Slots, host: Host) -> Applications:
    """Behind a router each slot has its port and is tested there; without one, what serves has the one port."""
    blue, standby = (
        Runtime(slots, port, boot_seconds, settings.runtime.grace_seconds, host)
        for port in (settings.port, settings.standby_port)
    )
    if settings.router is not None:
        ports: dict[SlotName, int] = {"blue": settings.port, "green": settings.standby_port}
        return Applications({"blue": blue, "green": standby}, ports, ports)
    return Applications.one_by_one(blue, settings.port, settings.standby_port)


def _public(settings: Settings) -> Public | None:
    table = settings.router
    if table is None:
        return None
    router = Router(Path(settings.root), Path(table.template), table.reload, table.timeout_seconds)
    return Public(router, table.public_port)


def _draining(settings: Settings, slots: Slots) -> Draining | None:
    table = settings.drain
    if table is None:
        return None
    return Draining(table.path, table.command, table.grace_seconds, slots.state / "drain.log")


def _hooks(settings: Settings, slots: Slots) -> Hooks:
    table = settings.hooks
    return Hooks(settings.device, slots.root, table.commands, table.timeout_seconds, slots.state / "hooks.log")


def _sources(settings: Settings, slots: Slots, host: Host, *, is_new_boot: bool) -> Sources:
    """Return where the figures of a sample come from.

    Args:
        settings: As checked.
        slots: Beside them lies the socket for what is pushed.
        host: Measures what runs.
        is_new_boot: No agent has run in this boot of the device.

    Raises:
        OSError: The socket for what is pushed cannot be made.
    """
    metrics = settings.metrics
    pushed = None
    if metrics.source == "push":
        # In containers and units the application is somebody whom we do not know.
        mode = 0o600 if settings.runtime.kind == "process" else 0o666
        user = settings.limits.user
        owner = pwd.getpwnam(user).pw_uid if user is not None and settings.runtime.kind == "process" else None
        pushed = Pushed(slots.state / SOCKET, mode, owner, boot_seconds)
        pushed.start()
    names = Names(*(parse_selector(text) for text in (metrics.requests, metrics.errors, metrics.latency)))
    return Sources(host.usage, Hardware(is_new_boot=is_new_boot), names, metrics.path, metrics.port, pushed)


def _check_limits(settings: Settings, host: Host) -> None:
    """Say which limits hold nobody back; where they are required, refuse.

    Raises:
        SettingsError: A limit is required and cannot be enforced.
    """
    names = ", ".join(host.unenforced())
    if not names:
        return
    remedy = 'name a control group with [limits] cgroup, or use kind = "systemd", "docker" or "podman"'
    if settings.limits.required:
        raise SettingsError(f"key 'limits.required': {names} cannot be enforced on processes here; {remedy}")
    _log.warning("limits.not_enforced limits=%s remedy=%s", names, remedy)


def _restoration(slots: Slots) -> Restoration | None:
    """Return what the guardian did last; it knows slots and codes as text only."""
    outcome = read_memory(slots.state).outcome
    slot = next((slot for slot in SLOT_NAMES if outcome is not None and slot == outcome.slot), None)
    if outcome is None or slot is None or outcome.code not in set(ErrorCode):
        return None
    return Restoration(outcome.generation, outcome.manifest_sha256, slot, ErrorCode(outcome.code), outcome.message)


def _introduce(
    session: int, serving: str | None, *, settings: Settings, slots: Slots, trust: Trusted, boot: str
) -> Info:
    return Info(
        session=session,
        boot_id=f"{boot[:8]}-{session}",
        agent=f"tidegate-agent/{version('tidegate')}",
        device_type=settings.device_type,
        arch=settings.arch,
        region=settings.region,
        group=settings.group,
        site=settings.site,
        strategies=("blue_green", "rolling"),
        formats=(*supported_formats(), CHUNKS),
        transports=settings.transports if "mqtt" in settings.transports else (),
        disk_free_bytes=disk_free_bytes(slots.root),
        memory_total_bytes=memory_total_bytes(),
        tags=settings.tags,
        single_point_of_failure=settings.single_point_of_failure,
        maintenance=settings.maintenance,
        known_issues=settings.known_issues,
        time_zone=settings.time_zone,
        signals=("error_rate", "latency", "memory", "cpu", "disk", "temperature"),
        version=serving,
        peer_url=None if settings.peers is None else settings.peers.announced,
        root_version=None if trust.root is None else trust.root.version,
        ts=timestamp(),
    )

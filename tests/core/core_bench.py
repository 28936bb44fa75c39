"""Builders of policies, fleets and releases, and an engine on a bench with devices that do what they are told."""

import json
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel

from orchestrator.adapters.journal import Journal, StoredEntry
from orchestrator.core.context import Context
from orchestrator.core.distribution import Caches, Limits
from orchestrator.core.events import AnyEvent, event_from_json
from orchestrator.core.inputs import CommandReceived, Tick
from orchestrator.core.interpret import Received
from orchestrator.core.members import Member, Progress
from orchestrator.core.releases import StoredArtifact, StoredRelease
from orchestrator.core.rollout import Phase, Rollout
from orchestrator.core.state import State, evolve
from orchestrator.outgoing import Outgoing
from orchestrator.service import Engine
from orchestrator.telemetry.monitor import Monitor
from schemas.codec import decode, decode_object, encode
from schemas.commands import parse_command
from schemas.documents import Reply
from schemas.messages import ErrorReport, Grant, HealthSample, Info, Ready, Reported
from schemas.policy import Policy
from schemas.topics import RULES, Kind, TopicTree

TREE = TopicTree()
START = 1_700_000_000.0
SAMPLE_SECONDS = 30.0
SHA = "ab" * 32

CHECKS: tuple[dict[str, Any], ...] = (
    {"type": "error_rate", "threshold": "baseline + 2%", "window": "2m"},
    {"type": "application_health", "threshold": "all_healthy", "min_samples": 2},
)
TRIGGERS: tuple[dict[str, Any], ...] = (
    {
        "name": "crash_loop",
        "condition": "device restarts > 3 in 5 minutes",
        "scope": "single_device",
        "action": "rollback_device",
    },
)


def make_policy(
    *,
    canary: Mapping[str, Any] | None = None,
    waves: Iterable[Mapping[str, Any]] | None = None,
    limits: Mapping[str, Any] | None = None,
    update: Mapping[str, Any] | None = None,
    gates: Mapping[str, Any] | None = None,
    triggers: Iterable[Mapping[str, Any]] = TRIGGERS,
    **top: object,
) -> Policy:
    """Return a policy of two waves after the canary; watches of a few minutes."""
    wave = {"soak_minutes": 2, "failure_threshold_percent": 5}
    chosen = [{"name": "wave-1", "percentage": 50}, {"name": "wave-2", "percentage": 100}] if waves is None else waves
    return Policy.model_validate(
        {
            "rollout": {
                "canary": {
                    "immediate_minutes": 1,
                    "short_term_minutes": 2,
                    "soak_minutes": 3,
                    "require_human_approval_after": False,
                    **(canary or {}),
                },
                "waves": [{**wave, **each} for each in chosen],
                "global": {"deploy_timeout_minutes": 10, **(limits or {})},
            },
            "rolling_update": {"max_unavailable": "50%", "min_available": "50%", **(update or {})},
            "health_gates": {"canary_gate": {"checks": CHECKS}, "wave_gate": {"checks": CHECKS}, **(gates or {})},
            "rollback_triggers": {"immediate": list(triggers)},
            "baseline": {"min_samples": 5},
            **top,
        }
    )


def make_info(**changes: object) -> Info:
    """Return the birth document of a device that is well."""
    known = {"session": 1, "boot_id": "boot", "agent": "agent/1", "device_type": "pi", "arch": "aarch64"}
    placed = {"region": "north", "group": "vision", "version": "1.0.0"}
    return Info.model_validate({**known, **placed, **changes})


def make_fleet(count: int, **changes: object) -> dict[str, Info]:
    """Return ``count`` devices, ``d-0001`` and so on; a callable change is called with the number."""
    return {
        f"d-{number:04d}": make_info(**{k: v(number) if callable(v) else v for k, v in changes.items()})
        for number in range(1, count + 1)
    }


def make_release(version: str = "2.0.0", *, arch: str = "noarch", **changes: Any) -> StoredRelease:  # noqa: ANN401 - any field of an artifact
    """Return a release of one artifact."""
    fields = {"manifest_size_bytes": 10, "artifact_size_bytes": 100, "unpacked_bytes": 300, "device_types": ()}
    artifact = StoredArtifact(manifest_sha256=SHA, artifact_sha256=SHA, arch=arch, **{**fields, **changes})
    return StoredRelease(release=f"app-{version}", version=version, release_counter=1, by_arch={arch: artifact})


@dataclass(slots=True)
class FakeDevice:
    """What a device does beside obeying: its health, as it will say it."""

    info: Info
    version: str = "1.0.0"
    is_online: bool = True
    is_silent: bool = False
    errors_per_sample: int = 0
    crashes_per_sample: int = 0
    is_healthy: bool = True
    seq: int = 0
    requests: int = 0
    errors: int = 0
    restarts: int = 0
    levels: Callable[[int], dict[str, Any]] = lambda _seq: {}
    """What else a sample says, by its number."""

    def sample(self) -> HealthSample:
        """Return the next sample: 100 requests more."""
        self.seq += 1
        self.requests += 100
        self.errors += self.errors_per_sample
        self.restarts += self.crashes_per_sample
        return HealthSample(
            seq=self.seq,
            boot_id="boot",
            version=self.version,
            requests_total=self.requests,
            errors_total=self.errors,
            restarts_total=self.restarts,
            healthy=self.is_healthy,
            endpoint_up=True,
            **self.levels(self.seq),
        )


@dataclass
class Bench:
    """An engine with a fleet whose baseline is known, and no rollout yet."""

    fleet: dict[str, Info] = field(default_factory=lambda: make_fleet(6))
    policy: Policy = field(default_factory=make_policy)
    journal: Journal = field(default_factory=lambda: Journal(None))
    warm_up_seconds: float = 330.0
    summary_seconds: float = float("inf")
    note_fact: Callable[[State, AnyEvent, float], None] | None = None
    note_report: Callable[[State, str, Reported, float], None] | None = None
    traced: bool = False
    now: float = START
    caches: Callable[[], Caches] = dict
    limits: Callable[[], Limits] = dict

    def __post_init__(self) -> None:
        self.devices = {name: FakeDevice(info) for name, info in self.fleet.items()}
        self.sent: list[Outgoing] = []
        self.nonces = 0
        self.releases = {each.release: each for each in (make_release(), make_release("3.0.0"))}
        self.policies = {"careful": self.policy}
        self.monitor = Monitor()
        self.boot()
        self.speak()
        self.advance(self.warm_up_seconds)

    def boot(self, *, settle_seconds: float = 5.0, restored: str = "") -> list[Outgoing]:
        """Start an orchestrator process on the journal; telemetry starts empty."""
        self.monitor = Monitor()
        context = Context(
            self.monitor,
            self.releases,
            self.policies,
            "http://registry",
            caches=self.caches,
            limits=self.limits,
            traced=self.traced,
        )
        self.engine = Engine(
            self.journal,
            context,
            lambda payload: payload,
            TREE,
            settle_seconds=settle_seconds,
            summary_seconds=self.summary_seconds,
            note_fact=self.note_fact,
            note_report=self.note_report,
        )
        return self.take(self.engine.start(self.now, restored))

    def speak(self) -> None:
        """Have every device say who it is and whether it is there, as after ``all/sync``."""
        for name, device in self.devices.items():
            self.say(Kind.INFO, device.info.model_copy(update={"version": device.version}), device=name)
            self.set_online(name, is_online=device.is_online)

    def take(self, outgoing: list[Outgoing]) -> list[Outgoing]:
        """Keep what the engine wants to publish, and hand it on."""
        self.sent += outgoing
        self.engine.performed()
        return outgoing

    def hear(self, topic: str, payload: bytes, **how: Any) -> list[Outgoing]:  # noqa: ANN401 - any field of Received
        """Let a message from the bus reach the engine."""
        return self.take(self.engine.receive(Received(topic, payload, **how), self.now))

    def say(self, kind: Kind, message: BaseModel, /, **ids: str) -> list[Outgoing]:
        return self.hear(TREE.build(kind, **ids), encode(message), retained=RULES[kind].retained)

    def set_online(self, *names: str, is_online: bool = True) -> None:
        for name in names:
            self.devices[name].is_online = is_online
            payload = b"online" if is_online else b"offline"
            self.hear(TREE.build(Kind.AVAILABILITY, device=name), payload, retained=True)

    def hold(self, reason: bytes = b"{}") -> None:
        self.hear(TREE.build(Kind.HOLD), reason, retained=True)

    def advance(self, seconds: float) -> None:
        """Let time pass: every device that is there sends its samples, and the engine ticks."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + SAMPLE_SECONDS, end)
            for name, device in self.devices.items():
                if device.is_online and not device.is_silent:
                    self.measure(name, encode(device.sample()))
            self.tick()

    def measure(self, name: str, payload: bytes) -> None:
        """Let a device's sample reach whoever reads it."""
        self.hear(TREE.build(Kind.HEALTH, device=name), payload)

    def tick(self) -> None:
        self.take(self.engine.handle(Tick(), self.now))

    def command(self, verb: str, actor: str = "alice", **body: object) -> Reply:
        """Send a command and return its answer."""
        payload = json.dumps(body).encode()
        received = CommandReceived(actor, verb, parse_command(verb, payload))
        outgoing = self.take(self.engine.handle(received, self.now))
        topic = TREE.build(Kind.REPLY, actor=actor, verb=verb)
        (reply,) = [decode(Reply, each.payload) for each in outgoing if each.topic == topic]
        return reply

    def start(self, version: str = "2.0.0", **body: Any) -> Reply:  # noqa: ANN401 - any field of the command
        """Start a rollout and let the first orders go out."""
        reply = self.command("start", release=f"app-{version}", policy="careful", **body)
        assert reply.status == "ok", reply.error
        self.tick()
        return reply

    def ask(self, name: str, step: str = "activate", *, generation: int | None = None, nonce: str = "") -> Grant:
        """Have a device ask, and return the engine's answer."""
        self.nonces += 1
        asked = self.state.devices[name].generation if generation is None else generation
        ready = Ready.model_validate({"generation": asked, "step": step, "nonce": nonce or f"{self.nonces:032x}"})
        (grant,) = payloads(self.say(Kind.READY, ready, device=name), TREE.build(Kind.GRANT, device=name))
        return decode(Grant, grant)

    def report(self, name: str, state: str = "idle", *, generation: int | None = None, code: str = "") -> None:
        """Have a device say where it is; it runs what it runs."""
        observed = self.state.devices[name].generation if generation is None else generation
        error = ErrorReport(code=code, step="trial", message="it broke") if code else None
        reported = Reported.model_validate(
            {
                "observed_generation": observed,
                "seq": 1,
                "state": state,
                "installed_version": self.devices[name].version,
                "boot_id": "boot",
                "error": error,
            }
        )
        self.say(Kind.REPORTED, reported, device=name)

    def install(self, *names: str, **health: object) -> None:
        """Have devices install what they were ordered: ask, switch, ask again, commit."""
        for name in names:
            assert self.ask(name).decision == "go"
            self.run(name, self.rollout_of(name).release.version, **health)
            self.report(name, "trial")
            assert self.ask(name, "commit").decision == "go"
            self.report(name)

    def fail(self, *names: str, code: str = "smoke_test_failed") -> None:
        """Have devices fail in their trial and go back by themselves."""
        for name in names:
            assert self.ask(name).decision == "go"
            self.report(name, "failed", code=code)

    def go_back(self, *names: str) -> None:
        """Have devices do what a rollback orders."""
        for name in names:
            assert self.ask(name).decision == "go"
            self.run(name, "1.0.0", errors_per_sample=0, crashes_per_sample=0, is_healthy=True)
            self.report(name)

    def run(self, name: str, version: str, **health: object) -> None:
        device = self.devices[name]
        device.version = version
        for key, value in health.items():
            setattr(device, key, value)

    def install_wave(self, **health: object) -> list[str]:
        """Install on every member that is there and was ordered."""
        names = [name for name in self.rollout.having(Progress.ORDERED) if self.devices[name].is_online]
        self.install(*names, **health)
        self.tick()
        return names

    def soak(self) -> None:
        """Let the current wave's soak pass."""
        self.advance(330.0 if self.rollout.wave == 0 else 150.0)

    def reach_wave(self, wave: int) -> None:
        """Start, and bring every wave before ``wave`` through its gate."""
        self.start()
        for _ in range(wave):
            self.install_wave()
            self.soak()
        assert self.rollout.wave == wave, self.rollout.reason

    @property
    def state(self) -> State:
        return self.engine.state

    @property
    def rollout(self) -> Rollout:
        """The newest rollout."""
        return list(self.state.rollouts.values())[-1]

    def phase(self) -> Phase:
        """Return where the newest rollout is now; a call, so that no type checker takes it for what it was."""
        return self.rollout.phase

    def rollout_of(self, name: str) -> Rollout:
        rollout = self.state.devices[name].rollout
        assert rollout is not None
        return self.state.rollouts[rollout]

    def member(self, name: str) -> Member:
        return self.rollout.members[name]

    def wave(self, number: int) -> tuple[str, ...]:
        return tuple(self.rollout.plan.waves[number].members)

    def entries(self) -> list[StoredEntry]:
        return list(self.journal.read())

    def kinds(self, after: int = 0) -> list[str]:
        """Return what was journaled after so many entries."""
        return [entry.kind for entry in self.entries()][after:]

    def facts(self, kind: str) -> list[dict[str, Any]]:
        """Return the bodies of all facts of a kind."""
        return [dict(entry.record().body) for entry in self.entries() if entry.kind == kind]

    def retained(self) -> dict[str, bytes]:
        """Return what a broker would keep of all that was sent."""
        kept = {each.topic: each.payload for each in self.sent if each.retain}
        return {topic: payload for topic, payload in kept.items() if payload}


def payloads(outgoing: Iterable[Outgoing], topic: str) -> list[bytes]:
    return [each.payload for each in outgoing if each.topic == topic]


def document(payload: bytes) -> dict[str, Any]:
    return decode_object(payload)


def fold(entries: Iterable[StoredEntry]) -> State:
    """Fold a journal from its beginning, apart from any engine."""
    state = State()
    for entry in entries:
        evolve(state, event_from_json(entry.body), entry.at)
    return state


def durable(state: State) -> State:
    """Return a copy without what is only seen; the numbers of refusals are not facts either."""
    copy = deepcopy(state)
    copy.is_held, copy.early_presence, copy.imports, copy.grant_seq, copy.listening_since = False, {}, {}, 0, 0.0
    copy.unread, copy.own_waits = "", {}
    everything = np.arange(len(copy.devices))
    for each in copy.devices.fields.values():
        if each.volatile:
            copy.devices.fill(everything, each, each.default)
    return copy

# ruff: noqa: ANN401 - builders take a value for any field
"""A device core on a bench: the shell is a dictionary, the clock a number, and every effect is written down."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from device_client.core.codes import ErrorCode
from device_client.core.device import Device, advance
from device_client.core.effects import (
    AwaitAnswer,
    CheckSlot,
    Drain,
    DrawNonce,
    Effect,
    Fetch,
    Install,
    Persist,
    PublishEvent,
    PublishReady,
    PublishReported,
    Route,
    RunHook,
    SmokeTest,
    StartApplication,
    StopApplication,
    SwitchSlot,
    Verify,
)
from device_client.core.events import (
    Connected,
    DesiredReceived,
    Event,
    Facts,
    GrantReceived,
    NonceDrawn,
    Probed,
    Restoration,
    RootChanged,
    Started,
    Step,
    StepFailed,
    StepSucceeded,
    Tick,
)
from device_client.core.machine import Phase
from device_client.core.record import Record, SlotContent
from device_client.core.setup import BARE, Setup
from schemas.messages import (
    ArtifactRef,
    Desired,
    Grant,
    HealthCheck,
    ManifestRef,
    Ready,
    Reported,
    SlotName,
)
from schemas.trust import Root

CHECK = HealthCheck(interval_seconds=10, timeout_seconds=5)
COUNTERS = {"1.0.0": 100, "1.1.0": 110, "1.2.0": 120}
_STEPS: dict[type, Step] = {
    Fetch: Step.FETCH,
    Verify: Step.VERIFY,
    Install: Step.INSTALL,
    SmokeTest: Step.SMOKE_TEST,
    CheckSlot: Step.CHECK,
    StopApplication: Step.STOP,
    SwitchSlot: Step.SWITCH,
    StartApplication: Step.START,
    AwaitAnswer: Step.ANSWER,
    Route: Step.ROUTE,
    Drain: Step.DRAIN,
}
E = TypeVar("E")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_desired(generation: int, version: str = "1.1.0", **changes: Any) -> Desired:
    values: dict[str, Any] = {
        "generation": generation,
        "epoch": 1,
        "rollout": "r-1",
        "wave": "canary",
        "action": "install",
        "release": f"app-{version}",
        "version": version,
        "manifest": ManifestRef(sha256=digest(f"manifest {version}"), size_bytes=1, urls=("http://x/m",)),
        "artifact": ArtifactRef(sha256=digest(f"artifact {version}"), size_bytes=1, arch="noarch", sources=()),
        "health_check": CHECK,
        "min_ready_seconds": 60.0,
        "progress_deadline_seconds": 300.0,
        "commit_on": "local_health",
    }
    return Desired(**{**values, **changes})


def make_content(version: str) -> SlotContent:
    return SlotContent(
        release=f"app-{version}",
        version=version,
        manifest_sha256=digest(f"manifest {version}"),
        release_counter=COUNTERS[version],
        command=("app",),
        health_check=CHECK,
        tree_digest=digest(f"tree {version}"),
    )


@dataclass
class Bench:
    """One device with a disk, a link and an application; ``send`` performs what the core says."""

    now: float = 1000.0
    boot_id: str = "boot-1"
    link: SlotName | None = "blue"
    disk: dict[SlotName, SlotContent] = field(default_factory=lambda: {"blue": make_content("1.0.0")})
    alive: set[SlotName] = field(default_factory=set)
    routed: SlotName | None = None
    setup: Setup = BARE
    restoration: Restoration | None = None
    root: Root | None = None
    record: Record = field(default_factory=Record)
    answers: bool = True
    failures: dict[Step, StepFailed] = field(default_factory=dict)
    log: list[Effect] = field(default_factory=list)
    grant_seq: int = 0
    nonce_count: int = 0
    clock: float | None = None

    def __post_init__(self) -> None:
        self.device = Device("pi-1", setup=self.setup)

    # The shell.

    def send(self, *events: Event) -> list[Effect]:
        queue, performed = list(events), []
        while queue:
            self.device, effects = advance(self.device, queue.pop(0), self.now)
            for effect in effects:
                performed.append(effect)
                self.log.append(effect)
                queue.extend(self.perform(effect))
        return performed

    def perform(self, effect: Effect) -> Iterable[Event]:
        match effect:
            case Persist(record):
                self.record = record
            case DrawNonce(step):
                self.nonce_count += 1
                return [NonceDrawn(f"{self.nonce_count:032x}", step, self.clock)]
            case _ if type(effect) in _STEPS or isinstance(effect, RunHook):
                return self.answer(effect) if self.answers else []
        return []

    def answer(self, effect: Any) -> list[Event]:
        step = effect.hook if isinstance(effect, RunHook) else _STEPS[type(effect)]
        if step in self.failures:
            failure = self.failures[step]
            return [StepFailed(step, effect.ticket, failure.code, failure.message, failure.retryable)]
        content = None
        match effect:
            case Verify(_, source) if self.root and self.root.revokes(source.release, COUNTERS[source.version]):
                return [StepFailed(step, effect.ticket, ErrorCode.REVOKED, "revoked")]
            case Install(_, source, slot):
                assert slot != self.link, "what serves is never written"
                proven_under = 0 if self.root is None else self.root.version
                content = make_content(source.version).model_copy(update={"root_version": proven_under})
                self.disk[slot] = content
            case SwitchSlot(_, slot):
                self.link = slot
            case StopApplication(_, keep):
                self.alive = {slot for slot in self.alive if slot == keep}
            case StartApplication(_, slot):
                assert slot in self.disk, "only what is verified serves"
                assert self.setup.has_router or self.alive <= {slot}, "without a router there is one at a time"
                self.alive.add(slot)
            case AwaitAnswer(_, slot):
                assert slot in self.alive, "only what was started answers"
            case Route(_, slot):
                self.routed = slot
        return [StepSucceeded(step, effect.ticket, content)]

    # What a test says.

    def start(self, *, connected: bool = True) -> list[Effect]:
        self.device = Device("pi-1", setup=self.setup)
        facts = Facts(self.boot_id, self.link, dict(self.disk), self.running, self.restoration, self.root)
        effects = self.send(Started(self.record, facts))
        return [*effects, *self.send(Connected())] if connected else effects

    def reboot(self, **start: Any) -> list[Effect]:
        self.boot_id += "+"
        self.now = 5.0
        self.running = None
        return self.start(**start)

    def order(self, generation: int, version: str = "1.1.0", **changes: Any) -> list[Effect]:
        desired = make_desired(generation, version, **changes)
        return self.send(DesiredReceived(desired, digest(desired.model_dump_json())))

    def learn(self, root: Root) -> list[Effect]:
        self.root = root
        return self.send(RootChanged(root))

    def fail(self, step: Step, code: ErrorCode, *, retryable: bool = False) -> None:
        self.failures[step] = StepFailed(step, 0, code, f"{step} failed", retryable)

    def make_grant(self, ready: Ready, decision: str = "go", **changes: Any) -> Grant:
        self.grant_seq += 1
        values: dict[str, Any] = {
            "device": "pi-1",
            "generation": ready.generation,
            "step": ready.step,
            "epoch": 1,
            "seq": self.grant_seq,
            "nonce": ready.nonce,
            "decision": decision,
            "desired_sha256": self.device.record.desired_sha256,
            "ttl_seconds": 120.0,
            "server_time": "2026-11-23T10:00:00Z",
        }
        return Grant(**{**values, **changes})

    def grant(self, decision: str = "go", **changes: Any) -> list[Effect]:
        return self.send(GrantReceived(self.make_grant(self.question, decision, **changes)))

    def probe(self, *, ok: bool = True, version: str | None = None, seconds: float = 10.0) -> list[Effect]:
        self.now += seconds
        serving = self.device.record.serving
        return self.send(Probed(ok, version or (serving.version if serving else None)))

    def probe_for(self, seconds: float, *, ok: bool = True) -> list[Effect]:
        return [effect for _ in range(round(seconds / 10)) for effect in self.probe(ok=ok)]

    def wait(self, seconds: float) -> list[Effect]:
        self.now += seconds
        return self.send(Tick())

    # What a test looks at.

    def phase(self) -> Phase:
        return self.device.phase

    @property
    def running(self) -> SlotName | None:
        """What runs and serves, or else something that runs."""
        return self.link if self.link in self.alive else next(iter(self.alive), None)

    @running.setter
    def running(self, slot: SlotName | None) -> None:
        self.alive = set() if slot is None else {slot}

    @property
    def reached(self) -> str | None:
        """The version that clients reach through the router."""
        return self.disk[self.routed].version if self.routed in self.alive and self.routed in self.disk else None

    @property
    def question(self) -> Ready:
        return self.last(PublishReady).ready

    @property
    def reported(self) -> Reported:
        return self.last(PublishReported).reported

    @property
    def error_code(self) -> str | None:
        error = self.device.record.error
        return error.code if error else None

    @property
    def version(self) -> str | None:
        content = self.disk.get(self.running) if self.running else None
        return content.version if content else None

    def all(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.log if isinstance(effect, kind)]

    def last(self, kind: type[E]) -> E:
        return self.all(kind)[-1]

    def events(self) -> list[str]:
        return [effect.kind.value for effect in self.all(PublishEvent)]

    # Where a test begins.

    def started(self) -> "Bench":
        self.start()
        return self

    def ready(self, generation: int = 1, **changes: Any) -> "Bench":
        self.started().order(generation, **changes)
        assert self.phase() is Phase.READY
        return self

    def on_trial(self, **changes: Any) -> "Bench":
        self.ready(**changes).grant()
        assert self.phase() is Phase.TRIAL
        return self

    def committed(self, **changes: Any) -> "Bench":
        self.on_trial(**changes).probe_for(90)
        assert self.phase() is Phase.IDLE
        return self

"""One device of a storm as values in and values out: the device's side of the whole install conversation.

It fetches and starts nothing: an install and a trial are times that pass. Which grants it accepts is the device
client's own rule; how it asks, repeats and reports is written anew. What it has done survives a lost connection, as a
real device's record does, and is what the campaign counts.
"""

import hashlib
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from device_client.adapters.mqtt import SUBSCRIPTIONS
from device_client.core.asking import PATIENCE_SECONDS, PATIENCE_SECONDS_MAX, WAIT_SECONDS, WAIT_SECONDS_MIN
from device_client.core.grant import Question, judge_grant
from device_client.core.record import Marks
from schemas.codec import decode, encode
from schemas.dsse import GRANT_TYPE, unseal
from schemas.messages import Desired, Grant, HealthSample, Info, Ready, Reported, Sync
from schemas.topics import RULES, Kind, TopicTree

OLD_VERSION: Final = "1.0.0"
TREE: Final = TopicTree()
NEVER: Final = math.inf


class Said(NamedTuple):
    """One message of a device."""

    kind: Kind
    payload: bytes


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take, in seconds; each device draws its own from the ranges.

    Attributes:
        health: Between two samples.
        install: From an order until the new version could be activated.
        trial: From the switch until the new version has shown itself.
    """

    health: float = 5.0
    install: tuple[float, float] = (0.2, 2.0)
    trial: tuple[float, float] = (0.5, 2.0)


@dataclass
class Deeds:
    """What a device has done since the beginning, whatever connections it lost.

    Attributes:
        installs: Generations whose install it has begun.
        activations: Generation and version of each switch.
        commits: Generations that it committed.
        used: How many grants it acted on, by generation and step.
        nonces: Those of them.
        goes: Numbers of the goes that answered each question; one that the broker delivers again has the same.
        refused: Grants that it did not accept, by reason.
        unanswered: Questions that it repeated because nobody answered while it was connected.
        questions: How many it asked.
        samples: How many it sent.
    """

    installs: list[int] = field(default_factory=list)
    activations: list[tuple[int, str]] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)
    used: Counter[tuple[int, str]] = field(default_factory=Counter)
    nonces: list[str] = field(default_factory=list)
    goes: dict[str, set[int]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    questions: int = 0
    samples: int = 0


class LightDevice:
    """A device; all moments are seconds of one clock that never falls.

    Args:
        name: Its id.
        command_key: Whose grants it believes.
        pace: How long things take it.
        rng: Draws them, and nonces.
    """

    def __init__(self, name: str, command_key: bytes, pace: Pace, rng: random.Random) -> None:
        self.name = name
        self.deeds = Deeds()
        self.version, self.previous = OLD_VERSION, "0.9.0"
        self.state = "idle"
        self.subscriptions = [
            (TREE.build(kind, **self._ids(kind)), RULES[kind].qos) for kind in SUBSCRIPTIONS if kind is not Kind.TRUST
        ]
        self._topics = {kind: TREE.build(kind, **self._ids(kind)) for kind in _SPOKEN}
        self._command_key, self._pace, self._rng = command_key, pace, rng
        self._is_connected = False
        self._order: Desired | None = None
        self._digest = ""
        self._marks = Marks()
        self._question: Question | None = None
        self._asked_count = 0
        self._report_seq = self._requests = 0
        self._health_at = NEVER
        self._report_at = self._work_at = self._ask_at = NEVER

    def topic(self, kind: Kind) -> str:
        """Return where it says something."""
        return self._topics[kind]

    @property
    def next_at(self) -> float:
        """When something is due by time."""
        if not self._is_connected:
            return self._work_at
        return min(self._work_at, self._ask_at, self._report_at, self._health_at)

    def connected(self, now: float) -> list[Said]:
        """A session is up and its subscriptions are granted."""
        self._is_connected, self._asked_count = True, 0
        self._health_at = now + self._rng.random() * self._pace.health
        self._question, self._report_at = None, NEVER
        if self._wanted() is not None:
            self._ask_at = now
        return [Said(Kind.AVAILABILITY, b"online"), self._info(), self._report()]

    def lost(self) -> None:
        """The session is gone; work goes on."""
        self._is_connected = False

    def hear(self, topic: str, payload: bytes, now: float) -> list[Said]:
        """Take a message."""
        kind = topic.rpartition("/")[2]
        if kind == "desired" and payload:
            return self._obey(decode(Desired, payload), hashlib.sha256(payload).hexdigest(), now)
        if kind == "grant":
            grant = Grant.model_validate_json(unseal(GRANT_TYPE, payload, [self._command_key]))
            return self._take(grant, now)
        if kind == "availability" and payload == b"offline":
            return [Said(Kind.AVAILABILITY, b"online")]  # A late will that overtook what we said.
        if kind == "sync":
            self._report_at = now + self._rng.random() * decode(Sync, payload).spread_seconds
        return []

    def advance(self, now: float) -> list[Said]:
        """Do what is due."""
        said: list[Said] = []
        if self._work_at <= now:
            said += self._finish(now)
        if not self._is_connected:
            return []
        if self._ask_at <= now:
            said += self._ask(now)
        if self._report_at <= now:
            self._report_at = NEVER
            said += [self._info(), self._report()]
        if self._health_at <= now:
            self._health_at = max(self._health_at + self._pace.health, now)
            said.append(self._sample())
        return said

    def _obey(self, order: Desired, digest: str, now: float) -> list[Said]:
        known = -1 if self._order is None else self._order.generation
        if order.generation < known or digest == self._digest:
            return []
        is_new = order.generation > known
        self._order, self._digest, self._question = order, digest, None
        if not is_new:  # The same order in other bytes: what it asks for is bound to those.
            self._ask_at = now if self._wanted() is not None else NEVER
            return []
        self._work_at = self._ask_at = NEVER
        if order.action == "hold" or order.version == self.version:
            self.state = "idle"
            return [self._report()]
        self.state = "downloading"
        if order.action == "install":
            self.deeds.installs.append(order.generation)
        self._work_at = now + self._rng.uniform(*self._pace.install)
        return [self._report()]

    def _finish(self, now: float) -> list[Said]:
        self._work_at = NEVER
        if self.state == "downloading":
            self.state, self._ask_at = "ready", now
            return [self._report()]
        order = self._order
        assert order is not None, "only an order gives work"
        if order.action == "rollback" or order.commit_on == "local_health":
            return self._commit()
        self._ask_at = now
        return []

    def _wanted(self) -> str | None:
        if self.state == "ready":
            return "activate"
        return "commit" if self.state == "trial" and self._work_at == NEVER else None

    def _ask(self, now: float) -> list[Said]:
        step = self._wanted()
        if step is None or self._order is None:
            self._ask_at = NEVER
            return []
        self.deeds.unanswered += self._question is not None
        self.deeds.questions += 1
        nonce = self._rng.randbytes(16).hex()
        ready = Ready.model_validate({"generation": self._order.generation, "step": step, "nonce": nonce})
        self._question = Question(ready.step, nonce, now)
        patience = min(PATIENCE_SECONDS * 2 ** min(self._asked_count, 8), PATIENCE_SECONDS_MAX)
        self._ask_at = now + patience * self._rng.uniform(0.75, 1.25)
        self._asked_count += 1
        return [Said(Kind.READY, encode(ready))]

    def _take(self, grant: Grant, now: float) -> list[Said]:
        if grant.decision == "go":
            self.deeds.goes.setdefault(grant.nonce, set()).add(grant.seq)
        order = self._order
        refusal = judge_grant(
            grant, device=self.name, question=self._question, marks=self._marks,
            generation=-1 if order is None else order.generation, desired_sha256=self._digest,
            busy=self.state == "downloading", now=now,
        )  # fmt: skip
        if refusal is not None or order is None:
            self.deeds.refused[str(refusal)] += 1
            return []
        self._marks = Marks(epoch=grant.epoch, seq=grant.seq, generation=max(self._marks.generation, grant.generation))
        self._question, self._asked_count, self._ask_at = None, 0, NEVER
        if grant.decision == "wait":
            seconds = max(WAIT_SECONDS_MIN, grant.retry_after_seconds or WAIT_SECONDS)
            self._ask_at = now + seconds * self._rng.uniform(1.0, 1.1)
            return []
        self.deeds.used[grant.generation, grant.step] += 1
        self.deeds.nonces.append(grant.nonce)
        if grant.step == "commit":
            return self._commit()
        self.deeds.activations.append((order.generation, order.version))
        self.version, self.previous, self.state = order.version, self.version, "trial"
        self._work_at = now + self._rng.uniform(*self._pace.trial)
        return [self._report()]

    def _commit(self) -> list[Said]:
        assert self._order is not None, "only an order is committed"
        self.deeds.commits.append(self._order.generation)
        self.state = "idle"
        return [self._report()]

    def _info(self) -> Said:
        info = Info(
            session=1, boot_id="b", agent="storm/1", device_type="storm", arch="noarch", region="here", group="storm",
            version=self.version,
        )  # fmt: skip
        return Said(Kind.INFO, encode(info))

    def _report(self) -> Said:
        self._report_seq += 1
        reported: dict[str, Any] = {
            "observed_generation": 0 if self._order is None else self._order.generation, "seq": self._report_seq,
            "state": self.state, "installed_version": self.version, "previous_version": self.previous, "boot_id": "b",
        }  # fmt: skip
        return Said(Kind.REPORTED, encode(Reported.model_validate(reported)))

    def _sample(self) -> Said:
        self.deeds.samples += 1
        self._requests += 100
        sample = HealthSample(
            seq=self.deeds.samples, boot_id="b", version=self.version, requests_total=self._requests, errors_total=0,
            restarts_total=0, healthy=True, endpoint_up=True,
        )  # fmt: skip
        return Said(Kind.HEALTH, encode(sample))

    def _ids(self, kind: Kind) -> dict[str, str]:
        return {"device": self.name} if "{device}" in RULES[kind].pattern else {}


_SPOKEN: Final = (Kind.AVAILABILITY, Kind.INFO, Kind.REPORTED, Kind.READY, Kind.HEALTH)

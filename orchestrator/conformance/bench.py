"""Where one device is put to the test: orders, answers, and waiting for what it says to them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.adapters import clock
from orchestrator.conformance.depot import Depot
from orchestrator.conformance.link import Link
from orchestrator.conformance.transcript import RESTING, Entered, Phase, Served, Transcript
from orchestrator.core.releases import StoredRelease
from schemas.codec import encode
from schemas.dsse import GRANT_TYPE, seal
from schemas.manifest import NOARCH
from schemas.messages import Action, ArtifactRef, Desired, Grant, HealthCheck, ManifestRef, Ready, Reported, Step
from schemas.times import format_timestamp
from schemas.topics import Kind

_GRANT_SECONDS: Final = 120.0
_SWITCH_SECONDS_MIN: Final = 10.0
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Terms:
    """How the device is put to the test.

    Attributes:
        store: The release store.
        old: What the device runs before and after.
        new: What it installs meanwhile.
        timeout_seconds: How long is waited for what must happen.
        quiet_seconds: How long is waited for what must not happen.
        pace_seconds: Between two health checks in orders, and the least time of a trial.
    """

    store: Path
    old: StoredRelease
    new: StoredRelease
    timeout_seconds: float = 60.0
    quiet_seconds: float = 3.0
    pace_seconds: float = 1.0


class Bench:
    """One device and the order at hand.

    Args:
        link: To its broker.
        transcript: Takes what is done.
        key: Signs grants.
        terms: What is installed, and how long is waited.
    """

    def __init__(self, link: Link, transcript: Transcript, key: Ed25519PrivateKey, terms: Terms) -> None:
        self.link, self.transcript, self.terms = link, transcript, terms
        self.depot = Depot(terms.store, self._note_served)
        self.base_url = ""
        self.generation = 0
        self.epoch = 1
        self.arch = NOARCH
        self._key = key
        self._ordered = b""
        # A clock and not a count: a device takes no number again that an earlier run has used up.
        self._seq = int(clock.now() * 1000)

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        self.transcript.entries.append(Entered(clock.now(), phase, self.generation))

    async def until(self, find: Callable[[], Found], seconds: float | None = None) -> Found | None:
        """Return what ``find`` gives as soon as it gives something; None if it does not in time."""
        return await self.link.until(find, self.terms.timeout_seconds if seconds is None else seconds)

    async def stays(self, phase: Phase) -> bool:
        """Wait for what must not happen, and say whether the old version still serves."""
        return not await self.until(lambda: self.transcript.switched(phase), self.terms.quiet_seconds)

    async def asked(self, step: Step, phase: Phase) -> Ready | None:
        """Return the last question about ``step`` in ``phase`` as soon as there is one."""

        def find() -> Ready | None:
            found = [ready for _, ready in self.transcript.questions(phase) if ready.step == step]
            return found[-1] if found else None

        return await self.until(find)

    def reports(self, phase: Phase) -> list[Reported]:
        """Return what the device reported in ``phase`` about the order at hand."""
        return [each for each in self.transcript.reports(phase) if each.observed_generation == self.generation]

    def rests(self, phase: Phase, version: str) -> bool:
        """Say whether the device has come to rest with ``version``."""
        return any(each.installed_version == version and each.state in RESTING for each in self.reports(phase))

    async def order(self, phase: Phase, action: Action, release: StoredRelease) -> None:
        """Give a new order, with which ``phase`` begins."""
        self.generation += 1
        self._ordered = encode(self._desired(action, release, self.generation))
        await self.repeat(phase)

    async def repeat(self, phase: Phase) -> None:
        """Give the order at hand again."""
        self.enter(phase)
        await self.link.publish(Kind.DESIRED, self._ordered)

    async def order_older(self, phase: Phase, release: StoredRelease) -> None:
        """Give an order that was overtaken long ago."""
        self.enter(phase)
        await self.link.publish(Kind.DESIRED, encode(self._desired("install", release, self.generation - 1)))

    async def answer(self, ready: Ready, *, key: Ed25519PrivateKey | None = None, **changes: Any) -> None:  # noqa: ANN401 - any field
        """Answer a question, with "go" unless ``changes`` say otherwise."""
        self._seq += 1
        values: dict[str, Any] = {
            "device": self.transcript.device,
            "generation": ready.generation,
            "step": ready.step,
            "epoch": self.epoch,
            "seq": self._seq,
            "nonce": ready.nonce,
            "decision": "go",
            "desired_sha256": hashlib.sha256(self._ordered).hexdigest(),
            "ttl_seconds": _GRANT_SECONDS,
            "server_time": format_timestamp(clock.now()),
        }
        grant = Grant(**{**values, **changes})
        await self.link.publish(Kind.GRANT, seal(GRANT_TYPE, encode(grant), key or self._key))

    def _desired(self, action: Action, release: StoredRelease, generation: int) -> Desired:
        manifest, artifact = self._references(release) if action == "install" else (None, None)
        pace_seconds = self.terms.pace_seconds
        return Desired(
            generation=generation,
            epoch=self.epoch,
            rollout="conformance",
            wave="canary",
            action=action,
            release=release.release,
            version=release.version,
            manifest=manifest,
            artifact=artifact,
            health_check=HealthCheck(interval_seconds=pace_seconds, success_threshold=2),
            min_ready_seconds=pace_seconds,
            progress_deadline_seconds=max(_SWITCH_SECONDS_MIN, self.terms.timeout_seconds),
        )

    def _references(self, release: StoredRelease) -> tuple[ManifestRef, ArtifactRef]:
        stored = release.artifact_for(self.arch)
        assert stored is not None, "a release that the device cannot run is refused before"
        return stored.references((self.base_url,))

    def _note_served(self, sha256: str, *, is_tampered: bool) -> None:
        self.transcript.entries.append(Served(clock.now(), sha256, is_tampered))

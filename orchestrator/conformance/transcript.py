"""What was done with a device and what was seen of it, in order; everything that is judged is judged from this."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from pydantic import BaseModel

from schemas.codec import HEALTH, MESSAGE, decode
from schemas.errors import DecodeError
from schemas.messages import HealthSample, Ready, Reported
from schemas.topics import Kind


class Phase(StrEnum):
    """What the kit does, in this order; each begins with the message that its name says."""

    LISTEN = "listen"
    SYNC = "sync"
    RETAINED = "retained"
    CUT = "cut"
    OLD_ORDERED = "old_ordered"
    OLDER_ORDERED = "older_ordered"
    ORDER_REPEATED = "order_repeated"
    TAMPERED_ORDERED = "tampered_ordered"
    NEW_ORDERED = "new_ordered"
    NOT_ANSWERED = "not_answered"
    FORGED = "forged"
    OTHER_NONCE = "other_nonce"
    OTHER_ORDER = "other_order"
    OTHER_DEVICE = "other_device"
    HELD = "held"
    RELEASED = "released"
    TOLD_TO_WAIT = "told_to_wait"
    GRANTED = "granted"
    COMMITTED = "committed"
    ROLLBACK_ORDERED = "rollback_ordered"
    WATCH = "watch"


@dataclass(frozen=True, slots=True)
class Entered:
    """A phase began; ``generation`` is that of the order at hand."""

    at: float
    phase: Phase
    generation: int


@dataclass(frozen=True, slots=True)
class Heard:
    """A message on the tree.

    Attributes:
        kind: None for a topic that the contract does not know.
        kept: The broker had kept it; otherwise it was said just now.
    """

    at: float
    topic: str
    kind: Kind | None
    ids: Mapping[str, str]
    payload: bytes
    kept: bool


@dataclass(frozen=True, slots=True)
class Served:
    """Somebody fetched a file from the kit's registry."""

    at: float
    sha256: str
    tampered: bool


Entry = Entered | Heard | Served
RESTING: Final = ("idle", "rolled_back")
"""States in which a device is done with an order."""
_CHANGING: Final = ("draining", "switching", "trial")
Model = TypeVar("Model", bound=BaseModel)


@dataclass
class Transcript:
    """One run of the kit.

    Attributes:
        device: Who is judged.
        client_id: Under which it is connected, as far as the kit was told.
        old_version: Of the release that it shall come back to.
        new_version: Of the release that it shall install.
        artifact_sha256: Of the new release.
        retry_seconds: How long a "wait" said to wait.
    """

    device: str
    client_id: str
    old_version: str
    new_version: str
    artifact_sha256: str = ""
    retry_seconds: float = 1.0
    entries: list[Entry] = field(default_factory=list)

    def entered(self, phase: Phase) -> Entered | None:
        """Return when ``phase`` began; None if the kit did not come that far."""
        return next((each for each in self.entries if isinstance(each, Entered) and each.phase is phase), None)

    def window(self, phase: Phase) -> list[Heard]:
        """Return what was heard in ``phase``."""
        return [each for each in self._entries(phase) if isinstance(each, Heard)]

    def served(self, phase: Phase) -> list[Served]:
        """Return when the new release's artifact was fetched in ``phase``."""
        found = [each for each in self._entries(phase) if isinstance(each, Served)]
        return [each for each in found if each.sha256 == self.artifact_sha256]

    def heard(self) -> list[Heard]:
        """Return everything that was said during the run."""
        return [each for each in self.entries if isinstance(each, Heard) and not each.kept]

    def kept(self) -> list[Heard]:
        """Return what a broker had kept from before."""
        return [each for each in self.entries if isinstance(each, Heard) and each.kept]

    def own(self, messages: list[Heard], kind: Kind) -> list[Heard]:
        """Return those of ``messages`` that the device said, of one kind."""
        return [each for each in messages if each.kind is kind and each.ids.get("device") == self.device]

    def reports(self, phase: Phase) -> list[Reported]:
        """Return what the device reported in ``phase``."""
        return readable(Reported, self.own(self.window(phase), Kind.REPORTED))

    def questions(self, phase: Phase) -> list[tuple[Heard, Ready]]:
        """Return what the device asked in ``phase`` about the order at hand."""
        entered = self.entered(phase)
        asked = [(each, read(Ready, each)) for each in self.own(self.window(phase), Kind.READY)]
        return [(each, ready) for each, ready in asked if ready and entered and ready.generation == entered.generation]

    def switched(self, phase: Phase) -> str:
        """Say what shows in ``phase`` that the new version serves or is about to; empty if nothing does."""
        own = [each for each in self.window(phase) if each.ids.get("device") == self.device and not each.kept]
        return next((sign for each in own if (sign := _sign(self, each))), "")

    def _entries(self, phase: Phase) -> list[Entry]:
        found: list[Entry] = []
        inside = False
        for each in self.entries:
            if isinstance(each, Entered):
                inside = each.phase is phase
            elif inside:
                found.append(each)
        return found


def read(model: type[Model], heard: Heard) -> Model | None:
    """Return the message if it is one."""
    try:
        return decode(model, heard.payload, HEALTH if heard.kind is Kind.HEALTH else MESSAGE)
    except DecodeError:
        return None


def readable(model: type[Model], messages: list[Heard]) -> list[Model]:
    """Return all that can be read."""
    return [found for each in messages if (found := read(model, each)) is not None]


def _sign(transcript: Transcript, heard: Heard) -> str:
    match heard.kind:
        case Kind.REPORTED:
            reported = read(Reported, heard)
            if reported and (reported.state in _CHANGING or reported.installed_version == transcript.new_version):
                return f"it reported {reported.state} with {reported.installed_version}"
        case Kind.READY:
            asked = read(Ready, heard)
            return "it asked to commit" if asked and asked.step == "commit" else ""
        case Kind.HEALTH:
            sample = read(HealthSample, heard)
            return f"a sample of {sample.version}" if sample and sample.version == transcript.new_version else ""
    return ""

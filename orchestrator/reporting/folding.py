"""What a report is made from while the journal is read: the rollout's state with its times."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.reporting.entries import Body, UnreadableEntryError
from orchestrator.reporting.model import Activity, Approval, Decision, Evaluation, Rollback, Span, Stop, Verification

_ACTIVITIES: Final[Mapping[str, Activity]] = {
    "staging": "waiting",
    "deploying": "progressing",
    "soaking": "soaking",
    "awaiting_approval": "waiting",
    "awaiting_devices": "waiting",
    "paused": "waiting",
    "halted": "waiting",
    "rolling_back": "rolling_back",
    "frozen": "frozen",
}


@dataclass(slots=True)
class WaveFold:
    """What is known of a wave beside its members."""

    name: str
    started_at: float | None = None
    soak_started_at: float | None = None
    ended_at: float | None = None
    soaked_seconds: float = 0.0
    extensions: int = 0


@dataclass(slots=True)
class RollbackFold:
    """A rollback while its devices return."""

    order: dict[str, Any]
    devices: tuple[str, ...]
    ordered_at: float | None = None
    back: dict[str, float] = field(default_factory=dict)
    verification: Verification | None = None

    def finished(self) -> Rollback:
        """Return it as it stands."""
        return Rollback(
            **self.order,
            devices=self.devices,
            ordered_at=self.ordered_at,
            back=len(self.back),
            last_back_at=max(self.back.values(), default=None),
            not_back=tuple(name for name in self.devices if name not in self.back),
            verification=self.verification,
        )


@dataclass(slots=True)
class Folded:
    """One rollout, as far as the journal was read.

    Attributes:
        started: The body of the start; None while there was none.
        phase: Where the rollout is; pauses and freezes lie over it.
        devices: The fields of each target's row.
        places: Type, region and group of every device of the fleet.
    """

    started: Body | None = None
    started_at: float = 0.0
    ended_at: float | None = None
    ended_by: str = ""
    ended_reason: str = ""
    phase: str = "deploying"
    activated_at: float | None = None
    activated_by: str = ""
    staged: set[str] | None = None
    """Devices that had the release ready before the rollout was activated; None where nothing is staged."""
    halted_from: str = "deploying"
    is_paused: bool = False
    is_frozen: bool = False
    wave: int = 0
    waves: list[WaveFold] = field(default_factory=list)
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: dict[str, dict[str, str]] = field(default_factory=dict)
    quarantines: dict[str, str] = field(default_factory=dict)
    media: dict[str, str] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    span_since: float = 0.0
    evaluations: list[Evaluation] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    approvals: list[Approval] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    rollbacks: list[RollbackFold] = field(default_factory=list)
    restarts: int = 0

    @property
    def is_running(self) -> bool:
        """Whether it has started and not ended."""
        return self.started is not None and self.ended_at is None

    @property
    def shown_phase(self) -> str:
        """The phase with what lies over it: nothing holds up a rollback, and a halt is more than a pause."""
        if self.phase not in _ACTIVITIES or self.phase == "rolling_back":
            return self.phase
        if self.is_frozen:
            return "frozen"
        return "paused" if self.is_paused and self.phase != "halted" else self.phase

    def end_span(self, at: float, phase: str, wave: int) -> None:
        """Note what the time since the last span was spent on."""
        if phase in _ACTIVITIES and at > self.span_since:
            span = Span(activity=_ACTIVITIES[phase], phase=phase, wave=wave, start=self.span_since, end=at)
            self.spans.append(span)
        self.span_since = at

    def end_wave(self, at: float) -> None:
        """Note when the current wave's time was over."""
        current = self.waves[self.wave]
        if current.started_at is not None and current.ended_at is None:
            current.ended_at = at

    def wave_of(self, body: Body) -> WaveFold:
        """Return the wave an entry names."""
        number = int(body.number("wave"))
        if not 0 <= number < len(self.waves):
            raise UnreadableEntryError(f"the plan has no wave {number}")
        return self.waves[number]

    def join(self, wave: int, devices: Iterable[str]) -> None:
        """Add targets to a wave."""
        for device in devices:
            self.devices[device] = {
                "device": device,
                "wave": wave,
                "progress": "pending",
                "attempts": 0,
                "quarantine": self.quarantines.get(device, ""),
                "media": self.media.get(device, ""),
                **self.places.get(device, {}),
            }

    def row(self, device: str) -> dict[str, Any]:
        """Return a target's row."""
        if device not in self.devices:
            raise UnreadableEntryError(f"{device} is no target")
        return self.devices[device]

    def rollback_of(self, device: str) -> RollbackFold | None:
        """Return the last rollback that ordered ``device`` back."""
        return next((each for each in reversed(self.rollbacks) if device in each.devices), None)

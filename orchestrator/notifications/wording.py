"""The words of a notification: what, why with the numbers, who, and what to type next."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from orchestrator.core.explanation import choices
from orchestrator.notifications.notification import DEVICES_SHOWN_MAX, Trigger
from schemas.documents import GateResult, StatusDocument

TITLE_MAX: Final = 256
TEXT_MAX: Final = 4096
_PART_MAX: Final = 600
_CHECKS_SHOWN_MAX: Final = 6
_NEXT_MAX: Final = 6
_ASKED: Final = ("approve", "reject")
_PHASES: Final[Mapping[str, str]] = {
    "halted": "has halted", "rolling_back": "is being rolled back", "rolled_back": "is rolled back",
    "completed": "is complete", "aborted": "was aborted", "superseded": "was superseded by a newer rollout",
}  # fmt: skip


def one_line(text: object, limit: int = _PART_MAX) -> str:
    """Return ``text`` on one line, bounded, with every control and format character escaped: devices choose words."""
    told = str(text)
    whole = told if len(told) <= limit else told[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in whole)


def names(devices: Sequence[str], count: int) -> str:
    """Write the first devices and how many more there are."""
    shown = devices[:DEVICES_SHOWN_MAX]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return ", ".join(shown) + more


def title_of(trigger: Trigger, status: StatusDocument, wave: str | None) -> str:
    """Return the one line about a rollout."""
    match trigger:
        case Trigger.STARTED:
            said = f"was started: {status.release}"
        case Trigger.WAVE_COMPLETED:
            said = f"{wave} is done"
        case Trigger.AWAITING_APPROVAL:
            said = f"awaits approval after {wave}"
        case Trigger.BLOCKED:
            count = status.blocking_devices
            said = f"waits for {count} {'device' if count == 1 else 'devices'} not seen to be healthy"
        case Trigger.CAUTION:
            said = f"caution at {wave}"
        case _:
            said = _PHASES.get(status.phase, status.phase) + (f" at {wave}" if wave else "")
    return one_line(f"{status.rollout} {said}", TITLE_MAX)


def text_of(
    status: StatusDocument, gate: tuple[str, GateResult] | None, failures: Iterable[str], order: str | None
) -> str:
    """Say where a rollout is and why.

    Args:
        status: As it is now.
        gate: The wave and the verdict that matter here.
        failures: Devices that failed lately, each with why.
        order: Which devices go back and why; None if none do.
    """
    return "\n".join(_lines(status, gate, failures, order))[:TEXT_MAX]


def _lines(
    status: StatusDocument, gate: tuple[str, GateResult] | None, failures: Iterable[str], order: str | None
) -> Iterator[str]:
    done, failed, offline = (
        sum(getattr(each, name) for each in status.waves) for name in ("done", "failed", "offline")
    )
    total = sum(wave.devices for wave in status.waves)
    yield one_line(
        f"{status.release} (version {status.version}), started by {status.started_by}: "
        f"{done} of {total} devices done, {failed} failed, {offline} offline."
    )
    if status.reasons:
        yield "Why: " + "; ".join(one_line(reason) for reason in status.reasons)
    if gate is not None:
        yield _gate_line(*gate)
    if order is not None:
        yield one_line(order)
    told = [one_line(each) for each in failures]
    if told:
        yield "Failed lately: " + "; ".join(told)


def _gate_line(wave: str, gate: GateResult) -> str:
    bad = [each for each in gate.checks if each.verdict != "pass" and not each.dry_run]
    shown = (bad or [each for each in gate.checks if not each.dry_run])[:_CHECKS_SHOWN_MAX]
    whys = "; ".join(f"{one_line(each.check)}: {one_line(each.why)}" for each in shown)
    return f"{gate.gate} after {wave}, on {gate.devices} devices: {gate.verdict}, {gate.decision.replace('_', ' ')}" + (
        f": {whys}" if whys else ""
    )


def commands_of(status: StatusDocument, wave: str | None) -> tuple[str, ...]:
    """Return what a person may type; a decision about a wave is bound to it."""
    typed = [choice.command for choice in choices(status.rollout, status.allowed)]
    bound = [f"{each} --wave {wave}" if wave and each.split()[1] in _ASKED else each for each in typed]
    return (*bound[:_NEXT_MAX], f"tidegate explain {status.rollout}")

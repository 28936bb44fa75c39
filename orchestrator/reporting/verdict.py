"""The verdict on a rollout in one or two plain sentences."""

from collections.abc import Mapping

from orchestrator.reporting.folding import Folded
from orchestrator.reporting.model import Rollback
from orchestrator.reporting.words import check_text, count_text, moment_text, seconds_text, visible

_UPDATED = ("committed", "proven")


def verdict_sentence(fold: Folded, version: str, counts: Mapping[str, int], rollbacks: tuple[Rollback, ...]) -> str:
    """Say how the rollout ended or where it is, why, and what runs where."""
    place = _place(fold.waves[fold.wave].name)
    targets = sum(counts.values())
    updated = sum(counts.get(progress, 0) for progress in _UPDATED)
    runs = f"{_share(updated, targets)} {'run' if updated != 1 else 'runs'} {visible(version, 80)}"
    stops = [each for each in rollbacks if each.scope != "device"]
    stop = stops[-1] if stops else None
    began = moment_text(fold.span_since)
    match fold.shown_phase:
        case "completed" | "finished":
            took = seconds_text((fold.ended_at or fold.started_at) - fold.started_at)
            return f"{fold.phase.capitalize()}: {runs} after {count_text(len(fold.waves), 'wave')} in {took}."
        case "rolled_back" | "rolling_back" if stop is not None:
            return f"{_why_back(stop, place)} {_back(stop)}"
        case "halted" if stop is not None and fold.halted_from == "rolling_back":
            return f"{_why_back(stop, place)} {_back(stop)} The rest waits for a person; {runs}."
        case "halted":
            return f"Halted {place}: {_sentence(fold.stops[-1].reason)} It waits for a person; {runs}."
        case "aborted":
            return f"Aborted {place} by {visible(fold.ended_by, 80)}: {_sentence(fold.ended_reason)} {runs}."
        case "staging":
            return f"Fetched and installed ahead on {_share(len(fold.staged or ()), targets)}; not activated."
        case "awaiting_approval":
            return f"Waits for approval {place} since {began}; {runs}."
        case "paused" | "frozen" as phase:
            return f"{phase.capitalize()} {place} since {began}; {runs}."
        case phase if fold.ended_at is not None:
            return f"{visible(phase, 80).capitalize()}: {_sentence(fold.ended_reason)} {runs}."
        case phase:
            return f"{phase.capitalize()} {place}; {runs}."


def _place(wave: str) -> str:
    return f"at {'the canary' if wave == 'canary' else wave}"


def _share(part: int, whole: int) -> str:
    return f"all {count_text(whole, 'device')}" if part == whole else f"{part:,} of {count_text(whole, 'device')}"


def _why_back(stop: Rollback, place: str) -> str:
    if stop.by != "orchestrator":
        return f"Brought back {place} by {visible(stop.by, 80)}: {_sentence(stop.reason)}"
    failing = [check for check in stop.evidence if check.verdict == "fail"]
    return f"Stopped {place}: {_sentence(check_text(failing[0]) if failing else stop.reason)}"


def _back(stop: Rollback) -> str:
    if not stop.devices:
        return "No device had to be brought back."
    if stop.last_back_at is None:
        return f"{count_text(len(stop.devices), 'device')} were ordered back, none has said that it is back."
    took = seconds_text(stop.last_back_at - stop.at)
    whole = count_text(len(stop.devices), "device")
    are = "was" if stop.back == 1 else "were"
    if stop.not_back:
        return f"{stop.back:,} of {whole} {are} brought back in {took}; {len(stop.not_back):,} not yet."
    return f"{whole} {are} brought back in {took}."


def _sentence(text: str) -> str:
    shown = visible(text) or "no reason given"
    return shown if shown.endswith((".", "!", "?", "…")) else shown + "."

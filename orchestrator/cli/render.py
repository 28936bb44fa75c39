"""The screen of ``tidegate watch``: a pure function from documents to something rich can print."""

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.checks import check_table, reasons_of
from orchestrator.cli.documents import Documents
from orchestrator.cli.phases import VERDICT_MARKS, look_of, phase_words
from orchestrator.cli.quantities import ago, clock, time_of_day
from orchestrator.cli.steps import next_steps
from orchestrator.cli.terminal import words
from schemas.documents import GateResult, StatusDocument, WaveStatus
from schemas.times import parse_timestamp

EVENTS_SHOWN: Final = 5
WAVES_SHOWN: Final = 12
_STALE_SECONDS: Final = 60.0
_NARROW: Final = 100
"""Below so many columns, explanations that repeat the numbers are left out."""
_WAVE_COLUMNS: Final = ("WAVE", "DEVICES", "DONE", "HEALTHY", "FAILED", "OFFLINE", "SOAK LEFT", "GATE")
_NEEDS: Final = {"DEVICES": _NARROW, "HEALTHY": 80, "OFFLINE": 80}
"""From how many columns on there is room for what can be done without."""


def render_watch(documents: Documents, now: float, width: int) -> RenderableType:
    """Show where a rollout is, how it does, and what to type next.

    Args:
        documents: As seen so far.
        now: Seconds since the epoch, of the reader.
        width: Columns of the terminal.
    """
    status = documents.status
    if status is None:
        return Group(*_banners(documents, now), words(f"waiting for the status of {documents.rollout} …", "dim"))
    gate = _current_gate(documents, status)
    parts: list[RenderableType] = [_title(status), _second_line(status, now), *_banners(documents, now)]
    parts += [_bar(status, width), Text(""), _wave_table(documents, status, width)]
    if gate is not None:
        parts += [Text(""), *_gate(*gate, now, width)]
    if documents.events:
        parts += [Text(""), _events(documents)]
    return Group(*parts, Text(""), next_steps(status))


def _title(status: StatusDocument) -> Text:
    look = look_of(status)
    name = status.release.removesuffix(f"-{status.version}")
    versions = list(status.from_versions)
    before = f"{versions[0]} → " if len(versions) == 1 else f"{len(versions)} versions → " if versions else ""
    title = words(f"{status.rollout}  {name} {before}{status.version}   ", "bold")
    phase = phase_words(status.phase).upper() + (" (PAUSED)" if status.paused and look.ending is None else "")
    wave = (
        f" after {status.wave}" if status.phase == "awaiting_approval" else f" at {status.wave}" if status.wave else ""
    )
    return title + words(f"{look.symbol} {phase}", f"bold {look.style}") + words(wave)


def _second_line(status: StatusDocument, now: float) -> Text:
    started = parse_timestamp(status.started_at)
    ended = status.ended_at and parse_timestamp(status.ended_at)
    parts = [f"started {time_of_day(status.started_at)[:5]} UTC by {status.started_by}"]
    parts.append(f"took {clock(ended - started)}" if ended else f"elapsed {clock(now - started)}")
    if status.next_decision_at:
        parts.append(f"next decision in {clock(parse_timestamp(status.next_decision_at) - now)}")
    if status.plan_digest:
        parts.append(f"plan {status.plan_digest[:12]}")
    return words("  ".join(parts), "dim")


def _banners(documents: Documents, now: float) -> list[Text]:
    """Say what makes the picture doubtful, and why the rollout is where it is."""
    status, lines = documents.status, []
    if documents.trouble:
        lines.append(words(f"⚠ {documents.trouble}", "bold red"))
    if documents.orchestrator == "offline":
        age = f"; below is what it said {ago(status.ts, now)} ago" if status else ""
        lines.append(words(f"⚠ the orchestrator is offline: nothing is decided, devices wait{age}", "bold red"))
    if status is None:
        return lines
    if status.frozen:
        lines.append(words("⚠ frozen: so many devices fell silent that nothing is decided", "bold red"))
    style = look_of(status).style
    lines += [words(f"why: {reason}", style) for reason in status.reasons if not reason.startswith("soaked ")]
    return lines


def _bar(status: StatusDocument, width: int) -> Text:
    total = sum(wave.devices for wave in status.waves) or status.counts.get("total", 0)
    done, healthy, failed, offline = (
        sum(getattr(wave, name) for wave in status.waves) for name in ("done", "healthy", "failed", "offline")
    )
    head = f"Fleet  {done}/{total} deployed "
    tail = f" healthy {healthy}  unknown {max(0, done - healthy)}  failed {failed}  offline {offline}"
    cells = max(8, min(40, width - len(head) - len(tail) - 2))
    good = cells * done // total if total else 0
    bad = min(cells - good, -(-cells * failed // total)) if total else 0
    bar = Text("▕").append("█" * good, "green").append("█" * bad, "red").append("░" * (cells - good - bad), "dim")
    return words(head, "bold") + bar.append("▏") + words(tail, "red" if failed else "")


def _wave_table(documents: Documents, status: StatusDocument, width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    columns = [name for name in _WAVE_COLUMNS if width >= _NEEDS.get(name, 0)]
    for name in columns:
        is_text = name in {"WAVE", "GATE"}
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text or width < _NARROW)
    total = sum(wave.devices for wave in status.waves)
    for wave in _shown(status.waves, status.wave):
        if wave is None:
            table.add_row(words("  …", "dim"))
            continue
        share = f" ({100 * wave.devices / total:.0f}%)" if total and width >= _NARROW else ""
        begun = wave.state != "waiting"
        cells: dict[str, RenderableType] = {
            "WAVE": _wave_name(wave, status),
            "DEVICES": f"{wave.devices}{share}",
            "DONE": f"{wave.done}/{wave.devices}",
            "HEALTHY": str(wave.healthy) if begun else "-",
            "FAILED": words(wave.failed if begun else "-", "bold red" if wave.failed else ""),
            "OFFLINE": words(wave.offline, "yellow" if wave.offline else ""),
            "SOAK LEFT": clock(wave.soak_required_seconds - wave.soaked_seconds) if wave.state != "done" else "-",
            "GATE": _gate_cell(documents, status, wave),
        }
        table.add_row(*(cells[name] for name in columns))
    return table


def _shown(waves: Sequence[WaveStatus], current: str | None) -> list[WaveStatus | None]:
    """Return the waves around the current one; None stands for those that are left out."""
    if len(waves) <= WAVES_SHOWN:
        return list(waves)
    at = next((number for number, wave in enumerate(waves) if wave.wave == current), len(waves) - 1)
    start = max(0, min(at - WAVES_SHOWN // 2, len(waves) - WAVES_SHOWN))
    end = start + WAVES_SHOWN
    return [*([None] if start else []), *waves[start:end], *([None] if end < len(waves) else [])]


def _wave_name(wave: WaveStatus, status: StatusDocument) -> Text:
    look = look_of(status)
    if wave.state == "done":
        return words(f"✔ {wave.wave}", "green")
    if wave.wave == status.wave or wave.state not in {"waiting", "done"}:
        return words(f"{look.symbol} {wave.wave}", f"bold {look.style}")
    return words(f"○ {wave.wave}", "dim")


def _gate_cell(documents: Documents, status: StatusDocument, wave: WaveStatus) -> Text:
    if wave.gate is not None:
        mark, style = VERDICT_MARKS[wave.gate]
        gate = documents.gates.get(wave.wave)
        counted = [check for check in gate.checks if not check.dry_run] if gate else []
        passed = f" ({sum(each.verdict == 'pass' for each in counted)}/{len(counted)} checks)" if counted else ""
        return words(f"{mark} {wave.gate}{passed}", style)
    follows = [each.wave for each in status.waves]
    if status.phase == "awaiting_approval" and wave.wave in follows[1:] and wave.wave == _after(follows, status.wave):
        return words("waiting for approval", "yellow")
    if wave.wave == status.wave and _asks_a_person(documents, wave):
        return words("then a person approves", "dim")
    return words("")


def _after(names: Sequence[str], current: str | None) -> str | None:
    return names[names.index(current) + 1] if current in names[:-1] else None


def _asks_a_person(documents: Documents, wave: WaveStatus) -> bool:
    policy = documents.plan.get("policy")
    canary = policy.get("rollout", {}).get("canary", {}) if isinstance(policy, dict) else {}
    return wave.wave == "canary" and canary.get("require_human_approval_after") is True


def _current_gate(documents: Documents, status: StatusDocument) -> tuple[str, GateResult] | None:
    """Return the verdict that matters now: of the current wave, else the newest."""
    if not documents.gates:
        return None
    newest = max(documents.gates, key=lambda wave: documents.gates[wave].evaluated_at)
    wave = status.wave if status.wave in documents.gates else newest
    return str(wave), documents.gates[str(wave)]


def _gate(wave: str, gate: GateResult, now: float, width: int) -> list[RenderableType]:
    mark, style = VERDICT_MARKS[gate.verdict]
    age = max(0.0, now - parse_timestamp(gate.evaluated_at))
    told = f"{gate.devices} devices, judged {ago(gate.evaluated_at, now)} ago"
    head = words(f"{gate.gate} after {wave}: ", "bold") + words(f"{mark} {gate.verdict}", f"bold {style}")
    decision = words(f", {phase_words(gate.decision)} ({told})", "yellow" if age > _STALE_SECONDS else "dim")
    return [head + decision, check_table(gate.checks, width=width), *reasons_of(gate.checks)]


def _events(documents: Documents) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for style in ("dim", "", "dim"):
        table.add_column(style=style)
    for kind, event in list(documents.events)[-EVENTS_SHOWN:]:
        who = " ".join(part for part in (event.device or event.wave, event.message) if part)
        table.add_row(time_of_day(event.ts), words(phase_words(kind)), words(who, ""))
    return table

"""From the journal's entries to the report, in one pass.

Memory is bounded by the size of the fleet and of the one rollout; entries of others are only looked at.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import TypeAdapter

from orchestrator.planning.plan import Plan
from orchestrator.reporting.audit import audit_row
from orchestrator.reporting.entries import Body, Entry, UnreadableEntryError, printable
from orchestrator.reporting.facts import KINDS
from orchestrator.reporting.folding import Folded
from orchestrator.reporting.model import (
    ORIGINS,
    AuditRow,
    BaselineRow,
    DeviceRow,
    Durations,
    Excluded,
    Header,
    Point,
    Report,
    Rollback,
    Series,
    Wave,
)
from orchestrator.reporting.verdict import verdict_sentence
from schemas.errors import FleetError

_OF_THE_FLEET = frozenset({"epoch_opened", "fleet_frozen", "fleet_thawed"})
"""Kinds that concern whatever runs at that time."""
_BASELINES: TypeAdapter[tuple[BaselineRow, ...]] = TypeAdapter(tuple[BaselineRow, ...])


class RolloutNotFoundError(FleetError):
    """The caller's fault: the journal has no such rollout. The text names the ones that are alike."""


@dataclass(frozen=True, slots=True)
class Unnamed:
    """What became of targets that no entry names, because there are too many: a simulation plays them in bulk.

    Attributes:
        counts: Of all targets, by progress.
        returned_at: When those that were ordered back said that they are back.
    """

    counts: Mapping[str, int]
    returned_at: Mapping[str, float]


def build_report(entries: Iterable[Entry], rollout: str, now: float, unnamed: Unnamed | None = None) -> Report:
    """Return the report of one rollout.

    Args:
        entries: Of the whole journal, in order; read once.
        rollout: Its id.
        now: Seconds since the epoch; where a rollout that has not ended is cut off.
        unnamed: The targets, where the entries name none; then the report has no row for a device.

    Raises:
        RolloutNotFoundError: There is no such rollout.
    """
    fold, audit = Folded(), list[AuditRow]()
    others: list[str] = []
    unread = 0
    for entry in entries:
        body = Body(entry.body)
        if entry.kind == "rollout_started":
            others.append(body.word("rollout"))
        is_read = _apply(fold, entry, body, rollout)
        if _concerns(fold, entry, body, rollout):
            audit.append(audit_row(entry, body))
            unread += not is_read
    if fold.started is None:
        raise RolloutNotFoundError(_not_found(rollout, others))
    if fold.ended_at is None:
        fold.end_span(max(now, fold.span_since), fold.shown_phase, fold.wave)
    if unnamed is not None:
        for back in fold.rollbacks:
            back.back = {name: unnamed.returned_at[name] for name in back.devices if name in unnamed.returned_at}
    return _report(fold, fold.started, rollout, tuple(audit), unread=unread, now=now, unnamed=unnamed)


def _not_found(rollout: str, others: list[str]) -> str:
    near = get_close_matches(rollout, others, n=3, cutoff=0.4) or others[-3:]
    hint = f"did you mean {', '.join(near)}?" if near else "the journal has no rollout yet"
    return f"no rollout {rollout!r}; {hint}"


def _apply(fold: Folded, entry: Entry, body: Body, rollout: str) -> bool:
    """Take one entry, and say whether it was understood."""
    handler, named = KINDS.get(entry.kind), body.word("rollout")
    if handler is None:
        return False
    is_about_another = named not in {"", rollout}
    if is_about_another or (entry.kind == "command_answered" and not _concerns(fold, entry, body, rollout)):
        return True
    if named and fold.started is None and entry.kind != "rollout_started":
        return False
    phase, wave = fold.shown_phase, fold.wave
    try:
        handler(fold, entry, body)
    except UnreadableEntryError:
        return False
    if fold.started is not None and (fold.shown_phase, fold.wave) != (phase, wave):
        fold.end_span(entry.at, phase, wave)
    return True


def _concerns(fold: Folded, entry: Entry, body: Body, rollout: str) -> bool:
    """Say whether an entry is about the rollout, or about its devices or the whole fleet in its time."""
    named, subject = body.word("rollout"), body.word("subject")
    if named or subject == rollout:
        return rollout in {named, subject}
    if fold.started is None or (fold.ended_at is not None and entry.at > fold.ended_at):
        return False
    if entry.kind in _OF_THE_FLEET:
        return True
    try:
        devices = {body.word("device") or subject} - {""} or set(body.names("devices"))
    except UnreadableEntryError:
        return entry.kind not in KINDS  # Nobody can say that it is not.
    return not devices.isdisjoint(fold.devices)


def _report(
    fold: Folded,
    started: Body,
    rollout: str,
    audit: tuple[AuditRow, ...],
    *,
    unread: int,
    now: float,
    unnamed: Unnamed | None,
) -> Report:
    devices = tuple(DeviceRow.model_validate(row) for row in fold.devices.values())
    rollbacks = tuple(each.finished() for each in fold.rollbacks)
    plan = started.mapping("plan")
    baselines = [each for each in started.mapping("baselines").values() if isinstance(each, dict)]
    counts: Mapping[str, int] = Counter[str](row.progress for row in devices) if unnamed is None else unnamed.counts
    return Report(
        header=_header(fold, started, rollout, devices, rollbacks, counts=counts, unread=unread, now=now),
        waves=_waves(fold, devices),
        spans=tuple(fold.spans),
        evaluations=tuple(fold.evaluations),
        series=_series(fold, rollbacks),
        decisions=tuple(fold.decisions),
        approvals=tuple(fold.approvals),
        stops=tuple(fold.stops),
        rollbacks=rollbacks,
        devices=devices,
        excluded=_excluded(plan.get("excluded")),
        baselines=_BASELINES.validate_python(baselines),
        policy=started.mapping("policy"),
        audit=audit,
    )


def _header(
    fold: Folded,
    started: Body,
    rollout: str,
    devices: tuple[DeviceRow, ...],
    rollbacks: tuple[Rollback, ...],
    *,
    counts: Mapping[str, int],
    unread: int,
    now: float,
) -> Header:
    release = Body.of(started.mapping("release"))
    version = release.text("version")
    seed = started.mapping("plan").get("seed")
    return Header(
        rollout=rollout,
        release=release.text("release"),
        version=version,
        from_versions=Counter(row.from_version or "unknown" for row in devices if row.attempts),
        outcome=fold.shown_phase,
        verdict=verdict_sentence(fold, version, counts, rollbacks),
        started_at=fold.started_at,
        started_by=started.text("by", ""),
        started_reason=started.text("reason", ""),
        ended_at=fold.ended_at,
        ended_by=fold.ended_by,
        ended_reason=fold.ended_reason,
        generated_at=now,
        durations=_durations(fold, now),
        targets=sum(counts.values()),
        counts=dict(counts),
        failed_ever=sum(row.failed for row in devices),
        plan_digest=_plan_digest(started),
        policy_digest=_digest(started.mapping("policy")),
        baselines_digest=_digest(started.mapping("baselines")),
        seed=seed if isinstance(seed, int) else None,
        restarts=fold.restarts,
        unread=unread,
        warnings=_warnings(started),
        fetched=_fetched(devices),
        activated_at=fold.activated_at,
        activated_by=fold.activated_by,
        staged=None if fold.staged is None else len(fold.staged),
    )


def _plan_digest(started: Body) -> str:
    try:
        return Plan.model_validate(started.mapping("plan")).digest
    except ValueError:
        return ""  # A newer program's plan; what an approval is bound to stands with the approval.


def _digest(tree: Mapping[str, object]) -> str:
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _warnings(started: Body) -> tuple[str, ...]:
    found: list[str] = []
    for body, name in ((Body.of(started.mapping("plan")), "warnings"), (started, "lint")):
        with suppress(UnreadableEntryError):
            found += body.names(name)
    return tuple(found)


def _durations(fold: Folded, now: float) -> Durations:
    spent: Counter[str] = Counter()
    for span in fold.spans:
        spent[span.activity] += span.end - span.start  # type: ignore[assignment] # a Counter of seconds
    end = fold.ended_at if fold.ended_at is not None else max(now, fold.started_at)
    seconds = {
        f"{name}_seconds": round(spent[name], 3)
        for name in ("progressing", "soaking", "waiting", "rolling_back", "frozen")
    }
    return Durations(total_seconds=round(end - fold.started_at, 3), **seconds)


def _waves(fold: Folded, devices: tuple[DeviceRow, ...]) -> tuple[Wave, ...]:
    counts = [Counter[str]() for _ in fold.waves]
    failed = [0] * len(fold.waves)
    for row in devices:
        counts[row.wave][row.progress] += 1
        failed[row.wave] += row.failed
    return tuple(
        Wave(
            number=number,
            name=wave.name,
            devices=counts[number].total(),
            started_at=wave.started_at,
            soak_started_at=wave.soak_started_at,
            ended_at=wave.ended_at,
            soaked_seconds=wave.soaked_seconds,
            extensions=wave.extensions,
            counts=dict(counts[number]),
            failed_ever=failed[number],
            fetched=_fetched(row for row in devices if row.wave == number),
        )
        for number, wave in enumerate(fold.waves)
    )


def _fetched(devices: Iterable[DeviceRow]) -> dict[str, int]:
    """Sum up by origin what was fetched, as far as devices said it."""
    found: Counter[str] = Counter()
    for row in devices:
        found.update({origin: getattr(row, f"from_{origin}_bytes") or 0 for origin in ORIGINS})
    return {origin: count for origin, count in found.items() if count}


def _series(fold: Folded, rollbacks: tuple[Rollback, ...]) -> tuple[Series, ...]:
    """Return each check over its evaluations; what a trigger fired on is added unless a gate showed it at once."""
    found: dict[tuple[str, str], list[Point]] = {}
    shown = [(each.at, each.wave, check) for each in fold.evaluations for check in each.checks]
    fired = [(each.at, each.wave, check) for each in rollbacks for check in each.evidence]
    for at, wave, check in [*shown, *(each for each in fired if each not in shown)]:
        numbers = check.model_dump(include={"observed", "baseline", "limit", "samples", "verdict"})
        point = Point(at=at, wave=wave, **numbers)
        found.setdefault((check.check, check.limit_expr), []).append(point)
    return tuple(Series(check=check, limit_expr=expr, points=tuple(points)) for (check, expr), points in found.items())


def _excluded(excluded: object) -> tuple[Excluded, ...]:
    """Read who was left out: devices by reason."""
    named = excluded if isinstance(excluded, dict) else {}
    readable = sorted(reason for reason, names in named.items() if isinstance(names, str | list))
    return tuple(Excluded(reason=printable(each), devices=Body.of(named).names(each)) for each in readable)

"""The incident: what happened when a wave or the fleet was brought back, and what is left to do.

Source:
    Reference, "Rollback Execution Order" (full fleet rollback, step 6: generate incident report).
"""

from pydantic import BaseModel, ConfigDict

from orchestrator.reporting.model import Decision, Moment, Report, Rollback, Verification
from orchestrator.reporting.words import count_text, name_some, seconds_text, visible
from schemas.documents import CheckResult


class NotBack(BaseModel):
    """A device that runs the new version, or may run it, and what is known of it."""

    model_config = ConfigDict(frozen=True)

    device: str
    why: str


class Incident(BaseModel):
    """A rollback of a wave or the fleet, told from its end.

    Attributes:
        what: What happened, in plain words.
        first_evidence_at: When the first sign stood in the journal: a check that did not pass or a device that failed.
        first_evidence: What it was.
        decided_at: When the rollback was decided.
        ordered_at: When the last device's desired state was written.
        last_back_at: When the last device that is back said so.
        touched: Devices that were let go on the new version, or had it.
        people: What people commanded, in order.
        not_back: Devices that are still not back, by name.
        next_steps: What to do now.
    """

    model_config = ConfigDict(frozen=True)

    rollout: str
    release: str
    version: str
    what: str
    scope: str
    trigger: str
    by: str
    reason: str
    first_evidence_at: Moment
    first_evidence: str
    decided_at: Moment
    ordered_at: Moment | None
    last_back_at: Moment | None
    touched: int
    targets: int
    ordered_back: int
    back: int
    evidence: tuple[CheckResult, ...]
    people: tuple[Decision, ...]
    not_back: tuple[NotBack, ...]
    verification: Verification | None
    next_steps: tuple[str, ...]

    @property
    def stages(self) -> tuple[tuple[str, float | None, str], ...]:
        """The way back: what, when, and how long after the decision."""
        moments = (
            (f"First bad evidence: {self.first_evidence}", self.first_evidence_at),
            (f"Decided by {self.by}: {self.trigger}", self.decided_at),
            ("Last order to go back written", self.ordered_at),
            ("Last device back", self.last_back_at),
        )
        return tuple((what, at, _after(at, self.decided_at)) for what, at in moments)


def build_incident(report: Report) -> Incident | None:
    """Return the incident of the last rollback of a wave or the fleet; None if there was none."""
    stops = [each for each in report.rollbacks if each.scope != "device"]
    if not stops:
        return None
    stop, header = stops[-1], report.header
    first_at, first = _first_evidence(report, stop)
    not_back = _not_back(report, stop)
    return Incident(
        rollout=header.rollout,
        release=header.release,
        version=header.version,
        what=header.verdict,
        scope=stop.scope,
        trigger=stop.trigger,
        by=stop.by,
        reason=stop.reason,
        first_evidence_at=first_at,
        first_evidence=first,
        decided_at=stop.at,
        ordered_at=stop.ordered_at,
        last_back_at=stop.last_back_at,
        touched=sum(row.granted_at is not None or row.committed_at is not None for row in report.devices),
        targets=header.targets,
        ordered_back=len(stop.devices),
        back=stop.back,
        evidence=stop.evidence,
        people=tuple(each for each in report.decisions if each.verb != "plan"),
        not_back=not_back,
        verification=stop.verification,
        next_steps=_next_steps(report, stop, not_back),
    )


def _after(at: float | None, decided_at: float) -> str:
    if at is None:
        return "not yet"
    return f"{seconds_text(decided_at - at)} before" if at < decided_at else f"+{seconds_text(at - decided_at)}"


def _first_evidence(report: Report, stop: Rollback) -> tuple[float, str]:
    """Return the earliest sign since the wave that was stopped began; without one, the decision itself."""
    since = report.waves[stop.wave].started_at or 0.0 if stop.wave < len(report.waves) else 0.0
    signs = [
        (each.at, f"{check.check} is {check.verdict} in {each.gate}")
        for each in report.evaluations
        for check in each.checks
        if each.wave == stop.wave and check.verdict in {"fail", "caution"} and not check.dry_run
    ]
    signs += [
        (row.failed_at, f"{row.device} failed ({row.code})")
        for row in report.devices
        if row.failed_at is not None and row.failed_at >= since
    ]
    signs.append((stop.at, stop.reason))
    return min((sign for sign in signs if sign[0] <= stop.at), key=lambda sign: sign[0])


def _not_back(report: Report, stop: Rollback) -> tuple[NotBack, ...]:
    missing, rows = set(stop.not_back), report.devices
    found: list[NotBack] = []
    for row in rows:
        if row.progress == "stranded":
            found.append(NotBack(device=row.device, why=f"could not go back: {row.code}"))
        elif row.device in missing and row.progress == "returning":
            found.append(NotBack(device=row.device, why="ordered back, nothing heard since"))
        elif row.progress == "failed" and row.to_version is None and row.granted_at is not None:
            found.append(NotBack(device=row.device, why=f"nobody knows what it runs: {row.code}"))
    return tuple(found)


def _next_steps(report: Report, stop: Rollback, not_back: tuple[NotBack, ...]) -> tuple[str, ...]:
    header, steps = report.header, list[str]()
    if not_back:
        names = name_some(tuple(each.device for each in not_back))
        steps.append(f"Find {count_text(len(not_back), 'device')} that did not come back: {names}.")
    if stop.verification is None:
        steps.append("Look at the fleet's health yourself: nothing in the journal says that it is as before.")
    elif stop.verification.verdict != "pass":
        steps.append("The fleet is not what it was before: look at the checks of the verification.")
    failing = sorted({check.check for check in stop.evidence})
    where = f" Begin with {', '.join(failing)}, on the devices named in the evidence." if failing else ""
    steps.append(f"Find the cause in {visible(header.release, 80)}.{where}")
    quarantined = [row.device for row in report.devices if row.quarantine]
    if quarantined:
        steps.append(
            f"Let {count_text(len(quarantined), 'device')} back into waves once they are well: "
            f"tidegate release-device DEVICE --reason ... ({name_some(tuple(quarantined))})."
        )
    if header.ended_at is None:
        steps.append(f"Decide about the rest: the rollout is {header.outcome.replace('_', ' ')}.")
    steps.append(f"Publish a repaired release under a new version; {visible(header.version, 80)} is not tried again.")
    return tuple(steps)

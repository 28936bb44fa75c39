"""``tidegate plan`` and ``start``: what would happen device by device, and the command that makes it happen."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.answers import Answer, Data, read
from orchestrator.cli.distribution import Distribution, render_distribution
from orchestrator.cli.terminal import command_lines, words
from schemas.times import format_duration

_SEVERITIES = {"error": "bold red", "warning": "yellow", "info": "dim", "note": "dim"}


class PlanWave(Answer):
    """One wave of a plan."""

    wave: str
    devices: int
    soak_seconds: float = 0.0


class Finding(Answer):
    """One finding of lint."""

    id: str
    severity: str
    where: str = ""
    message: str
    remedy: str = ""
    silenced: str | None = None


class PlanAnswer(Answer):
    """The answer to ``plan``.

    Attributes:
        canary: Each of the first devices with the reason for it.
        excluded: How many devices are left out, by reason.
        not_canary: How many targets may not be a canary, by reason.
        baselines: Device groups whose normal operation is known.
        nothing_to_do: No device needs the release, or none may have it; then ``reason`` says why.
        already_applied: It runs already.
    """

    rollout: str
    release: str = ""
    version: str = ""
    plan_digest: str = ""
    seed: int = 0
    strategy: str = ""
    estimated_seconds: float = 0.0
    waves: tuple[PlanWave, ...] = ()
    canary: Mapping[str, str] = {}
    excluded: Mapping[str, int] = {}
    not_canary: Mapping[str, int] = {}
    dropped_waves: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()
    uncovered_count: int = 0
    supersedes: tuple[str, ...] = ()
    shortened: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    lint: tuple[Finding, ...] = ()
    lint_count: int = 0
    baselines: tuple[str, ...] = ()
    distribution: Distribution = Distribution()
    activate: str = "at_once"
    targets: int = 0
    offline: int = 0
    nothing_to_do: bool = False
    already_applied: bool = False
    reason: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether lint would refuse the start."""
        return any(finding.severity == "error" and finding.silenced is None for finding in self.lint)


def has_changes(data: Data) -> bool:
    """Say whether a plan would change any device."""
    plan = read(PlanAnswer, data)
    return not plan.nothing_to_do and not plan.already_applied


def render_plan(data: Data, policy: str, options: str = "") -> RenderableType:
    """Show a plan; ``policy`` and ``options`` are as they were typed, for the next command."""
    plan = read(PlanAnswer, data)
    if plan.already_applied:
        told = f"{plan.rollout} runs already with this release and policy."
        return Group(words(told, "bold"), command_lines([f"tidegate watch {plan.rollout}"]))
    if plan.nothing_to_do:
        told = f"Nothing to do: {plan.reason or f'no device needs {plan.release}'}"
        return Group(words(told, "bold"), command_lines(["tidegate list", "tidegate devices"]))
    total = plan.targets or sum(wave.devices for wave in plan.waves)
    left_out = sum(plan.excluded.values())
    about = [f"{total} devices in {len(plan.waves)} waves", plan.strategy.replace("_", "/")]
    about += [f"{left_out} left out"] if left_out else []
    about += [f"{plan.offline} of them offline now"] if plan.offline else []
    if plan.estimated_seconds:
        about.append(f"{format_duration(round(plan.estimated_seconds))} at least")
    parts: list[RenderableType] = [
        words(f"Plan of {plan.rollout}: {plan.release} ({plan.version})", "bold"),
        words(", ".join(part for part in about if part)),
        Text(""),
        _waves(plan, total),
        Text(""),
        _canary(plan),
        *_counted("Left out", plan.excluded),
        *_counted("Targets that may not be a canary", plan.not_canary),
        *_baselines(plan),
        *render_distribution(plan.distribution),
        *_activation(plan),
        *_doubts(plan),
        *_lint(plan, policy),
        Text(""),
        words(f"seed {plan.seed}, digest {plan.plan_digest}", "dim"),
        command_lines(_next(plan, policy, options)),
    ]
    return Group(*parts)


def _waves(plan: PlanAnswer, total: int) -> Table:
    table = _table("WAVE", "DEVICES", "SHARE", "SO FAR", "SOAK", right=4)
    so_far = 0
    for wave in plan.waves:
        so_far += wave.devices
        share, reached = (f"{100 * count / total:.0f}%" if total else "-" for count in (wave.devices, so_far))
        soak = format_duration(wave.soak_seconds) if wave.soak_seconds else "-"
        table.add_row(words(wave.wave), str(wave.devices), share, f"{so_far} ({reached})", soak)
    for name in plan.dropped_waves:
        table.add_row(words(name, "dim"), "0", "-", "-", words("dropped: no devices left for it", "dim"))
    return table


def _canary(plan: PlanAnswer) -> Table:
    table = _table("CANARY", "WHY IT GOES FIRST")
    for device, reason in plan.canary.items():
        table.add_row(words(device), words(reason))
    return table


def _counted(title: str, counts: Mapping[str, int]) -> list[RenderableType]:
    if not counts:
        return []
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(str(count), words(reason))
    return [Text(""), words(f"{title}: {sum(counts.values())}", "dim"), table]


def _activation(plan: PlanAnswer) -> list[RenderableType]:
    if plan.activate == "at_once":
        return []
    begins = f"tidegate activate {plan.rollout}" if plan.activate == "manual" else f"the canary begins {plan.activate}"
    return [Text(""), words(f"Staged: all waves fetch and install at once, nothing is activated; then: {begins}")]


def _baselines(plan: PlanAnswer) -> list[RenderableType]:
    if not plan.baselines:
        return [Text(""), words("⚠ of no device group it is known what is normal: nothing to compare with", "yellow")]
    return [Text(""), words(f"Compared with what is normal for: {', '.join(plan.baselines)}", "dim")]


def _doubts(plan: PlanAnswer) -> list[RenderableType]:
    more = plan.uncovered_count - len(plan.uncovered)
    unseen = f" and {more:,} more" if more > 0 else ""
    is_told = any(warning.startswith("no canary stands for") for warning in plan.warnings)
    lines = [f"⚠ no canary stands for {', '.join(plan.uncovered)}{unseen}"] if plan.uncovered and not is_told else []
    lines += [f"⚠ a start ends {name} as superseded; its waiting devices are taken over" for name in plan.supersedes]
    if plan.shortened:
        lines.append(f"⚠ the fleet is too large to show all of it here: {', '.join(plan.shortened)} left out")
    lines += [f"⚠ {warning}" for warning in plan.warnings]
    return [Text(""), *(words(line, "yellow") for line in lines)] if lines else []


def _lint(plan: PlanAnswer, policy: str) -> list[RenderableType]:
    """Show errors and warnings; how many notes there are, and where they can be read."""
    if not plan.lint:
        return []
    parts: list[RenderableType] = [Text("")]
    told = [each for each in plan.lint if each.silenced is None and each.severity != "note"]
    for finding in told:
        where = f" {finding.where}" if finding.where else ""
        line = f"{finding.severity} {finding.id}{where}: {finding.message}"
        parts.append(words(line, _SEVERITIES.get(finding.severity, "")))
        if finding.remedy:
            parts.append(words(f"    {finding.remedy}", "dim"))
    more = max(plan.lint_count, len(plan.lint)) - len(told)
    if more:
        again = f"tidegate lint {policy} --fleet --release {plan.release}"
        parts.append(words(f"{more} more, noted or accepted: {again}", "dim"))
    return parts


def _next(plan: PlanAnswer, policy: str, options: str) -> list[str]:
    named = f"--release {plan.release} --rollout {plan.rollout}{options}"
    start = f"tidegate start {policy} {named} --plan {plan.plan_digest}"
    if plan.is_refused:
        again = f"mend {policy} as lint says, then: tidegate plan {policy} {named}"
        return [again, f"or, against its advice: {start} --ignore-lint"]
    return [start]


def _table(*columns: str, right: int = 0) -> Table:
    """Make a table whose second to ``right``-th column stand on the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if 0 < number < right else "left")
    return table


def render_started(data: Data) -> RenderableType:
    """Say what was started."""
    name: Any = data.get("rollout", "")
    already = data.get("already_applied") is True
    waves = data.get("waves") or ()
    sizes = " → ".join(f"{wave.get('wave')} {wave.get('devices')}" for wave in waves if isinstance(wave, Mapping))
    told = "runs already, nothing changed" if already else f"started: {sizes}" if sizes else "started"
    head = words("✔ ", "green") + words(f"{name} {told}", "bold")
    return Group(head, command_lines([f"tidegate watch {name}"]))

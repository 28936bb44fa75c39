"""``tidegate lint``: what a policy cannot do, alone or for the fleet that an orchestrator knows."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.answers import Answer, ask, read
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.options import DEFAULT_BROKER, LOOK, BrokerOption, JsonOption, PolicyArgument, TimeoutOption
from orchestrator.cli.refusals import describe, next_commands
from orchestrator.cli.terminal import note, show, words
from orchestrator.lint.catalogue import as_data, lint_policy
from orchestrator.lint.finding import counted
from orchestrator.lint.written import Written
from orchestrator.shelf import load_policy
from schemas.policy import Policy

app = typer.Typer()

_LOOKS: Final = {"error": ("✖", "bold red"), "warning": ("⚠", "yellow"), "note": ("·", "cyan")}
_ORDER: Final = tuple(_LOOKS)
_OF_THE_FILE: Final = frozenset({"L005"})
"""What only the file's own words show; an orchestrator is sent the policy's content."""


class _Wave(Answer):
    wave: str
    devices: int


class _Finding(Answer):
    id: str
    severity: str
    where: str = ""
    message: str
    remedy: str = ""
    silenced: str | None = None
    line: int | None = None
    column: int | None = None


class _Planned(Answer):
    """What of a plan's answer is about lint."""

    waves: tuple[_Wave, ...]
    lint: tuple[_Finding, ...]
    lint_count: int = 0


@app.command("lint", rich_help_panel=LOOK)
def lint(
    policy: PolicyArgument,
    fleet: Annotated[bool, typer.Option("--fleet", help="Ask the orchestrator, with the fleet that it knows.")] = False,
    release: Annotated[str | None, typer.Option("--release", help="The release to plan with; for --fleet.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Leave with 3 if there are warnings.")] = False,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Say what a policy can never do, does by accident, or does at a price.

    Leaves with 1 if there are errors. Each rule is explained in docs/LINT.md.
    """
    if fleet and release is None:
        raise typer.BadParameter("--fleet plans a release: name it with --release", param_hint="--release")
    with reported():
        loaded = load_policy(policy)
        text = policy.read_text(encoding="utf-8")
        findings = [_Finding.model_validate(each) for each in as_data(lint_policy(loaded, text=text))]
        planned = _plan(loaded, policy, broker, str(release), timeout) if fleet else None
        if planned is not None:
            findings = [each for each in findings if each.id in _OF_THE_FILE]
            findings += [_located(each, Written(text)) for each in planned.lint]
    ordered = sorted(findings, key=lambda each: (each.silenced is not None, _rank(each)))
    waves = () if planned is None else planned.waves
    if as_json:
        print(json.dumps(_document(ordered, waves)))
    else:
        show(render_findings(str(policy), ordered, waves))
    raise typer.Exit(_code(ordered, strict=strict, is_complete=planned is None or _told_errors(planned)))


def _located(finding: _Finding, file: Written) -> _Finding:
    """Say where in the file it is: the orchestrator has not seen it."""
    line, column = file.place(finding.where) or (None, None)
    return finding.model_copy(update={"line": line, "column": column})


def _told_errors(planned: _Planned) -> bool:
    """Say whether the answer holds the worst findings at least, and tell if it does not hold all."""
    untold = planned.lint_count - len(planned.lint)
    if untold > 0:
        note(f"{counted(untold, 'finding')} more did not fit into the answer")
    return untold <= 0 or bool(planned.lint)


def _plan(policy: Policy, path: Path, broker: str, release: str, timeout_seconds: float) -> _Planned | None:
    """Return what the orchestrator says of the plan; None if there is nothing to plan."""
    body = {"release": release, "policy": policy.model_dump(mode="json", by_alias=True)}
    reply = ask(broker, "plan", body, timeout_seconds=timeout_seconds)
    if reply.error is not None:
        note(f"error: {describe(reply.error)}")
        typed = shlex.quote(str(path))
        for line in next_commands("plan", body, reply.error, policy=str(path)):
            note(f"Next: {line.replace(f'tidegate plan {typed}', f'tidegate lint {typed} --fleet')}")
        raise typer.Exit(Exit.NOT_FOUND if reply.error.code == "not_found" else Exit.FAILED)
    data = reply.data or {}
    if data.get("nothing_to_do") is True:
        note(f"nothing to do for {release}: {data.get('reason', '')}; this is what the file alone shows")
        return None
    return read(_Planned, data)


def _rank(finding: _Finding) -> int:
    return _ORDER.index(finding.severity) if finding.severity in _ORDER else len(_ORDER)


def _code(findings: Sequence[_Finding], *, strict: bool, is_complete: bool) -> Exit:
    """Return the exit code; an answer without any of its findings may hide errors."""
    open_ones = {each.severity for each in findings if each.silenced is None}
    if "error" in open_ones or not is_complete:
        return Exit.FAILED
    return Exit.WAITING if strict and "warning" in open_ones else Exit.OK


def _document(findings: Sequence[_Finding], waves: Sequence[_Wave]) -> dict[str, Any]:
    return {
        "findings": [each.model_dump(exclude_none=True) for each in findings],
        "waves": [each.model_dump() for each in waves],
        "counts": _counts(findings),
    }


def _counts(findings: Sequence[_Finding]) -> dict[str, int]:
    tally = Counter("silenced" if each.silenced is not None else each.severity for each in findings)
    return {name: tally[name] for name in (*_ORDER, "silenced")}


def render_findings(name: str, findings: Sequence[_Finding], waves: Sequence[_Wave]) -> RenderableType:
    """Show findings, the worst first, with the waves that their numbers are of."""
    parts: list[RenderableType] = []
    if waves:
        sizes = " → ".join(f"{each.wave} {each.devices:,}" for each in waves)
        parts += [words(f"{sum(each.devices for each in waves):,} devices: {sizes}", "bold"), Text("")]
    if findings:
        parts += [_table(name, findings), Text("")]
    counts = _counts(findings)
    told = [counted(count, kind) for kind, count in counts.items() if count and kind in _ORDER]
    told += [f"{counts['silenced']} silenced"] if counts["silenced"] else []
    parts.append(words(f"{name}: {', '.join(told) if told else 'nothing to say'}", "bold"))
    acceptable = [each.id for each in findings if each.silenced is None and each.severity != "error"]
    if acceptable:
        parts.append(
            words(f"docs/LINT.md explains each; to accept one: lint: {{silence: {{{acceptable[0]}: why}}}}", "dim")
        )
    return Group(*parts)


def _table(name: str, findings: Sequence[_Finding]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in findings:
        mark, style = _LOOKS.get(each.severity, ("?", ""))
        if each.silenced is not None:
            mark, style = "-", "dim"
        remedy = f"silenced: {each.silenced}" if each.silenced is not None else f"→ {each.remedy}"
        place = "" if each.line is None else f"{name}:{each.line}:{each.column} "
        lines = (
            words(each.message, style if style == "dim" else ""),
            words(f"{place}{each.where}", "dim"),
            words(remedy, "dim"),
        )
        table.add_row(words(f"{mark} {each.severity}", style), words(each.id, style), Text("\n").join(lines))
    return table

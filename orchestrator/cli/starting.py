"""``tidegate plan`` and ``tidegate start``: the same question, once without and once with consequences."""

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.answers import run
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.options import (
    DECIDE,
    DEFAULT_BROKER,
    LOOK,
    ActivateOption,
    BrokerOption,
    JsonOption,
    NameOption,
    PolicyArgument,
    ReasonOption,
    ReleaseOption,
    ScaleOption,
    TimeoutOption,
)
from orchestrator.cli.planning import has_changes, render_plan, render_started
from orchestrator.shelf import load_policy

app = typer.Typer()


SupersedeOption = Annotated[bool, typer.Option("--supersede", help="End active rollouts that hold the same devices.")]


@app.command("plan", rich_help_panel=LOOK)
def plan(
    policy: PolicyArgument,
    release: ReleaseOption,
    rollout: NameOption = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 10 if there is something to do, 0 if there is nothing.")
    ] = False,
    activate: ActivateOption = None,
    supersede: SupersedeOption = False,
    time_scale: ScaleOption = 1.0,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Show canary and waves of a rollout, device by device, without starting it."""
    body = _body(policy, release, rollout=rollout, activate=activate, supersede=supersede, time_scale=time_scale)
    options = (f" --activate {activate}" if activate else "") + " --supersede" * supersede
    options += f" --time-scale {time_scale:g}" if time_scale != 1 else ""
    data = run(
        broker, "plan", body, timeout_seconds=timeout, as_json=as_json,
        shown=lambda data: render_plan(data, str(policy), options), policy=str(policy),
    )  # fmt: skip
    if exit_code and has_changes(data):
        raise typer.Exit(Exit.CHANGES)


@app.command("start", rich_help_panel=DECIDE)
def start(
    policy: PolicyArgument,
    release: ReleaseOption,
    rollout: NameOption = None,
    plan_digest: Annotated[
        str | None, typer.Option("--plan", help="Digest of the plan you looked at; refused if it has changed.")
    ] = None,
    activate: ActivateOption = None,
    supersede: SupersedeOption = False,
    ignore_lint: Annotated[bool, typer.Option("--ignore-lint", help="Start in spite of lint errors.")] = False,
    time_scale: ScaleOption = 1.0,
    broker: BrokerOption = DEFAULT_BROKER,
    reason: ReasonOption = "",
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Start a rollout of a release under a policy."""
    body = _body(
        policy, release, rollout=rollout, plan=plan_digest, activate=activate, supersede=supersede,
        ignore_lint=ignore_lint, time_scale=time_scale, reason=reason,
    )  # fmt: skip
    run(broker, "start", body, timeout_seconds=timeout, as_json=as_json, shown=render_started, policy=str(policy))


def _body(policy: Path, release: str, **more: object) -> dict[str, Any]:
    with reported():
        loaded = load_policy(policy)
    body: dict[str, Any] = {"release": release, "policy": loaded.model_dump(mode="json", by_alias=True)}
    return {**body, **{name: value for name, value in more.items() if value}}

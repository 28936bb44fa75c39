"""``tidegate health``: what devices send of their health as it comes, and who is worst off. It is shown, not judged."""

import asyncio
import json
from typing import Annotated, Any

import typer

from orchestrator.cli.answers import fetch, leave
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.health_devices import Worst, render_worst
from orchestrator.cli.health_groups import render_groups
from orchestrator.cli.listening import find_groups, follow_groups, keep_asking
from orchestrator.cli.live import drawn
from orchestrator.cli.options import DEFAULT_BROKER, LOOK, BrokerOption, JsonOption, TimeoutOption, broker_url
from orchestrator.cli.terminal import make_console, show
from schemas.ids import is_id

app = typer.Typer(
    name="health",
    rich_help_panel=LOOK,
    no_args_is_help=True,
    help="What devices send of their health, and who is worst off.",
)


@app.command("tail")
def tail(
    device: Annotated[str | None, typer.Argument(help="The device.", metavar="[DEVICE]")] = None,
    group: Annotated[str | None, typer.Option("--group", help="A group's summaries instead.")] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many.")] = None,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0.1, help="Exit with 6 when nothing came for so many s; else three intervals."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each.")] = False,
) -> None:
    """Print each sample of a device, or each summary of a group, as it comes."""
    from orchestrator.cli.tailing import tail_device, tail_group  # noqa: PLC0415 - it reads samples, with numpy

    if (device is None) is (group is None):
        leave("name a device or --group", "tidegate devices", "tidegate health top", code=Exit.FAILED)
    try:
        with reported():
            url = broker_url(broker)
            if device is not None:
                work = tail_device(url, device, count=count, timeout_seconds=timeout, as_json=as_json)
            else:
                work = tail_group(url, str(group), count=count, timeout_seconds=timeout, as_json=as_json)
            asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None


@app.command("top")
def top(
    group: Annotated[str | None, typer.Option("--group", help="The worst devices of a group.")] = None,
    rollout: Annotated[str | None, typer.Option("--rollout", help="Of those that a rollout has ordered.")] = None,
    where: Annotated[str | None, typer.Option("--where", help="Of those that a filter selects.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="How many devices to show.")] = 20,
    once: Annotated[bool, typer.Option("--once", help="Print once, also on a terminal.")] = False,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Show the groups, or the devices of one of them or of a rollout, the worst first; live on a terminal."""
    live = not (once or as_json) and make_console().is_terminal
    try:
        if group is None and rollout is None and where is None:
            _top_groups(broker, live=live, as_json=as_json)
        else:
            body, which = _question(group, rollout, where, limit), _which(group, rollout, where)
            _top_devices(broker, body, which, group, timeout, live=live, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None


def _top_groups(broker: str, *, live: bool, as_json: bool) -> None:
    with reported():
        url = broker_url(broker)
        groups = asyncio.run(find_groups(url))
        if as_json:
            rows = [each.model_dump() for each in groups.worst_first()]
            print(json.dumps({"groups": rows, "orchestrator": groups.orchestrator or None}))
        elif not groups.summaries:
            leave("no group has been summarized on this broker yet", "tidegate devices")
        elif live:
            asyncio.run(drawn(make_console(), lambda: render_groups(groups), follow_groups(url, groups)))
        else:
            show(render_groups(groups))


def _top_devices(
    broker: str, body: dict[str, Any], which: str, group: str | None, timeout: float, *, live: bool, as_json: bool
) -> None:
    data = fetch(broker, "list", body, timeout_seconds=timeout, as_json=as_json)
    if group is not None and not data.get("count"):
        if as_json:
            raise typer.Exit(Exit.NOT_FOUND)
        leave(f"there is no device{which}", "tidegate health top")
    if as_json:
        return
    worst, console = Worst(data, which), make_console()
    with reported():
        if live:
            work = keep_asking(broker_url(broker), body, worst, timeout_seconds=timeout)
            asyncio.run(drawn(console, lambda: render_worst(worst, console.width), work))
        else:
            show(render_worst(worst, console.width))


def _question(group: str | None, rollout: str | None, where: str | None, limit: int) -> dict[str, Any]:
    """Return what is asked of the orchestrator."""
    filters = [] if where is None else [f"({where})" if group is not None else where]
    if group is not None:
        if not is_id(group):
            leave(f"{group!r} is no group", "tidegate health top")
        filters.append(f'group == "{group}"')
    body = {"what": "health", "limit": limit, "rollout": rollout, "where": " and ".join(filters) or None}
    return {name: value for name, value in body.items() if value is not None}


def _which(group: str | None, rollout: str | None, where: str | None) -> str:
    """Say which devices are meant."""
    parts = {"in group": group, "ordered by": rollout, "where": where}
    return "".join(f" {word} {value}" for word, value in parts.items() if value is not None)

"""The operator's commands: each is one message to the orchestrator and its answer; nothing more is privileged here."""

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from orchestrator.cli.answers import Data, run
from orchestrator.cli.options import (
    DECIDE,
    DEFAULT_BROKER,
    BrokerOption,
    JsonOption,
    ReasonOption,
    RolloutArgument,
    TimeoutOption,
)
from orchestrator.cli.summaries import render_done
from orchestrator.cli.terminal import command_lines, words

app = typer.Typer()

DevicesArgument = Annotated[list[str] | None, typer.Argument(help="Devices of the rollout.", metavar="[DEVICE]...")]


def _register(verb: str, text: str) -> None:
    def command(
        rollout: RolloutArgument,
        wave: Annotated[str | None, typer.Option("--wave", help="Refused if the rollout is at another one.")] = None,
        broker: BrokerOption = DEFAULT_BROKER,
        reason: ReasonOption = "",
        timeout: TimeoutOption = 10.0,
        as_json: JsonOption = False,
    ) -> None:
        _send(broker, verb, {"rollout": rollout, "wave": wave, "reason": reason}, timeout, as_json=as_json)

    app.command(verb, help=text, rich_help_panel=DECIDE)(command)


def _send(broker: str, verb: str, body: dict[str, Any], timeout: float, *, as_json: bool) -> None:
    def shown(data: Data) -> RenderableType:
        return render_done(data, verb)

    run(broker, verb, body, timeout_seconds=timeout, as_json=as_json, shown=shown)


for _verb, _text in {
    "activate": "Let a staged rollout begin with its canary.",
    "approve": "Let a rollout go on after its canary; the gate is judged again on fresh data.",
    "reject": "Refuse approval; the canary goes back.",
    "pause": "Stop for now; devices in their trial finish it.",
    "resume": "Go on after a pause or a halt; failures so far are excused by name.",
    "finish": "End a rollout as completed with the devices that were reached.",
    "abort": "End a rollout and leave deployed devices as they are.",
    "rollback": "Bring every device of a rollout back to what it ran before.",
}.items():
    _register(_verb, _text)


@app.command("retry", rich_help_panel=DECIDE)
def retry(
    rollout: RolloutArgument,
    devices: DevicesArgument = None,
    broker: BrokerOption = DEFAULT_BROKER,
    reason: ReasonOption = "",
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Order devices again that failed or were brought back; all of them if none is named."""
    _send(broker, "retry", {"rollout": rollout, "devices": devices or [], "reason": reason}, timeout, as_json=as_json)


@app.command("skip", rich_help_panel=DECIDE)
def skip(
    rollout: RolloutArgument,
    devices: Annotated[list[str], typer.Argument(help="Devices of the rollout.", metavar="DEVICE...")],
    broker: BrokerOption = DEFAULT_BROKER,
    reason: ReasonOption = "",
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Leave devices out of a rollout."""
    _send(broker, "skip", {"rollout": rollout, "devices": devices, "reason": reason}, timeout, as_json=as_json)


def _register_device(verb: str, name: str, text: str) -> None:
    def command(
        device: Annotated[str, typer.Argument(help="The device.")],
        broker: BrokerOption = DEFAULT_BROKER,
        reason: ReasonOption = "",
        timeout: TimeoutOption = 10.0,
        as_json: JsonOption = False,
    ) -> None:
        def shown(data: Data) -> Group:
            kept = "is kept out of all waves" if data.get("quarantined") else "may take part in waves"
            so = " (it was so already)" if data.get("already_applied") else ""
            back = f"tidegate release-device {device}" if data.get("quarantined") else "tidegate list"
            return Group(Text("✔ ", "green") + words(f"{device} {kept}{so}", "bold"), command_lines([back]))

        body = {"device": device, "reason": reason}
        run(broker, verb, body, timeout_seconds=timeout, as_json=as_json, shown=shown)

    app.command(name, help=text, rich_help_panel=DECIDE)(command)


_register_device("quarantine", "quarantine", "Keep a device out of all waves.")
_register_device("release", "release-device", "Let a quarantined device back into waves.")

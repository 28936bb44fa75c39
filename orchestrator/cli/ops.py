"""The operator's commands: each is one message to the orchestrator and its answer; nothing more is privileged here."""

import asyncio
import getpass
import json
import ssl
import sys
from pathlib import Path
from typing import Annotated, Any

import aiomqtt
import typer
from rich.console import Console
from rich.pretty import Pretty

from orchestrator.adapters.brokers import BrokerUnavailableError, BrokerUrl
from orchestrator.cli.exits import Exit, reported
from orchestrator.shelf import load_policy
from schemas.codec import decode
from schemas.messages import Reply
from schemas.topics import TOPIC_ROOT, Kind, TopicTree

app = typer.Typer(no_args_is_help=True)

BrokerOption = Annotated[str, typer.Option("--broker", envvar="TIDEGATE_BROKER", help="mqtt://user:password@host:port")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the audit.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the answer.")]
RolloutArgument = Annotated[str, typer.Argument(help="The rollout, for example r-042.")]
DEFAULT_BROKER = "mqtt://127.0.0.1:1883"


async def request(broker: BrokerUrl, verb: str, body: dict[str, Any], *, timeout_seconds: float) -> Reply:
    """Send one command as the broker's user and return the answer.

    Raises:
        BrokerUnavailableError: No connection.
        TimeoutError: No orchestrator answered in time.
    """
    actor = broker.username or getpass.getuser()
    tree = TopicTree(TOPIC_ROOT)
    reply_topic = tree.build(Kind.REPLY, actor=actor, verb=verb)
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username,
        password=broker.password,
        tls_context=ssl.create_default_context() if broker.is_tls else None,
    )
    try:
        async with asyncio.timeout(timeout_seconds), client:
            await client.subscribe(reply_topic, qos=1)
            await client.publish(tree.build(Kind.COMMAND, actor=actor, verb=verb), json.dumps(body), qos=1)
            async for message in client.messages:
                if isinstance(message.payload, bytes):
                    return decode(Reply, message.payload)
    except aiomqtt.MqttError as error:
        raise BrokerUnavailableError(f"{broker}: {error}; is it running, and is --broker right?") from error
    raise AssertionError("messages end only with the connection")


def run(broker: str, verb: str, body: dict[str, Any], *, timeout_seconds: float, as_json: bool) -> None:
    """Send, print the answer, and leave with the exit code that it means."""
    with reported():
        url = BrokerUrl.parse(broker)
        try:
            reply = asyncio.run(request(url, verb, body, timeout_seconds=timeout_seconds))
        except TimeoutError:
            print(f"error: no answer within {timeout_seconds:g} s; is an orchestrator connected?", file=sys.stderr)
            raise typer.Exit(Exit.TIMEOUT) from None
    if as_json:
        print(reply.model_dump_json(exclude_none=True))
    elif reply.error is None:
        Console().print(Pretty(dict(reply.data or {}), expand_all=True))
    if reply.error is not None:
        if not as_json:
            print(f"error: {_describe(reply)}", file=sys.stderr)
        raise typer.Exit(Exit.NOT_FOUND if reply.error.code == "not_found" else Exit.FAILED)


def _describe(reply: Reply) -> str:
    error = reply.error
    assert error is not None, "only an error is described"
    hints = [f"did you mean {', '.join(error.did_you_mean)}?"] if error.did_you_mean else []
    hints += [f"allowed now: {', '.join(error.allowed)}"] if error.allowed else []
    return " - ".join([f"{error.code}: {error.message}", *hints])


def _register(verb: str, text: str) -> None:
    def command(
        rollout: RolloutArgument,
        broker: BrokerOption = DEFAULT_BROKER,
        reason: ReasonOption = "",
        timeout: TimeoutOption = 10.0,
        as_json: JsonOption = False,
    ) -> None:
        run(broker, verb, {"rollout": rollout, "reason": reason}, timeout_seconds=timeout, as_json=as_json)

    app.command(verb, help=text)(command)


for _verb, _text in {
    "approve": "Let a rollout go on after its canary; the gate is judged again on fresh data.",
    "reject": "Refuse approval; the canary goes back.",
    "pause": "Stop for now; devices in their trial finish it.",
    "resume": "Go on after a pause or a halt; failures so far are excused by name.",
    "abort": "End a rollout and leave deployed devices as they are.",
    "rollback": "Bring every device of a rollout back to what it ran before.",
}.items():
    _register(_verb, _text)


def _start(
    verb: str, policy: Path, release: str, rollout: str | None, time_scale: float, reason: str
) -> dict[str, Any]:
    with reported():
        loaded = load_policy(policy)
    body: dict[str, Any] = {"release": release, "policy": loaded.model_dump(mode="json", by_alias=True)}
    return {**body, "rollout": rollout, "time_scale": time_scale, "reason": reason, "transaction": verb}


PolicyArgument = Annotated[Path, typer.Argument(help="A policy file.")]
ReleaseOption = Annotated[str, typer.Option("--release", help="A published release.")]
NameOption = Annotated[str | None, typer.Option("--rollout", help="Name of the rollout; the next number if omitted.")]
ScaleOption = Annotated[float, typer.Option("--time-scale", help="Divide every duration of the policy by this.")]


@app.command("plan")
def plan(
    policy: PolicyArgument,
    release: ReleaseOption,
    rollout: NameOption = None,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Show canary and waves of a rollout without starting it."""
    body = _start("plan", policy, release, rollout, 1.0, "")
    run(broker, "plan", body, timeout_seconds=timeout, as_json=as_json)


@app.command("start")
def start(
    policy: PolicyArgument,
    release: ReleaseOption,
    rollout: NameOption = None,
    time_scale: ScaleOption = 1.0,
    broker: BrokerOption = DEFAULT_BROKER,
    reason: ReasonOption = "",
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Start a rollout of a release under a policy."""
    body = _start("start", policy, release, rollout, time_scale, reason)
    run(broker, "start", body, timeout_seconds=timeout, as_json=as_json)


@app.command("get")
def get(
    rollout: RolloutArgument,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Show where a rollout is."""
    run(broker, "get", {"rollout": rollout}, timeout_seconds=timeout, as_json=as_json)


@app.command("list")
def list_rollouts(
    broker: BrokerOption = DEFAULT_BROKER, timeout: TimeoutOption = 10.0, as_json: JsonOption = False
) -> None:
    """Show all rollouts."""
    run(broker, "list", {}, timeout_seconds=timeout, as_json=as_json)


def _register_device(verb: str, text: str) -> None:
    def command(
        device: Annotated[str, typer.Argument(help="The device.")],
        broker: BrokerOption = DEFAULT_BROKER,
        reason: ReasonOption = "",
        timeout: TimeoutOption = 10.0,
        as_json: JsonOption = False,
    ) -> None:
        run(broker, verb, {"device": device, "reason": reason}, timeout_seconds=timeout, as_json=as_json)

    app.command("release-device" if verb == "release" else verb, help=text)(command)


_register_device("quarantine", "Keep a device out of all waves.")
_register_device("release", "Let a quarantined device back into waves.")

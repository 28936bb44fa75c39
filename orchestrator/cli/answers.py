"""From a command to an exit code: ask, print the answer, and say what to type next."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Group, RenderableType
from rich.text import Text

from orchestrator.cli import bus
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.options import broker_url
from orchestrator.cli.refusals import describe, next_commands
from orchestrator.cli.terminal import command_lines, complain, show, words
from schemas.documents import Reply
from schemas.errors import DecodeError

Data = Mapping[str, Any]
Shown = Callable[[Data], RenderableType]


class Answer(BaseModel):
    """Ground rules of what an orchestrator's answer is read as: what is new in it does no harm."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


Model = TypeVar("Model", bound=BaseModel)


def ask(broker: str, verb: str, body: dict[str, Any], *, timeout_seconds: float) -> Reply:
    """Send a command and return its answer; leaves with an exit code if there is none."""
    with reported():
        return asyncio.run(bus.request(broker_url(broker), verb, body, timeout_seconds=timeout_seconds))


def fetch(
    broker: str,
    verb: str,
    body: dict[str, Any],
    *,
    timeout_seconds: float,
    as_json: bool,
    policy: str = "POLICY",
    command: str = "",
) -> Data:
    """Send a command and return its answer's data, printed as it came if ``as_json``; a refusal ends the program."""
    reply = ask(broker, verb, body, timeout_seconds=timeout_seconds)
    if as_json:
        print(reply.model_dump_json(exclude_none=True))
    if reply.error is not None:
        commands = next_commands(verb, body, reply.error, policy=policy, command=command)
        code = Exit.NOT_FOUND if reply.error.code == "not_found" else Exit.FAILED
        if as_json:
            raise typer.Exit(code)
        leave(describe(reply.error), *commands, code=code)
    return reply.data or {}


def run(
    broker: str,
    verb: str,
    body: dict[str, Any],
    *,
    timeout_seconds: float,
    as_json: bool,
    shown: Shown | None = None,
    policy: str = "POLICY",
    command: str = "",
) -> Data:
    """Send, print the answer, and return its data; a refusal ends the program with the exit code that it means.

    Args:
        broker: Its address.
        verb: The command.
        body: Its payload.
        timeout_seconds: How long to wait for the answer.
        as_json: Print the answer as it came, as one JSON object.
        shown: How people see the data; None prints what it holds, line by line.
        policy: The policy file as it was typed, for what to type next.
        command: The command as it was typed, where neither verb nor body shows it.
    """
    data = fetch(
        broker, verb, body, timeout_seconds=timeout_seconds, as_json=as_json, policy=policy, command=command
    )  # fmt: skip
    if not as_json:
        with reported():
            show((shown or plain)(data))
    return data


def leave(text: str, *commands: str, code: Exit = Exit.NOT_FOUND) -> NoReturn:
    """End the program with an error, the commands to type now, and an exit code."""
    complain(f"error: {text}")
    show(command_lines(list(commands)), sys.stderr)
    raise typer.Exit(code)


def read(model: type[Model], data: Data) -> Model:
    """Read an answer's data.

    Raises:
        DecodeError: The orchestrator is of a version that answers otherwise.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DecodeError(
            f"the answer cannot be read ({place}: {first['msg']}); is the orchestrator of another version? "
            "--json shows it as it came",
            place,
        ) from error


def plain(data: Data) -> RenderableType:
    """Show any answer, one line for each value."""
    return Group(*(Text(f"{name.replace('_', ' ')}: ", style="dim") + words(value) for name, value in data.items()))

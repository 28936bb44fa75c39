"""A command as it was typed, written anew from what was sent: for the next one, which differs in one name only."""

import shlex
from collections.abc import Mapping
from typing import Any, Final

Body = Mapping[str, Any]

_STARTS: Final = frozenset({"start", "plan"})
_OPTIONS: Final = ("rollout", "wave", "plan", "activate", "supersede", "ignore_lint", "time_scale", "where", "reason")
"""In the order of the help; ``rollout`` is one where it is not what a command is about."""
_ONLY_OF_A_START: Final = frozenset({"plan", "ignore_lint", "reason"})


def command_of(verb: str, body: Body, command: str = "") -> str:
    """Return what is typed for a verb: ``command`` if it is given, else what the body shows."""
    if command:
        return command
    match verb, body:
        case "get", {"device": _, "rollout": _}:
            return "explain"
        case "get", {"device": _}:
            return "device"
        case "release", _:
            return "release-device"
        case "list", {"what": "devices"}:
            return "devices"
        case "list", {"what": "health"}:
            return "health top"
        case "list", {"what": "evaluators"}:
            return "evaluators"
        case _:
            return verb


def as_typed(verb: str, body: Body, policy: str, command: str = "") -> str:
    """Return the command whose body this is.

    Args:
        verb: What is asked for.
        body: The command as it is sent.
        policy: The policy file as it was typed.
        command: What was typed, where neither verb nor body shows it.
    """
    if verb in _STARTS:
        about, options = [policy, "--release", str(body.get("release"))], set(_OPTIONS)
    elif verb == "list":
        about, options = [], {"rollout", "where"}
    else:
        named = [body.get("rollout"), body.get("device"), *(body.get("devices") or ())]
        about, options = [str(name) for name in named if name], {"wave", "reason"}
    if verb == "plan":
        options -= _ONLY_OF_A_START
    given = [word for name in _OPTIONS if name in options for word in _option(name, body.get(name))]
    return " ".join(["tidegate", command_of(verb, body, command), *map(shlex.quote, [*about, *given])])


def _option(name: str, value: object) -> list[str]:
    """Return an option with its value; nothing for what was left as it is by itself."""
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return [option]
    if name == "time_scale" and isinstance(value, float):
        return [option, f"{value:g}"] if value != 1 else []
    return [option, str(value)] if value else []

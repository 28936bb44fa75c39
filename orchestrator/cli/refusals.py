"""What to type after a refusal: every "no" names the next command."""

import shlex
from collections.abc import Iterator
from typing import Any, Final

from orchestrator.cli.as_typed import Body, as_typed, command_of
from orchestrator.cli.phases import as_message
from orchestrator.core.explanation import choices
from schemas.documents import ReplyError

_STARTS: Final = frozenset({"start", "plan"})


def describe(error: ReplyError) -> str:
    """Say what was wrong, with its code first, so that it can be looked up."""
    near = f"; did you mean {' or '.join(error.did_you_mean)}?" if error.did_you_mean else ""
    return f"{error.code}: {error.message}{near}"


def next_commands(
    verb: str, body: dict[str, Any], error: ReplyError, *, policy: str = "POLICY", command: str = ""
) -> list[str]:
    """Return what a person can type now, the most likely first; it does nothing that was not typed.

    Args:
        verb: What was asked for.
        body: The command as it was sent.
        error: The answer.
        policy: The policy file as it was typed.
        command: What was typed, where neither verb nor body shows it.
    """
    rollout = str(body.get("rollout") or "")
    explained = [f"tidegate explain {shlex.quote(rollout)}"] if rollout else ["tidegate list"]
    match error.code:
        case "not_found":
            return _after_not_found(verb, body, error, policy, command)
        case "wrong_phase" | "not_allowed":
            may = [choice.command for choice in choices(rollout, error.allowed or ())] if rollout else []
            return [*may, *explained]
        case "four_eyes":
            again = as_typed(verb, {**body, "reason": ""}, policy, command)
            return [f"another person types: {again}", f"or: {as_message(rollout, verb)}"]
        case "conflict" if verb in _STARTS:
            is_taken = error.message.startswith(f"rollout {rollout!r} exists")
            free = {name: value for name, value in body.items() if not (is_taken and name == "rollout")}
            return [as_typed("plan", free, policy), "tidegate list"]
        case "lint_failed":
            mended = f"mend {shlex.quote(policy)}, then: {as_typed('plan', body, policy)}"
            return [mended, f"or: {as_typed('start', {**body, 'ignore_lint': True}, policy)}"]
        case "conflict" | "expired":
            return explained
        case "retained_command":
            return [f"mosquitto_pub -q 1 -r -n -t fleet/v1/ops/$USER/cmd/{verb}"]
        case "busy":
            return [f"the same again in a moment; meanwhile: tidegate {'watch ' + rollout if rollout else 'list'}"]
        case "invalid_payload" | "unknown_command":
            return [f"tidegate {command_of(verb, body, command)} --help"]
        case _:
            return ["tidegate list"]


def _after_not_found(verb: str, body: Body, error: ReplyError, policy: str, command: str) -> list[str]:
    """Return the same again with the nearest names in place of the one that is not there, and nothing else changed."""
    missing = [each for each in _names(verb, body) if _is_meant(error.message, each, body)]
    if not missing:  # An orchestrator of another version says it otherwise; which of several names it was is not known.
        missing = list(_names(verb, body))
    near = error.did_you_mean or ()
    if len(missing) != 1:
        return ["tidegate list"]
    field, typed = missing[0]
    again = [as_typed(verb, _replaced(body, field, typed, name), policy, command) for name in near]
    if verb == "list":
        return [*again, "tidegate list"]
    return again or ["tidegate devices" if field in {"device", "devices"} else "tidegate list"]


def _names(verb: str, body: Body) -> Iterator[tuple[str, str]]:
    """Yield each name that was typed for something that must be there, with its field."""
    for field in ("release",) if verb in _STARTS else ("rollout", "wave", "device"):
        if body.get(field):
            yield field, str(body[field])
    yield from (("devices", str(name)) for name in dict.fromkeys(body.get("devices") or ()))


def _is_meant(message: str, name: tuple[str, str], body: Body) -> bool:
    """Say whether this is the name of which the orchestrator says that there is none: two may be spelt the same."""
    field, typed = name
    rollout = body.get("rollout")
    kind = {"wave": f"wave of {rollout}", "devices": f"member of {rollout}"}.get(field, field)
    return message == f"no {kind} {typed!r}"


def _replaced(body: Body, field: str, typed: str, name: str) -> Body:
    if field != "devices":
        return {**body, field: name}
    return {**body, field: list(dict.fromkeys(name if each == typed else each for each in body[field]))}

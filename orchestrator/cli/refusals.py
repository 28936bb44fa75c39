"""What to type after a refusal: every "no" names the next command."""

from typing import Any

from orchestrator.cli.phases import as_message
from orchestrator.core.explanation import choices
from schemas.documents import ReplyError

_ROLLOUT_VERBS = frozenset(
    {"approve", "reject", "pause", "resume", "abort", "rollback", "finish", "retry", "skip", "get"}
)

_LISTS = {"devices": "devices", "health": "health top"}
"""What is typed for each list but that of rollouts."""


def describe(error: ReplyError) -> str:
    """Say what was wrong, with its code first, so that it can be looked up."""
    near = f"; did you mean {' or '.join(error.did_you_mean)}?" if error.did_you_mean else ""
    return f"{error.code}: {error.message}{near}"


def next_commands(verb: str, body: dict[str, Any], error: ReplyError, *, policy: str = "POLICY") -> list[str]:
    """Return what a person can type now, the most likely first.

    Args:
        verb: What was asked for.
        body: The command as it was sent.
        error: The answer.
        policy: The policy file as it was typed.
    """
    rollout = str(body.get("rollout") or "")
    match error.code:
        case "not_found":
            return _after_not_found(verb, error, policy)
        case "wrong_phase" | "not_allowed":
            may = [choice.command for choice in choices(rollout, error.allowed or ())] if rollout else []
            return [*may, f"tidegate explain {rollout}"] if rollout else ["tidegate list"]
        case "four_eyes":
            return [f"another person types: tidegate {verb} {rollout}", f"or: {as_message(rollout, verb)}"]
        case "conflict" if verb in {"start", "plan"}:
            return [f"tidegate plan {policy} --release {body.get('release')}", "tidegate list"]
        case "lint_failed":
            typed = f"{policy} --release {body.get('release')}"
            return [f"mend {policy}, then: tidegate plan {typed}", f"or: tidegate start {typed} --ignore-lint"]
        case "conflict" | "expired":
            return [f"tidegate explain {rollout}"] if rollout else ["tidegate list"]
        case "retained_command":
            return [f"mosquitto_pub -q 1 -r -n -t fleet/v1/ops/$USER/cmd/{verb}"]
        case "busy":
            return [f"the same again in a moment; meanwhile: tidegate {'watch ' + rollout if rollout else 'list'}"]
        case "invalid_payload" | "unknown_command":
            return [f"tidegate {_LISTS.get(str(body.get('what')), verb)} --help"]
        case _:
            return ["tidegate list"]


def _after_not_found(verb: str, error: ReplyError, policy: str) -> list[str]:
    near = error.did_you_mean or ()
    if verb in _ROLLOUT_VERBS and near:
        return [f"tidegate {verb} {name}" for name in near]
    if verb in {"start", "plan"} and near:
        return [f"tidegate {verb} {policy} --release {name}" for name in near]
    if verb == "list":
        return [*(f"tidegate health top --rollout {name}" for name in near), "tidegate list"]
    if verb in {"quarantine", "release"}:
        typed = "release-device" if verb == "release" else verb
        return [f"tidegate {typed} {name}" for name in near] or ["tidegate devices"]
    return ["tidegate list"]

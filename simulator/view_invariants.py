"""What must hold of retained documents after a tick, and when the world has come to rest: people see what is so.

They are compared with documents that are made anew from the orchestrator's state. What only the clock changes is left
out, and how healthy devices are, which is told when something else is.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.core.allowed import SKIPPABLE, allowed_verbs
from orchestrator.core.context import Context
from orchestrator.core.deciding import decide_rollout_command
from orchestrator.core.documents import desired_bytes, plan_document, status_document, wave_document
from orchestrator.core.effects import ordered_devices
from orchestrator.core.explain import explain_device, explain_rollout
from orchestrator.core.inputs import CommandReceived
from orchestrator.core.operator import decide_command
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from schemas.codec import encode
from schemas.commands import VERBS, Command, DeviceCommand, RolloutCommand
from schemas.topics import Kind, TopicTree

_MOVES: Final = frozenset({"ts", "next_decision_at", "reasons", "soaked_seconds", "health", "healthy", "offline"})
"""Fields of what moves with the clock or with the devices' health."""

_VERBS: Final = tuple(verb for verb, command in VERBS.items() if command is RolloutCommand)
_OF_DEVICE: Final = {"quarantine": "quarantine", "release-device": "release"}
"""Verbs of the bus by what is typed."""
_JUDGED_ANEW: Final = frozenset({"approve", "activate"})
"""Commands for which fresh evidence decides, and not only where the rollout is."""


def view(state: State, context: Context, retained: Mapping[str, bytes], tree: TopicTree, now: float) -> str | None:
    """Return the first thing that people are told and that is not so, or that they would need and are not told."""
    return (
        people_see_what_is_so(state, retained, tree, now)
        or people_are_told_what_helps(state, now)
        or what_is_offered_is_taken(state, context, now)
        or what_is_advised_is_taken(state, context, now)
    )


def people_see_what_is_so(state: State, retained: Mapping[str, bytes], tree: TopicTree, now: float) -> str | None:
    """INV-27: each rollout's plan, status and waves, and what each device is to run, are on the broker as they are."""
    for rollout in state.rollouts.values():
        wrong = _of_rollout(state, rollout, retained, tree, now)
        if wrong is not None:
            return wrong
    for name in ordered_devices(state):
        if retained.get(tree.build(Kind.DESIRED, device=name)) != desired_bytes(state, state.devices[name], {}):
            return f"what {name} is to run is not what it was ordered"
    return None


def people_are_told_what_helps(state: State, now: float) -> str | None:
    """INV-27: of a rollout that is not over it is said what it waits for and what may be typed."""
    for rollout in state.active:
        told = explain_rollout(state, rollout, now, allowed=allowed_verbs(state, rollout))
        if not told["awaited"] or not told["next"]:
            return f"{rollout.id} is {rollout.phase.value}: {told['summary']}, and nothing is said of what helps"
    return None


def what_is_offered_is_taken(state: State, context: Context, now: float) -> str | None:
    """INV-27: what may be commanded would change something, and nothing else would."""
    for rollout in state.rollouts.values():
        allowed = allowed_verbs(state, rollout)
        for verb in _VERBS:
            devices = [name for name in rollout.having(*SKIPPABLE) if not rollout.members[name].is_lost][:1]
            command = RolloutCommand(rollout=rollout.id, devices=tuple(devices) if verb == "skip" else ())
            outcome = decide_rollout_command(state, CommandReceived("carol", verb, command), command, context, now)
            error = outcome.reply.error
            is_fresh = error is not None and error.code == "conflict" and verb in _JUDGED_ANEW
            if (verb in allowed) is not bool(outcome.events) and not is_fresh:
                said = "offered" if verb in allowed else "not offered"
                return f"{verb} of {rollout.id} ({rollout.phase.value}) is {said}: {error or len(outcome.events)}"
    return None


def what_is_advised_is_taken(state: State, context: Context, now: float) -> str | None:
    """INV-27: what is advised of a device would change something."""
    for name in state.devices.names:
        for choice in explain_device(state, None, name, now)["next"]:
            _, verb, *named = choice["command"].split()
            command: Command
            if verb in _OF_DEVICE:
                verb, command = _OF_DEVICE[verb], DeviceCommand(device=named[0])
            elif verb in _VERBS:
                command = RolloutCommand(rollout=named[0], devices=tuple(named[1:]))
            else:
                continue  # It shows something.
            reply = decide_command(state, CommandReceived("carol", verb, command), context, now).reply
            if reply.data is None or "already_applied" in reply.data:
                return f"{choice['command']} is advised: {reply.error or 'changes nothing'}"
    return None


def _of_rollout(
    state: State, rollout: Rollout, retained: Mapping[str, bytes], tree: TopicTree, now: float
) -> str | None:
    expected = {
        tree.build(Kind.PLAN, rollout=rollout.id): plan_document(rollout),
        tree.build(Kind.STATUS, rollout=rollout.id): encode(status_document(state, rollout, now)),
    }
    for number, wave in enumerate(rollout.plan.waves):
        topic = tree.build(Kind.WAVE, rollout=rollout.id, wave=wave.name)
        expected[topic] = encode(wave_document(rollout, number))
    for topic, payload in expected.items():
        if topic not in retained:
            return f"{topic} is missing"
        ours, theirs = _lasting(json.loads(payload)), _lasting(json.loads(retained[topic]))
        if ours != theirs:
            return f"{topic} says {_first_difference(theirs, ours)}"
    return None


def _lasting(document: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a document without what moves."""
    if isinstance(document, dict):
        return {name: _lasting(value) for name, value in document.items() if name not in _MOVES}
    return [_lasting(each) for each in document] if isinstance(document, list) else document


def _first_difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    name = next(each for each in {**ours, **theirs} if ours.get(each) != theirs.get(each))
    return f"{name} is {str(theirs.get(name))[:200]}, and not {str(ours.get(name))[:200]}"

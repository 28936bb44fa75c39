"""What must hold of retained documents after a tick, and when the world has come to rest: people see what is so.

They are compared with documents that are made anew from the orchestrator's state. What only the clock changes is left
out, and how healthy devices are, which is told when something else is.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.core.allowed import allowed_verbs
from orchestrator.core.documents import desired_bytes, plan_document, status_document, wave_document
from orchestrator.core.effects import ordered_devices
from orchestrator.core.explain import explain_rollout
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from schemas.codec import encode
from schemas.topics import Kind, TopicTree

_MOVES: Final = frozenset({"ts", "next_decision_at", "reasons", "soaked_seconds", "health", "healthy", "offline"})
"""Fields of what moves with the clock or with the devices' health."""


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

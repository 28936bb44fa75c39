"""What the stories share: a rollout that goes as it should, policies with a difference, and the account of it all."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from schemas.policy import Policy
from simulator import Result, World
from simulator.clock import START_SECONDS
from simulator.materials import brisk_policy
from simulator.scenario import ROLLOUT, WARM_UP_SECONDS

_PATIENCE_SECONDS: Final = 2 * 24 * 3600.0


def run(world: World) -> Result:
    """Run a story to its end; whatever it is about, no invariant may break."""
    result = world.run()
    assert result.violations == ()
    return result


def policy_with(
    *,
    canary: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    waves: Mapping[str, Any] | None = None,
    update: Mapping[str, Any] | None = None,
    gates: Mapping[str, Any] | None = None,
    **top: object,
) -> Policy:
    """Return the brisk policy with other values in these blocks; ``waves`` holds for each of them."""
    policy = brisk_policy()
    rollout = policy.rollout
    changed = rollout.model_copy(
        update={
            "canary": rollout.canary.model_copy(update=canary or {}),
            "global_": rollout.global_.model_copy(update=limits or {}),
            "waves": tuple(wave.model_copy(update=waves or {}) for wave in rollout.waves),
        }
    )
    rolling = policy.rolling_update.model_copy(update=update or {})
    judged = policy.health_gates.model_copy(update=gates or {})
    return policy.model_copy(update={"rollout": changed, "rolling_update": rolling, "health_gates": judged, **top})


def canaries(world: World) -> list[str]:
    return wave(world, 0)


def wave(world: World, number: int, rollout: str = ROLLOUT) -> list[str]:
    """Return the members that were planned for a wave."""
    return list(world.witness.ledger.rollouts[rollout].plan.waves[number].members)


def running(world: World, *names: str) -> set[str | None]:
    """Return the versions that really run, on all devices or on these."""
    chosen = [world.devices[name] for name in names or world.devices]
    return {app.version if (app := device.plant.application) else None for device in chosen}


def places(world: World, rollout: str = ROLLOUT) -> dict[str, list[str]]:
    """Return the members by where the rollout has them."""
    found: dict[str, list[str]] = {}
    for name, where in world.witness.ledger.rollouts[rollout].progress.items():
        found.setdefault(where, []).append(name)
    return {where: sorted(names) for where, names in found.items()}


def codes(world: World, verb: str) -> list[str]:
    """Return how a verb was answered each time, whoever used it."""
    replies = [reply for who in (world.person, world.colleague) for said, reply in who.replies if said == verb]
    return [
        reply.error.code if reply.error else "already_applied" if (reply.data or {}).get("already_applied") else "ok"
        for reply in replies
    ]


def facts(world: World, *kinds: str) -> list[tuple[float, dict[str, Any]]]:
    """Return what the journal holds of these kinds, each with the second since the rollout was asked for."""
    begin = START_SECONDS + WARM_UP_SECONDS
    entries = [each for each in world.orchestrator.journal.read() if each.kind in kinds]
    return [(each.at - begin, json.loads(each.body)) for each in entries]


def bodies(world: World, kind: str) -> list[dict[str, Any]]:
    """Return the facts of a kind."""
    return [fact for _, fact in facts(world, kind)]


def told(world: World, *kinds: str) -> list[str]:
    """Return the order in which these kinds were journaled."""
    return [fact["kind"] for _, fact in facts(world, *kinds)]


def gates(world: World) -> list[tuple[str | None, str, str]]:
    """Return every verdict that was acted upon: the canary's phase, what was judged, what was done about it."""
    return [
        (fact["phase"], fact["verdict"], fact["decision"])
        for fact in bodies(world, "gate_judged")
        if fact["decision"] != "watch"
    ]


def granted(world: World, device: str) -> list[float]:
    """Return when a device was let go, in seconds since the rollout was asked for."""
    return [at for at, fact in facts(world, "grant_issued") if (fact["device"], fact["step"]) == (device, "activate")]


def when(world: World, holds: Callable[[], bool], act: Callable[[], object]) -> None:
    """Do something as soon as something holds, which must be within two days; it is looked at every ten seconds."""

    def look() -> None:
        assert world.seconds < _PATIENCE_SECONDS, "what a story waits for never came"
        if holds():
            act()
        else:
            world.at(world.seconds + 10, look)

    world.at(0.0, look)


def hour(moment: float) -> int:
    """Return the hour of the day of a second since the rollout was asked for, in UTC."""
    return datetime.fromtimestamp(START_SECONDS + WARM_UP_SECONDS + moment, UTC).hour

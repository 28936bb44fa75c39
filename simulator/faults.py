"""What goes wrong in a simulation, as one value; a swarm draws a random part of it for each seed.

Chances are 0..1. Everything stops going wrong at ``stop_seconds`` after the rollout was asked for, and then the world
must come to rest.
"""

import random
from dataclasses import dataclass, replace
from typing import Any, Final

from device_client.core.events import HOOKS
from device_client.core.setup import Setup
from simulator.application import GOOD, Behavior, crashing, failing, slow
from simulator.clock import stream
from simulator.materials import DeviceSpec


@dataclass(frozen=True, slots=True)
class Faults:
    """Everything that may go wrong; the default is a world in which nothing does.

    Attributes:
        loss: Of a QoS 0 message, on each leg.
        duplicate: Of a message, on each leg.
        delay_seconds: Typical delay of a packet; one in fifty takes up to a hundred times as long.
        cuts_per_hour: How often each connection breaks.
        sleeps_per_hour: How often each device falls asleep, for up to half an hour.
        power_cut: At each effect of a device.
        step_failure: Of a fetch, a verification or an install; most pass by themselves.
        hook_waits: Of a hook, that it says "later".
        orchestrator_crash: At each entry into the journal, before anything is done about it.
        orchestrator_kills_per_hour: How often it is killed between two messages.
        orchestrator_hangs_per_hour: How often it hangs, another takes over, and the first one wakes up again.
        broker_restarts_per_hour: How often the broker restarts.
        broker_keeps_sessions: Over its restarts.
        broker_keeps_retained: Over its restarts.
        broker_rewinds: What it keeps is what it has saved last, minutes ago.
        clumsy_humans: People approve late, twice or for the wrong wave, pause, resume and pull the brake.
        wrong_clocks: Of a device, that its clock is wrong: in 1970, ten years ahead, jumping, or slow for good.
        rot_per_hour: How often the bytes of a slot of some device change by themselves.
        disk_failure: Of a device's disk, at each write: full, or broken.
        clones_per_hour: How often a device's disk is copied into another one, which then has its name, for a while.
        one_way_cuts_per_hour: How often nothing passes in one direction of a connection for a while.
        queued_max: Messages that the broker keeps for a session beside those under way; the newest are dropped.
        floods_per_hour: How often some device sends many times what it may, for a moment or for longer than a minute.
        lies_per_hour: How often some device sends what is no sample, an old one, one in another's name or shard, or
            counts anew.
        journal_failure: Of a write into the journal, that the disk refuses it.
        orchestrator_doubles_per_hour: How often a second orchestrator is started while the first one works.
        restores_per_hour: How often an earlier copy of the journal is put back.
        key_changes_per_hour: How often the key that commands are signed with is changed, in three steps.
        revokes_per_hour: How often somebody revokes the new release.
        stop_seconds: When all of this ends.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    delay_seconds: float = 0.0
    cuts_per_hour: float = 0.0
    sleeps_per_hour: float = 0.0
    power_cut: float = 0.0
    step_failure: float = 0.0
    hook_waits: float = 0.0
    orchestrator_crash: float = 0.0
    orchestrator_kills_per_hour: float = 0.0
    orchestrator_hangs_per_hour: float = 0.0
    broker_restarts_per_hour: float = 0.0
    broker_keeps_sessions: bool = True
    broker_keeps_retained: bool = True
    broker_rewinds: bool = False
    clumsy_humans: bool = False
    wrong_clocks: float = 0.0
    rot_per_hour: float = 0.0
    disk_failure: float = 0.0
    clones_per_hour: float = 0.0
    one_way_cuts_per_hour: float = 0.0
    queued_max: int | None = None
    floods_per_hour: float = 0.0
    lies_per_hour: float = 0.0
    journal_failure: float = 0.0
    orchestrator_doubles_per_hour: float = 0.0
    restores_per_hour: float = 0.0
    key_changes_per_hour: float = 0.0
    revokes_per_hour: float = 0.0
    stop_seconds: float = 2700.0


NO_FAULTS: Final = Faults()
_STOPS_SECONDS: Final = (900.0, 1800.0, 2700.0)
"""When a seed's faults end: before most canaries have passed, between waves, or when most rollouts are over."""
_ODDS: Final = 0.3
"""That a device has something beside its slots."""
_RARE: Final = 0.2
"""That a seed has one of the rarer faults."""
RARER: Final = {
    "wrong_clocks": 1.0,
    "rot_per_hour": 6.0,
    "disk_failure": 0.05,
    "clones_per_hour": 2.0,
    "one_way_cuts_per_hour": 6.0,
    "floods_per_hour": 3.0,
    "lies_per_hour": 60.0,
    "journal_failure": 0.05,
    "orchestrator_doubles_per_hour": 3.0,
    "restores_per_hour": 2.0,
    "key_changes_per_hour": 6.0,
    "revokes_per_hour": 1.0,
}
"""The rarer faults, each with the worst that is drawn."""


def draw_faults(seed: int) -> Faults:
    """Return the faults of a seed: each kind is there with even odds, and as bad as is drawn."""
    rng = stream(seed, "faults")
    worst: dict[str, float] = {
        "loss": 0.3,
        "duplicate": 0.2,
        "delay_seconds": 1.0,
        "cuts_per_hour": 6.0,
        "sleeps_per_hour": 1.5,
        "power_cut": 0.01,
        "step_failure": 0.6,
        "orchestrator_crash": 0.05,
        "orchestrator_kills_per_hour": 3.0,
        "broker_restarts_per_hour": 2.0,
        "orchestrator_hangs_per_hour": 1.0,
    }
    drawn: dict[str, Any] = {name: rng.random() * most for name, most in worst.items() if rng.random() < 0.5}  # noqa: PLR2004 - even odds
    return replace(
        NO_FAULTS,
        **drawn,
        broker_keeps_sessions=_flip(rng),
        broker_keeps_retained=_flip(rng),
        broker_rewinds=_flip(rng),
        clumsy_humans=_flip(rng),
        hook_waits=stream(seed, "hooks").uniform(0, 0.5),
        stop_seconds=stream(seed, "stop").choice(_STOPS_SECONDS),
        **_draw_rarer(seed),
    )


def _draw_rarer(seed: int) -> dict[str, Any]:
    """Each has random numbers of its own, so that one more does not change what a seed has of the others."""
    drawn: dict[str, Any] = {}
    for name, most in RARER.items():
        rng = stream(seed, f"faults/{name}")
        if rng.random() < _RARE:
            drawn[name] = rng.random() * most
    rng = stream(seed, "faults/queued_max")
    return drawn | ({"queued_max": rng.randint(0, 2)} if rng.random() < _RARE else {})


def draw_behavior(seed: int, device_types: tuple[str, ...]) -> Behavior:
    """Return how a seed's new version behaves: half of them are good."""
    rng = stream(seed, "release")
    behaviors = (
        crashing(rng.uniform(0.05, 0.9)),
        failing(rng.uniform(0.05, 0.6), after_seconds=rng.choice((0.0, 600.0, 1800.0))),
        slow(rng.uniform(1.5, 10)),
        Behavior(leak_bytes_per_second=1e5, crashes_per_minute=0.2, begins_after_seconds=900.0),
        Behavior(sick_after_seconds=rng.choice((0.0, 100.0, 900.0))),
        Behavior(silent_after_seconds=rng.choice((0.0, 300.0))),
        Behavior(starts=False),
    )
    bad = rng.choice(behaviors)
    if _flip(rng):
        return GOOD
    return replace(bad, device_types=(rng.choice(device_types),)) if _flip(rng) else bad


def draw_setups(seed: int, fleet: tuple[DeviceSpec, ...]) -> tuple[DeviceSpec, ...]:
    """Return a seed's fleet, in which every device is equipped in its own way."""
    rng = stream(seed, "setups")
    return tuple(replace(spec, setup=_draw_setup(rng)) for spec in fleet)


def _draw_setup(rng: random.Random) -> Setup:
    return Setup(
        has_router=rng.random() < _ODDS,
        drains=rng.random() < _ODDS,
        hooks=HOOKS if rng.random() < _ODDS / 2 else frozenset(),
        needs_consent=rng.random() < _ODDS / 2,
    )


def _flip(rng: random.Random) -> bool:
    return rng.random() < 0.5  # noqa: PLR2004 - even odds

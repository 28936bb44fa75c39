"""Whole rollouts in virtual time, from a seed: the real cores; clock, network, disk and applications are simulated.

``simulate(seed)`` runs one and returns what became of it; ``World(make_scenario(...))`` tells a story. After every step
the world is held against invariants that know the ground truth (``device_invariants``, ``rollout_invariants``,
``endings``, ``witness``). Of the 25 invariants of the reliability design these are not covered yet:

* INV-9 and INV-8 hold as ``orchestrator.core.grants`` defines them: by what the orchestrator believes to be online.
* INV-5 is checked when a device is awake and handles an event, not between events.
* INV-20 (containment of floods) and INV-24 (bounds of paths and memory) need the real shells; nothing here floods.
* INV-22 (baselines) is the telemetry's own test; here only its consequence, gates and triggers, is seen.
* INV-13 covers one orchestrator after another; two at the same time are not simulated, nor are clock jumps (INV-25),
  forged messages (INV-19 is checked, but nobody forges), damaged slots, and a broker that is rewound to older retained
  documents.
"""

from simulator.application import GOOD, Behavior, crashing, failing, slow
from simulator.faults import NO_FAULTS, Faults
from simulator.scenario import Scenario, make_scenario
from simulator.world import Result, World, simulate

__all__ = [
    "GOOD",
    "NO_FAULTS",
    "Behavior",
    "Faults",
    "Result",
    "Scenario",
    "World",
    "crashing",
    "failing",
    "make_scenario",
    "simulate",
    "slow",
]

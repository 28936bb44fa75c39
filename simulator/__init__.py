"""Whole rollouts in virtual time, from a seed: the real cores; clock, network, disk and applications are simulated.

``simulate(seed)`` runs one and returns what became of it; ``World(make_scenario(...))`` tells a story. After every step
the world is held against invariants that know the ground truth (``device_invariants``, ``rollout_invariants``,
``watch_invariants``, ``endings``, ``witness``). Of the 25 invariants of the reliability design these are not covered:

* INV-9 and INV-8 hold as ``orchestrator.core.grants`` defines them: by what the orchestrator believes to be online.
* INV-20 (containment of floods) and INV-24 (bounds of paths and memory) need the real shells; nothing here floods.
* INV-22 (baselines) is the telemetry's own test; here only its consequence, gates and triggers, is seen.
* INV-13 covers an orchestrator that hangs while another takes over, not two that reach the broker at the same moment.
* Nobody jumps a clock (INV-25) or damages a slot; messages are forged in a story (INV-19), not from seeds.
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

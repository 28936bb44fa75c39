"""Whole rollouts in virtual time, from a seed: the real cores; clock, network, disk and applications are simulated.

``simulate(seed)`` runs one and returns what became of it; ``World(make_scenario(...))`` tells a story. After every step
the world is held against invariants that know the ground truth: ``device_invariants``, ``disk_invariants``,
``rollout_invariants``, ``tries_invariants``, ``watch_invariants``, ``baseline_invariants``, ``telemetry``, ``endings``,
``view_invariants``, ``witness``. Which of the invariants is which function, and what they do not show, stands in
``docs/RELIABILITY.md``.
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

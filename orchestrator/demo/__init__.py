"""``tidegate demo``: the product's main job on this machine, with a real broker, real agents and a real application.

Twelve devices run version 1.0.0. A rollout of 1.1.0, which fails under load, is stopped at the canary and rolled back;
one of 1.2.0 goes through the canary, an approval and the waves to all. Every part is a process of its own and ends
with it.
"""

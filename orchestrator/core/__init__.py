"""The rollout engine: every rule of the orchestrator, as pure functions over values.

``decide_*`` say what happens next and change nothing; ``evolve`` applies one fact and holds no rule; ``react`` names
what the shell must then do. ``now`` is an argument, in seconds since the Unix epoch, and never falls.
"""

"""The guardian: brings the previous slot back when the agent cannot.

A program of its own, on Python alone: no network, no third-party package, and of ours only modules that need neither.
What breaks the agent, its dependencies or the broker does not break this.
"""

"""The wire contract: ids, topics, messages, policy, manifest, codec.

Shared by every part of tidegate and imported by all of them. Holds values and rules only: no I/O, no clock, and
nothing of the programs. An independent client needs this package's contents and nothing else.
"""

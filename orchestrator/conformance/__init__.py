"""The conformance kit: it plays the orchestrator against one device and says which clauses of the contract it keeps.

A ``script`` drives the device through phases and records what is seen in a ``transcript``; ``clauses`` judge the
transcript afterwards and know nothing of brokers and clocks.
"""

"""An MQTT 3.1.1 and 5 broker: a pure core, and an asyncio server around it.

The core (``core``, ``session``, ``trie``, ``codec`` and what they import) takes packets and the time and returns
outputs. The server (``server``, ``store``, ``__main__``) owns sockets, disk and clock. It is made for trying out,
tests and small fleets; in production use mosquitto or your own broker.
"""

"""Who orders and grants, for a benchmark with one device: one install, over the bus and from a registry."""

import hashlib
import queue
import time
from typing import Final

import paho.mqtt.client as paho
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

from orchestrator.adapters import clock
from orchestrator.core.releases import StoredRelease
from schemas.codec import decode, encode
from schemas.dsse import GRANT_TYPE, seal
from schemas.manifest import NOARCH
from schemas.messages import Desired, Grant, HealthCheck, Ready, Reported
from schemas.times import format_timestamp
from schemas.topics import Kind, TopicTree

INSTALL_SECONDS: Final = 120.0
"""What the device has for all of it."""
TREE: Final = TopicTree()


def install_by_order(port: int, device: str, release: StoredRelease, registry: str, key: Ed25519PrivateKey) -> None:
    """Order ``release``, grant each step that the device asks for, and return when it is committed.

    From then on the device probes and samples at the reference's pace, once in 30 s.
    """
    heard: queue.Queue[tuple[Kind, bytes]] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="orchestrator")
    topics = {TREE.build(kind, device=device): kind for kind in (Kind.READY, Kind.REPORTED)}
    client.on_connect = lambda *_: client.subscribe([(topic, 1) for topic in topics])
    client.on_message = lambda _client, _data, message: heard.put((topics[message.topic], bytes(message.payload)))
    client.connect("127.0.0.1", port)
    client.loop_start()
    desired = encode(_order(release, registry))
    client.publish(TREE.build(Kind.DESIRED, device=device), desired, qos=1, retain=True)
    deadline, granted = time.monotonic() + INSTALL_SECONDS, 0
    try:
        while True:
            kind, payload = heard.get(timeout=deadline - time.monotonic())
            if kind is Kind.READY:
                granted += 1
                grant = _go(device, decode(Ready, payload), granted, desired)
                client.publish(TREE.build(Kind.GRANT, device=device), seal(GRANT_TYPE, encode(grant), key), qos=1)
            elif _is_done(decode(Reported, payload), release):
                assert granted, "it was committed without a grant"
                return
    finally:
        client.disconnect()
        client.loop_stop()


def _order(release: StoredRelease, registry: str) -> Desired:
    manifest, artifact = release.by_arch[NOARCH].references((registry,))
    return Desired(
        generation=1, epoch=1, rollout="r-1", wave="canary", action="install", release=release.release,
        version=release.version, manifest=manifest, artifact=artifact,
        health_check=HealthCheck(success_threshold=1), min_ready_seconds=0.0,
    )  # fmt: skip


def _go(device: str, ready: Ready, seq: int, desired: bytes) -> Grant:
    return Grant(
        device=device, generation=ready.generation, step=ready.step, epoch=1, seq=seq, nonce=ready.nonce,
        decision="go", desired_sha256=hashlib.sha256(desired).hexdigest(), ttl_seconds=60.0,
        server_time=format_timestamp(clock.now()),
    )  # fmt: skip


def _is_done(reported: Reported, release: StoredRelease) -> bool:
    if reported.observed_generation < 1:
        return False
    assert reported.error is None or reported.error.retryable, reported.error
    return (reported.state, reported.installed_version) == ("idle", release.version)

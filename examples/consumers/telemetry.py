"""Print what each sample of a fleet's health says, and what has changed since the one before.

Usage: python telemetry.py mqtt://viewer:PASSWORD@127.0.0.1:1884
"""

import json
import sys
import time
from typing import Any
from urllib.parse import unquote, urlsplit

import msgpack
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

TOPIC = "fleet/v1/health/+/+"  # shard, device
seen: dict[str, tuple[float, dict[str, Any]]] = {}  # by device: when the last sample came, and what it said


def on_connect(client: mqtt.Client, *_: object) -> None:
    """Subscribe, after each connect: the session is a clean one."""
    client.subscribe(TOPIC, qos=0)


def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
    """Tell of one sample."""
    device, now, sample = message.topic.rsplit("/", 1)[1], time.monotonic(), read(message.payload)
    before_at, before = seen.get(device, (now, sample))
    seen[device] = (now, sample)
    if now == before_at or sample.get("boot_id") != before.get("boot_id"):
        return  # the first, or counters began again: there is nothing to compare with
    health = "healthy" if sample.get("healthy") else "not healthy"
    counted = ", ".join(f"{grown(before, sample, name)} {name}" for name in ("requests", "errors"))
    print(f"{device}  {sample.get('version')}  {health}  {counted} in {now - before_at:.1f} s", flush=True)


def read(payload: bytes) -> dict[str, Any]:
    """Return what a sample says, in JSON or, as the agent sends it, in msgpack; the first byte tells."""
    try:
        return dict(json.loads(payload) if payload[:1] == b"{" else msgpack.unpackb(payload))
    except (ValueError, TypeError):
        return {}  # no sample; the orchestrator counts those


def grown(before: dict[str, Any], after: dict[str, Any], name: str) -> object:
    """Return by how much a counter has grown; a dash if it is not measured."""
    first, last = before.get(f"{name}_total"), after.get(f"{name}_total")
    return "-" if first is None or last is None else last - first


if __name__ == "__main__":
    url = urlsplit(sys.argv[1])
    connection = mqtt.Client(CallbackAPIVersion.VERSION2)
    connection.username_pw_set(unquote(url.username or "viewer"), unquote(url.password or ""))
    connection.on_connect, connection.on_message = on_connect, on_message
    connection.connect(url.hostname or "127.0.0.1", url.port or 1883)
    connection.loop_forever()  # a lost connection comes back by itself

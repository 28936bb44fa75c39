"""Print what each sample of a fleet's health says, and what has changed since the one before.

Usage: python telemetry.py mqtt://viewer:PASSWORD@127.0.0.1:1884
"""

import json
import sys
import time
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

TOPIC = "fleet/v1/health/+/+"  # shard, device
seen: dict[str, tuple[float, dict[str, Any]]] = {}
"""By device: when the last sample came, and what it said."""


def on_connect(client: mqtt.Client, *_: object) -> None:
    """Subscribe, after each connect: the session is a clean one."""
    client.subscribe(TOPIC, qos=0)


def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
    """Tell of one sample."""
    device, now = message.topic.rsplit("/", 1)[1], time.monotonic()
    try:
        sample = json.loads(message.payload)
    except ValueError:  # msgpack, or no sample at all: the orchestrator counts those
        return
    before_at, before = seen.get(device, (now, sample))
    seen[device] = (now, sample)
    if now == before_at or sample.get("boot_id") != before.get("boot_id"):
        return  # the first, or counters began again: there is nothing to compare with
    health = "healthy" if sample.get("healthy") else "not healthy"
    counted = ", ".join(f"{grown(before, sample, name)} {name}" for name in ("requests", "errors"))
    print(f"{device}  {sample.get('version')}  {health}  {counted} in {now - before_at:.1f} s", flush=True)


def grown(before: dict[str, Any], after: dict[str, Any], name: str) -> object:
    """Return by how much a counter has grown; a dash if it is not measured."""
    first, last = before.get(f"{name}_total"), after.get(f"{name}_total")
    return "-" if first is None or last is None else last - first


def main(address: str) -> None:
    """Listen until it is ended; a lost connection comes back by itself."""
    url = urlsplit(address)
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(unquote(url.username or "viewer"), unquote(url.password or ""))
    client.on_connect, client.on_message = on_connect, on_message
    client.connect(url.hostname or "127.0.0.1", url.port or 1883)
    client.loop_forever()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "mqtt://127.0.0.1:1883")

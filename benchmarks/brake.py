"""How long the emergency brake takes: from ``all/hold``, published by a person, until the last connected device has it.

A broker with its database, an orchestrator and the devices are processes of their own on this machine. The brake is one
retained message that the broker fans out; nothing of ours stands between the person and the devices.
"""

import argparse
import asyncio
import time

import aiomqtt
from scene import OPERATOR, Scene, connected_fleet, told
from swarm import TREE

from orchestrator.cli.bus import connect
from schemas.topics import Kind

BAR_SECONDS = 1.0
HOLD = b'{"reason": "to see how long it takes", "by": "operator"}'


async def _publish(client: aiomqtt.Client, payload: bytes) -> None:
    await client.publish(TREE.build(Kind.HOLD), payload, qos=1, retain=True)


def run_once(scene: Scene) -> float:
    """Pull the brake, wait for the last device, and let go; return the seconds until then."""

    async def pull(payload: bytes) -> float:
        async with connect(scene.broker.url_for(OPERATOR)) as client:
            at = time.time()  # noqa: TID251 - the clock that the devices' process has
            await _publish(client, payload)
            return at

    pulled_at = asyncio.run(pull(HOLD))
    last_at = scene.swarm.all_got("hold set")
    asyncio.run(pull(b""))
    scene.swarm.all_got("hold cleared")
    return last_at - pulled_at


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--broker", choices=("embedded", "mosquitto"), default="embedded")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with connected_fleet(options.devices, options.broker) as scene:
        runs = [run_once(scene) for _ in range(options.runs)]
    name = f"brake_{options.devices}_devices_{options.broker}_seconds"
    title = f"emergency brake to {options.devices} devices over the {options.broker} broker"
    print(told(name, title, runs, BAR_SECONDS, as_json=options.json, slowest=round(max(runs), 3)))


if __name__ == "__main__":
    main()

"""Fifty devices of one site: what crosses the line, with one of them lying and two killed while they give."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from device_client.adapters.chunk_fetch import Receipt
from device_client.adapters.peer_server import PeerLimits
from device_client.adapters.peers import ORIGIN
from tests.device.chunk_world import Registry, made_world, places_of, serving
from tests.device.device_world import sha256
from tests.device.peer_world import Device, Plant, devices, lie

DEVICES = 50
FIRST = 2
SLOW = 5
QUICK_LIMITS = PeerLimits(bytes_per_second=2_000_000)
SLOW_LIMITS = PeerLimits(bytes_per_second=200_000)
GIVER = """
import sys, time
from pathlib import Path
from device_client.adapters.peer_server import PeerLimits, PeerServer
from device_client.adapters.slots import Slots
server = PeerServer(Slots(Path(sys.argv[1])), "127.0.0.1", 0, PeerLimits(bytes_per_second=2_000_000))
server.start()
while server.port is None:
    time.sleep(0.01)
print(server.port, flush=True)
time.sleep(300)
"""


@contextmanager
def giver_process(device: Device) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Let a process of its own give what ``device`` has, so that it can be killed."""
    process = subprocess.Popen([sys.executable, "-c", GIVER, str(device.folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def given_by(registry: Registry, folder: Path) -> int:
    """Return how many bytes of chunks, lists and archives the registry was asked for."""
    return sum(
        count * (folder / path.lstrip("/")).stat().st_size
        for path, count in registry.asked.items()
        if not path.startswith("/manifests/")
    )


def test_fifty_devices_take_from_the_registry_what_three_would(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = stack.enter_context(made_world(tmp_path / "world"))
        built = world.built["1.1.0"]
        slow = stack.enter_context(devices(tmp_path / "slow", SLOW, limits=SLOW_LIMITS))
        quick = stack.enter_context(devices(tmp_path / "quick", DEVICES - FIRST - SLOW, limits=QUICK_LIMITS))
        fleet = [*slow, *quick]
        seeds = stack.enter_context(devices(tmp_path / "seeds", FIRST, gives=False))
        liar = stack.enter_context(serving(tmp_path / "nothing"))
        liar.disturb = lie
        plant = Plant(world.registry, built, devices=fleet)
        plant.has_it(liar.url)
        doomed: list[subprocess.Popen[str]] = []
        guard, done = threading.Lock(), [0]

        def follow(device: Device) -> Receipt | None:
            receipt = device.install(plant.source(wait_seconds=60))
            plant.has_it(device.url)
            with guard:
                done[0] += 1
                if done[0] == 4:  # the two are being asked by all the others now
                    for process in doomed:
                        process.kill()
                        process.wait()
            return receipt

        with ThreadPoolExecutor(DEVICES - FIRST) as pool:
            waiting = [pool.submit(follow, device) for device in fleet]
            first = [device.install(plant.source(wait_seconds=0)) for device in seeds]
            givers = [stack.enter_context(giver_process(device)) for device in seeds]
            doomed += [process for _, process in givers]
            for url, _ in givers:
                plant.has_it(url)
            receipts = [each.result(timeout=120) for each in waiting]

        artifact_bytes = sum({each.chunk: each.stored_bytes for each in places_of(built)}.values())
        list_bytes = (world.store / "chunks" / sha256(built.chunk_list)).stat().st_size
        egress_bytes = given_by(world.registry, world.store)
        assert FIRST * artifact_bytes <= egress_bytes <= 3 * (artifact_bytes + list_bytes)
        digests = {device.slots.check("green").tree_digest for device in (*seeds, *fleet)}
        assert len(digests) == 1
        assert all(receipt is not None for receipt in (*first, *receipts))
        assert sum(ORIGIN in receipt.content_bytes for receipt in receipts if receipt is not None) == len(fleet)
        assert all(process.poll() is not None for process in doomed)
        assert {url for device in fleet for url, _ in device.distrusted} == {liar.url}
        assert sum(liar.asked.values()) <= 4 * len(fleet)

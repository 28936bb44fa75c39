"""A device that fetches, verifies and installs one release and tells what that took; it does nothing else."""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.slots import Slots
from device_client.adapters.trust import PinnedKeys
from device_client.core.effects import Source
from schemas.messages import ArtifactRef, HealthCheck, ManifestRef, SlotName

_MB = 1e6


def update(
    root: str,
    slot: SlotName,
    key: str,
    *,
    manifest: Any,  # noqa: ANN401 - JSON
    artifact: Any,  # noqa: ANN401 - the same
    number: int,
) -> dict[str, object]:
    """Bring release ``number`` into ``slot``; the process that unpacks counts too."""
    slots = Slots(Path(root))
    artifacts = Artifacts(slots, Identity("noarch", "any", PinnedKeys((bytes.fromhex(key),))))
    order = Source(ManifestRef(**manifest), ArtifactRef(**artifact), f"app-{number}", str(number), 0)
    idle_memory_mb = memory_mb()
    before = resource.getrusage(resource.RUSAGE_SELF)
    receipt = artifacts.fetch(order, lambda: False, lambda _: None)
    artifacts.verify(order)
    artifacts.install(order, slot, HealthCheck())
    after, apart = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    lists = sum(path.stat().st_size for path in slots.staging.iterdir() if path.suffix == ".chunks")
    slots.clear_staging()
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + apart.ru_utime + apart.ru_stime
    return {
        "fetched_bytes": artifact["size_bytes"] if receipt is None else sum(receipt.carried_bytes.values()) + lists,
        "cpu_seconds": round(seconds, 2),
        "memory_mb": memory_mb(),
        "idle_memory_mb": idle_memory_mb,
        "in_chunks": receipt is not None,
    }


def memory_mb() -> float:
    """Return what was resident at most so far; what getrusage says includes the parent's at the fork."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / _MB, 1)


if __name__ == "__main__":
    print(json.dumps(update(**json.loads(sys.argv[1]))))

"""Orders on media for a device core on a bench."""

from typing import Any

from device_client.core.effects import Effect
from device_client.core.events import MediaOrderFound, MediaSeen
from schemas.media import MediaOrder, MediaTarget
from schemas.times import format_timestamp
from tests.device.device_bench import CHECK, Bench, digest

MADE_AT = 1_790_000_000.0
DAY_SECONDS = 86400.0


def make_media_order(number: int = 10, version: str = "1.1.0", **changes: Any) -> MediaOrder:  # noqa: ANN401 - any field
    values: dict[str, Any] = {
        "number": number,
        "made_at": format_timestamp(MADE_AT),
        "not_after": None,
        "devices": ("pi-1",),
        "groups": (),
        "release": f"app-{version}",
        "version": version,
        "targets": (make_target(version),),
        "strategy": "blue_green",
        "health_check": CHECK,
        "min_ready_seconds": 60.0,
        "progress_deadline_seconds": 300.0,
    }
    return MediaOrder(**{**values, **changes})


def make_target(version: str = "1.1.0", arch: str = "noarch") -> MediaTarget:
    return MediaTarget(
        arch=arch,
        manifest_sha256=digest(f"manifest {version}"),
        manifest_size_bytes=1,
        artifact_sha256=digest(f"artifact {version}"),
        artifact_size_bytes=1,
    )


def found(order: MediaOrder) -> MediaOrderFound:
    return MediaOrderFound(order, digest(order.model_dump_json()))


def look(bench: Bench, *orders: MediaOrder, clock: float = MADE_AT + 60) -> list[Effect]:
    """Let the device see a medium with these orders; none: let it see that there is no medium."""
    return bench.send(MediaSeen(tuple(map(found, orders)), clock))


def alone(**changes: Any) -> Bench:  # noqa: ANN401 - any field
    """Return a device that runs 1.0.0 and has never met a broker."""
    bench = Bench(**changes)
    bench.start(connected=False)
    return bench

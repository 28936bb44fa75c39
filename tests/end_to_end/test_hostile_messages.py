"""What says nothing on the bus is refused, counted and logged once, and changes nothing."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiomqtt
import pytest

from orchestrator.cli.bus import request
from schemas.codec import encode
from schemas.ids import shard_of
from schemas.messages import HealthSample, Info, Ready
from tests.end_to_end.stage import Stage, make_stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        made = make_stage(stack, tmp_path, ["pi-1", "pi-2"])
        made.start()
        yield made


async def test_messages_that_say_nothing_are_logged_once_for_each_topic_and_change_nothing(stage: Stage) -> None:
    url = stage.broker.url_for("pi-1", is_device=True)
    other_shard = "00" if shard_of("pi-1") != "00" else "01"
    sample = encode(HealthSample(seq=1, boot_id="b"))
    info = Info(session=1, boot_id="b", agent="a", device_type="t", arch="a", region="r", group="g")
    async with aiomqtt.Client(
        url.host, url.port, username=url.username, password=url.password, identifier="pi-1"
    ) as pi:
        for _ in range(3):
            await pi.publish("fleet/v1/device/pi-1/info", b"\xff\xfe not a document", 1)
        await pi.publish("fleet/v1/device/pi-1/reported", b'{"observed_generation":NaN}', 1)
        await pi.publish("fleet/v1/device/pi-1/ready", encode(Ready(generation=1, step="activate", nonce="0" * 32)), 1)
        await pi.publish(f"fleet/v1/health/{other_shard}/pi-1", sample, 1)
        await pi.publish("fleet/v1/device/pi-2/info", encode(info), 1)  # Somebody else's: the broker drops it.
        await pi.publish("fleet/v1/device/pi-1/availability", b"perhaps", 1)
        for _ in range(100):
            log = (stage.folder / "orchestrator.log").read_text()
            # Health is heard over a connection of its own.
            if ("perhaps" in log or "availability" in log) and "foreign_shard" in log:
                break
            await asyncio.sleep(0.05)

    refused = [line for line in log.splitlines() if "message refused" in line]
    assert sum("device/pi-1/info" in line for line in refused) == 1
    assert any("device/pi-1/reported" in line and "NaN is no number" in line for line in refused)
    assert any(f"health/{other_shard}/pi-1" in line and "foreign_shard" in line for line in refused)
    answer = await request(stage.operator(), "list", {}, timeout_seconds=10)
    assert answer.data is not None
    assert answer.data["devices"] == 0
    assert [fact.kind for fact in stage.facts()] == ["epoch_opened"]

"""What an agent that was started again tells of an application, and of a device, that went on meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from device_client.adapters import sampler as sampling
from device_client.adapters.hardware import Hardware
from device_client.adapters.hosting import Instance
from device_client.adapters.sampler import Sampler, Sources
from device_client.core.events import Probed
from schemas.codec import HEALTH, decode
from schemas.messages import HealthSample
from tests.device.device_world import until
from tests.device.test_agent_end_to_end import World, made_world

BLUE, GREEN = Instance("blue", "serving", "1"), Instance("green", "serving", "2")


class Pages:
    """What each port's page of metrics says; no page where there is nothing."""

    def __init__(self) -> None:
        self.served: dict[int, tuple[int, int]] = {}

    def serve(self, port: int, *, fast: int, slow: int) -> None:
        """Say how many requests there were since the application's start; half of the slow ones have failed."""
        self.served[port] = (fast, slow)

    def get(self, port: int, *_: object) -> bytes | None:
        if port not in self.served:
            return None
        fast, slow = self.served[port]
        return f"""\
app_requests_total {fast + slow}
app_errors_total {slow // 2}
app_request_duration_seconds_bucket{{le="0.01"}} {fast}
app_request_duration_seconds_bucket{{le="2.5"}} {fast + slow}
app_request_duration_seconds_bucket{{le="+Inf"}} {fast + slow}
""".encode()


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Pages:
    made = Pages()
    monkeypatch.setattr(sampling, "get", made.get)
    return made


def make_sampler(folder: Path, *found: Instance) -> Sampler:
    return Sampler(folder, "boot", lambda: 1.0, Sources(lambda _: None, Hardware(folder)), found)


def take(sampler: Sampler, instance: Instance, port: int = 1) -> tuple[int | None, int | None, int]:
    """Return requests and errors in total, and how many latencies a sample holds."""
    sample = sampler.take(instance, port, Probed(ok=True, version="1"), 0)
    return sample.requests_total, sample.errors_total, sum(sample.latency.counts) if sample.latency else 0


def test_what_was_served_before_an_application_was_taken_over_is_not_told_again(pages: Pages, tmp_path: Path) -> None:
    pages.serve(1, fast=1_000_000, slow=900)
    sampler = make_sampler(tmp_path, BLUE)

    assert take(sampler, BLUE) == (0, 0, 0)

    pages.serve(1, fast=1_000_000, slow=1800)
    assert take(sampler, BLUE) == (900, 450, 900)


def test_an_application_that_was_started_here_is_counted_from_its_start(pages: Pages, tmp_path: Path) -> None:
    pages.serve(1, fast=70, slow=10)

    assert take(make_sampler(tmp_path), BLUE) == (80, 5, 80)
    assert take(make_sampler(tmp_path, BLUE), Instance("blue", "serving", "3")) == (80, 5, 80)


def test_counting_begins_with_the_first_page_that_comes(pages: Pages, tmp_path: Path) -> None:
    sampler = make_sampler(tmp_path, BLUE)
    assert take(sampler, BLUE) == (None, None, 0)

    pages.serve(1, fast=500, slow=0)
    assert take(sampler, BLUE) == (0, 0, 0)
    pages.serve(1, fast=510, slow=0)
    assert take(sampler, BLUE) == (10, 0, 10)


def test_an_application_that_serves_again_beside_another_is_not_counted_twice(pages: Pages, tmp_path: Path) -> None:
    sampler = make_sampler(tmp_path)
    pages.serve(1, fast=100, slow=0)
    pages.serve(2, fast=7, slow=0)
    assert take(sampler, BLUE, 1) == (100, 0, 100)
    assert take(sampler, GREEN, 2) == (107, 0, 7)

    assert take(sampler, BLUE, 1) == (107, 0, 0), "the router did not follow, and blue serves on"
    pages.serve(1, fast=103, slow=0)
    assert take(sampler, BLUE, 1) == (110, 0, 3)


def make_cores(sys: Path, count: int) -> None:
    folder = sys / "devices/system/cpu/cpu0/thermal_throttle"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "core_throttle_count").write_text(str(count))


def make_firmware(sys: Path, word: str) -> None:
    path = sys / "devices/platform/soc/soc:firmware/get_throttled"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(word)


def test_throttling_is_told_once_a_boot_of_the_device_however_often_its_agent_is_started(tmp_path: Path) -> None:
    make_cores(tmp_path / "counts", 17)
    make_firmware(tmp_path / "states", "20002")
    for name, told in (("counts", 17), ("states", 1)):
        assert Hardware(tmp_path / name).throttle_events_total() == told
        again = Hardware(tmp_path / name, is_new_boot=False)
        assert again.throttle_events_total() == 0
        if name == "counts":
            make_cores(tmp_path / name, 19)
            assert again.throttle_events_total() == 2
        else:
            for word in ("20000", "20004"):
                make_firmware(tmp_path / name, word)
                count = again.throttle_events_total()
            assert count == 1


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with made_world(tmp_path) as made:
        yield made


def samples(world: World) -> list[HealthSample]:
    """Return those of the agent that lives, as far as they say what the application has counted."""
    found = [
        decode(HealthSample, payload, HEALTH) for topic, payload in world.orchestrator.messages if "/health/" in topic
    ]
    return [each for each in found if each.boot_id == found[-1].boot_id and each.requests_total is not None]


def test_an_agent_that_was_killed_goes_on_with_what_is_served_from_then_on(world: World) -> None:
    world.with_old_version()
    for _ in range(5):
        assert world.agent.ask("/measure")
    until(lambda: (found := samples(world)) and found[-1].requests_total == 5)
    before = samples(world)[-1].boot_id

    world.agent.kill()
    assert world.agent.ask("/measure"), "it outlives its agent"
    world.agent.start()

    first = until(lambda: next((each for each in samples(world) if each.boot_id != before), None))
    assert (first.requests_total, first.errors_total, first.latency) == (0, 0, None)
    for _ in range(2):
        assert world.agent.ask("/measure")
    until(lambda: samples(world)[-1].requests_total == 2)
    assert sum(sum(each.latency.counts) for each in samples(world) if each.latency) == 2

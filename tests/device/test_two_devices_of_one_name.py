"""A device and its clone: they take the connection from each other, ever more slowly, and never in step."""

import time
from collections.abc import Iterator

import pytest

from device_client.adapters import mqtt
from device_client.adapters.mqtt import Broker, Bus
from device_client.adapters.trust import PinnedKeys
from device_client.core.events import Connected, Disconnected, Event
from schemas.topics import TopicTree
from tests.device.device_world import broker, until

RETURNS = 4
FIRST_PAUSE_SECONDS = 0.1


class Clone:
    """One of those that have the name, and what it has seen of its connection."""

    def __init__(self, port: int) -> None:
        self.seen: list[tuple[type[Event], float]] = []
        broker = Broker("127.0.0.1", port, None, None)
        self.bus = Bus(broker, TopicTree(), "pi-1", trust=PinnedKeys(()), clock=time.monotonic, post=self.hear)

    def hear(self, event: Event) -> None:
        self.seen.append((type(event), time.monotonic()))

    def pauses(self) -> list[tuple[int, float]]:
        """Return after each loss, of which number, how long it took to come back."""
        found, losses, lost_at = [], 0, 0.0
        for kind, at in self.seen:
            if kind is Disconnected:
                losses, lost_at = losses + 1, at
            elif kind is Connected and losses:
                found.append((losses, at - lost_at))
        return found


@pytest.fixture
def clones(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Clone, Clone]]:
    monkeypatch.setattr(mqtt, "RECONNECT_SECONDS", FIRST_PAUSE_SECONDS)
    with broker() as port:
        both = Clone(port), Clone(port)
        for clone in both:
            clone.bus.start()
        yield both
        for clone in both:
            clone.bus.end()


def test_clones_take_the_connection_from_each_other_ever_more_slowly(clones: tuple[Clone, Clone]) -> None:
    until(lambda: all(len(clone.pauses()) >= RETURNS for clone in clones), 60)

    for clone in clones:
        for number, seconds in clone.pauses():
            assert seconds >= 0.5 * FIRST_PAUSE_SECONDS * 2 ** (number - 1), "twice the one before, up to chance"
    first, second = (clone.pauses() for clone in clones)
    assert [seconds for _, seconds in first] != [seconds for _, seconds in second], "they are not in step"

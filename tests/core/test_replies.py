"""When a device that must wait is to ask again."""

from collections.abc import Iterable

import pytest

from orchestrator.core import replies
from tests.core.core_bench import Bench, make_fleet, make_policy


def test_the_more_devices_wait_the_longer_it_takes_and_never_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(make_fleet(41), make_policy(waves=[{"name": "wave-1", "percentage": 100}]))
    bench.reach_wave(1)
    bench.hold()
    monkeypatch.setattr(replies, "QUESTIONS_PER_SECOND", 1)
    names = bench.wave(1)
    assert len(names) > 30

    def seconds(names: Iterable[str]) -> list[float]:
        return sorted(bench.ask(name).retry_after_seconds or 0.0 for name in names)

    found = seconds(names)
    assert 30.0 <= found[0] < 38.0
    assert 30.0 + 0.8 * len(names) < found[-1] <= 30.0 + len(names)
    assert max(sum(second <= each < second + 8 for each in found) for second in range(30, 60)) < 20

    bench.set_online(*names[2:], is_online=False)
    assert seconds(names[:2])[-1] <= 32.0

"""What a device's messages say, one after the other."""

import pytest

from orchestrator.cli.sample_line import SampleLine, sample_line
from orchestrator.cli.samples import SampleReader
from schemas.codec import encode, encode_msgpack
from schemas.messages import HealthSample
from tests.telemetry.telemetry_streams import sample, sketch_of


def read(*samples: HealthSample | bytes) -> list[SampleLine]:
    """Return what a reader makes of messages that come every 10 s."""
    reader = SampleReader("pi-1")
    payloads = [each if isinstance(each, bytes) else encode(each) for each in samples]
    return [reader.read(payload, 10.0 * number) for number, payload in enumerate(payloads)]


def test_counters_become_differences_a_second_to_the_sample_before() -> None:
    first, second = read(sample(1, errors_total=5), sample(2, errors_total=9))

    assert (first.requests_per_second, first.errors_per_second, first.error_rate) == (None, None, None)
    assert (second.requests_per_second, second.errors_per_second, second.error_rate) == (10.0, 0.4, 0.04)
    assert second.at == "1970-01-01T00:00:10.000Z"


def test_json_and_msgpack_say_the_same() -> None:
    told = sample(3, latency=sketch_of([0.1]), memory_bytes=1_000_000, cpu_ratio=0.5, temperature_celsius=41.5)

    (as_json,), (as_msgpack,) = read(encode(told)), read(encode_msgpack(told))

    assert as_json == as_msgpack
    assert (as_json.memory_bytes, as_json.cpu_ratio, as_json.temperature_celsius) == (1_000_000, 0.5, 41.5)
    assert as_json.latency_p95_seconds == pytest.approx(0.1, rel=0.02)


def test_a_device_without_a_sketch_reports_its_own_p95() -> None:
    (line,) = read(sample(1, latency_p95_seconds=0.25))

    assert line.latency_p95_seconds == 0.25


def test_what_a_device_does_not_say_is_not_known() -> None:
    for line in read(b'{"seq": 1, "boot_id": "b"}', b'{"seq": 2, "boot_id": "b", "healthy": null, "cpu_ratio": null}'):
        known = line.model_dump(exclude_none=True, exclude={"at", "device", "seq", "boot_id", "marks"})
        assert known == {}


@pytest.mark.parametrize(
    ("before", "after", "marks"),
    [
        (sample(1), sample(2), ()),
        (sample(1), sample(5), ("3 missing",)),
        (sample(5), sample(5), ("duplicate",)),
        (sample(5), sample(4), ("late",)),
        (sample(5), sample(1, boot_id="other"), ("new boot",)),
        (sample(1), sample(2, version="3"), ("new version",)),
        (sample(1, errors_total=7), sample(2, errors_total=6), ("bad: errors_total fell",)),
        (sample(1), sample(2, restarts_total=2), ("2 restarts",)),
    ],
)
def test_what_is_odd_about_a_sample_is_marked(
    before: HealthSample, after: HealthSample, marks: tuple[str, ...]
) -> None:
    assert read(before, after)[1].marks == marks


def test_a_sample_that_came_before_or_late_changes_nothing() -> None:
    lines = read(sample(5), sample(5), sample(4), sample(1, boot_id="new"), sample(6), sample(2, boot_id="new"))

    assert [each.marks for each in lines] == [
        (), ("duplicate",), ("late",), ("new boot",), ("late, of an earlier boot",), (),
    ]  # fmt: skip
    assert [each.requests_per_second for each in lines[1:5]] == [None] * 4
    assert lines[5].requests_per_second == 5.0, "in the 20 s since the first of this boot"


def test_a_message_that_is_no_sample_says_why_and_changes_nothing() -> None:
    _, broken, after = read(sample(1), b'{"seq": -1, "boot_id": "b"}', sample(2))

    assert broken.error is not None
    assert broken.error.startswith("seq: ")
    assert broken.seq is None
    assert after.marks == ()
    assert after.requests_per_second == 5.0


def test_a_line_for_people_cannot_steer_the_terminal() -> None:
    (line,) = read(rb'{"seq": 1, "boot_id": "b", "version": "\u001b[2J1"}')

    assert "\x1b" not in sample_line(line).plain
    assert "\\x1b[2J1" in sample_line(line).plain

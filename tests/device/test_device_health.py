import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from device_client.adapters.health import probe
from device_client.adapters.metrics import Counters, Metrics, parse_metrics, sketch_of
from device_client.core.events import Probed
from schemas.messages import HealthCheck

CHECK = HealthCheck(timeout_seconds=0.5)
TEXT = """\
# HELP app_requests_total Requests.
# TYPE app_requests_total counter
app_requests_total{path="/a"} 7
app_requests_total{path="/b"} 3 1700000000
app_errors_total 2
app_request_duration_seconds_bucket{le="0.01"} 4
app_request_duration_seconds_bucket{path="/x",le="0.1"} 9
app_request_duration_seconds_bucket{le="+Inf"} 10
app_request_duration_seconds_sum 0.5
something_else{a="b"} 1
not a metric line at all
app_errors_total NaN
app_requests_total -5
"""


@contextmanager
def answering(raw: bytes, *, keep_open: bool = False) -> Iterator[int]:
    """Listen on a port and send ``raw`` to the first who asks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(raw)
                if keep_open:
                    done.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            thread.join()


def http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (http(b'{"status": "ok", "version": "1.0.0"}'), Probed(ok=True, version="1.0.0")),
        (http(b'{"status": "ok"}'), Probed(ok=True)),
        (http(b'{"status": "starting", "version": "1.0.0"}'), Probed(ok=False, version="1.0.0")),
        (http(b'{"status": "ok", "version": 7}'), Probed(ok=True)),
        (http(b'{"version": "1.0.0"}'), Probed(ok=False, version="1.0.0")),
        (http(b'{"status": "ok", "version": "1.0.0"}', "503 Unavailable"), Probed(ok=False)),
        (http(b"fine, thanks"), Probed(ok=False)),
        (http(b"[]"), Probed(ok=False)),
        (http(b"[" * 5000), Probed(ok=False)),
        (http(b'{"status": "ok", "version": "1"}' + b" " * 100_000), Probed(ok=False)),
        (b"SSH-2.0-x\r\n", Probed(ok=False)),
        (b"", Probed(ok=False)),
    ],
)
def test_only_a_proper_answer_is_health(raw: bytes, expected: Probed) -> None:
    with answering(raw) as port:
        assert probe(port, CHECK) == expected


def test_answer_that_does_not_come_in_time_is_no_health() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n", keep_open=True) as port:
        assert probe(port, CHECK) == Probed(ok=False)


def test_answer_that_drips_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            peer, _ = listener.accept()
            with peer, suppress(OSError):
                while True:
                    peer.sendall(b"x")
                    done.wait(0.05)

        done = threading.Event()
        thread = threading.Thread(target=drip)
        thread.start()
        assert probe(listener.getsockname()[1], CHECK) == Probed(ok=False)
        thread.join(10)

    assert not thread.is_alive(), "it was hung up on"


def test_port_that_nobody_listens_on_is_no_health() -> None:
    assert probe(1, CHECK) == Probed(ok=False)


def test_metrics_are_read_and_nonsense_is_skipped() -> None:
    assert parse_metrics(TEXT) == Metrics(10, 2, {0.01: 4, 0.1: 9, float("inf"): 10})


def test_metrics_of_something_else_are_unknown() -> None:
    assert parse_metrics("<html>") == Metrics(None, None, {})


def test_counters_go_on_when_the_application_starts_again() -> None:
    counters = Counters()
    totals = []
    for requests, errors in ((10, 1), (15, 2), (3, 0), (8, 1)):
        counters.update(Metrics(requests, errors, {}))
        totals.append((counters.requests_total, counters.errors_total))

    assert totals == [(10, 1), (15, 2), (18, 2), (23, 3)]


def test_counters_count_a_new_process_from_zero_even_if_it_is_ahead() -> None:
    counters = Counters()
    counters.update(Metrics(10, 0, {}))
    counters.forget()
    counters.update(Metrics(50, 0, {}))

    assert counters.requests_total == 60


def test_sketch_holds_the_requests_between_two_readings() -> None:
    sketch = sketch_of({0.01: 10, 0.1: 15, float("inf"): 16}, {0.01: 7, 0.1: 9, float("inf"): 9})

    assert sketch is not None
    assert sum(sketch.counts) == 7
    found = {sketch.gamma ** (sketch.offset + i): n for i, n in enumerate(sketch.counts) if n}
    assert list(found.values()) == [3, 3, 1]
    for bound, seconds in zip((0.01, 0.1, 0.2), found, strict=True):
        assert bound <= seconds * 1.0001 <= bound * sketch.gamma * 1.001


def test_sketch_is_unknown_when_nothing_was_served() -> None:
    assert sketch_of({0.1: 5}, {0.1: 5}) is None
    assert sketch_of({}, {}) is None

"""Where a sample's figures come from: pages of metrics, what is pushed, control groups, the device's own sensors."""

import logging
import os
import socket
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from device_client.adapters.cgroups import group_of, usage_in
from device_client.adapters.hardware import Hardware
from device_client.adapters.hosting import Instance
from device_client.adapters.metrics import Metrics, Names, Selector, parse_metrics, parse_selector
from device_client.adapters.processes import Usage
from device_client.adapters.pushed import QUALITIES_MAX, Pushed, Totals
from device_client.adapters.sampler import Sampler, Sources
from device_client.core.events import Probed, Throttled
from tests.device.device_bench import Bench
from tests.device.device_world import AgentProcess, Orchestrator, broker, until

PAGE = """\
http_requests_total{method="GET",status="200"} 90
http_requests_total{method="GET",status="500"} 3
http_requests_total{method="POST",status="503"} 4
http_requests_total{method="POST",status="404"} 1
http_seconds_bucket{route="/a",le="0.1"} 50
http_seconds_bucket{route="/a",le="+Inf"} 98
http_seconds_bucket{route="/metrics",le="+Inf"} 1000
"""


def test_errors_are_those_requests_whose_labels_match() -> None:
    names = Names(
        parse_selector("http_requests_total"),
        parse_selector('http_requests_total{status=~"5..", method!="DELETE"}'),
        parse_selector('http_seconds{route!="/metrics"}'),
    )

    assert parse_metrics(PAGE, names) == Metrics(98, 7, {0.1: 50, float("inf"): 98})


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("a", ()),
        ("a{}", ()),
        ("a{b=c}", (("b", "=", "c"),)),
        ('a{b=~"5..",c!~"x|y"}', (("b", "=~", "5.."), ("c", "!~", "x|y"))),
    ],
)
def test_selector_is_read_as_prometheus_writes_it(text: str, conditions: tuple[tuple[str, str, str], ...]) -> None:
    assert parse_selector(text) == Selector("a", conditions)


@pytest.mark.parametrize("text", ["", "5xx", "a{", "a{b}", 'a{b=~"("}', "a b"])
def test_selector_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no "):
        parse_selector(text)


def test_label_that_is_missing_is_empty() -> None:
    assert Selector("a", (("b", "!=", "x"),)).matches("a", "")
    assert not Selector("a", (("b", "=", "x"),)).matches("a", 'c="x"')


@pytest.fixture
def page() -> Iterator[int]:
    """Serve a page of metrics on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/prometheus" else 404)
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_page_of_metrics_may_be_elsewhere_and_under_other_names(page: int, tmp_path: Path) -> None:
    names = Names(parse_selector("http_requests_total"), parse_selector('http_requests_total{status=~"5.."}'))
    sources = Sources(lambda _: Usage(5, 1.0), Hardware(tmp_path), names, "/prometheus", page)
    sampler = Sampler(tmp_path, "boot", lambda: 1.0, sources)

    sample = sampler.take(Instance("blue", "serving", "1"), 1, Probed(ok=True, version="1"), 0)

    assert (sample.requests_total, sample.errors_total, sample.memory_bytes) == (98, 7, 5)
    assert (sample.temperature_celsius, sample.throttle_events_total) == (None, None)


@pytest.fixture
def pushed(tmp_path: Path) -> Iterator[Pushed]:
    made = Pushed(tmp_path / "metrics.sock", 0o600, None, lambda: 0.0)
    made.start()
    yield made
    made.end()


def send(path: Path, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, str(path))


def test_pushed_lines_become_a_sample(pushed: Pushed, tmp_path: Path) -> None:
    send(tmp_path / "metrics.sock", b"requests:3|c\nlatency:12.5|ms\nlatency:13|ms\n", b"errors:1|c\naccuracy:0.93|g")
    until(lambda: pushed.read()[0].errors)
    send(tmp_path / "metrics.sock", b"latency:5|ms\nlog_errors:2|c")
    sampler = Sampler(tmp_path, "boot", lambda: 1.0, Sources(lambda _: None, Hardware(tmp_path), pushed=pushed))

    sample = until(lambda: found if (found := sampler.take(None, None, Probed(ok=True), 0)).log_errors_total else None)

    assert (sample.requests_total, sample.errors_total, sample.log_errors_total) == (3, 1, 2)
    assert sample.quality == {"accuracy": 0.93}


def test_what_was_never_pushed_is_unknown(pushed: Pushed, tmp_path: Path) -> None:
    sampler = Sampler(tmp_path, "boot", lambda: 1.0, Sources(lambda _: None, Hardware(tmp_path), pushed=pushed))

    sample = sampler.take(None, None, Probed(ok=True), 0)

    assert (sample.requests_total, sample.errors_total, sample.log_errors_total, sample.quality) == (None,) * 4


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\xff\xfe", b"requests:1", b"requests:-1|c", b"requests:1.5|c", b"requests:NaN|c", b"requests:1e9|c",
        b"latency:-1|ms", b"latency:99999999|ms", b"latency:1|c", b"other:1|c", b"x" * 60_000, b"requests:1|c|#tag",
    ],
)  # fmt: skip
def test_junk_is_counted_and_changes_nothing(
    pushed: Pushed, tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        send(tmp_path / "metrics.sock", line + b"\n" + line + b"\n", b"", b"requests:1|c")
        until(lambda: pushed.read()[0].requests)

    totals, sketch = pushed.read()
    assert (totals.malformed, totals.requests, totals.errors, totals.quality, sketch) == (2, 1, 0, {}, None)
    assert caplog.text.count("metrics.malformed") == 1


def test_what_is_pushed_stays_bounded() -> None:
    totals = Totals()

    taken = [totals.take(f"name{number}:1|g") for number in range(100)]
    for _ in range(3):
        totals.take("requests:999999999999999|c")
    for number in range(10_000):
        totals.take(f"latency:{number * 1000}|ms")

    assert (taken.count(True), len(totals.quality)) == (QUALITIES_MAX, QUALITIES_MAX)
    assert len(totals.latencies) < 400
    sketch = totals.sketch()
    assert sketch is not None
    assert sum(sketch.counts) > 9_000
    assert totals.sketch() is None


def test_socket_is_only_for_whom_it_is_made(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    path.write_text("left behind")

    for mode in (0o600, 0o666):
        made = Pushed(path, mode, os.getuid(), lambda: 0.0)
        made.start()
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        made.end()


def make_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_control_group_says_what_is_used_without_what_can_be_dropped(tmp_path: Path) -> None:
    group = tmp_path / "cgroup" / "system.slice" / "app"
    make_file(group / "memory.current", "50000000\n")
    make_file(group / "memory.stat", "anon 30000000\ninactive_file 12000000\n")
    make_file(group / "cpu.stat", "usage_usec 2500000\nuser_usec 1\n")
    make_file(tmp_path / "proc" / "7" / "cgroup", "12:memory:/x\n0::/system.slice/app\n")

    assert group_of(7, tmp_path / "proc", tmp_path / "cgroup") == group
    assert usage_in(group) == Usage(38_000_000, 2.5)


@pytest.mark.parametrize("text", ["", "12:memory:/x\n", "0::/elsewhere\n"])
def test_process_without_such_a_group_has_none(tmp_path: Path, text: str) -> None:
    make_file(tmp_path / "proc" / "7" / "cgroup", text)

    assert group_of(7, tmp_path / "proc", tmp_path / "cgroup") is None
    assert group_of(8, tmp_path / "proc", tmp_path / "cgroup") is None
    assert usage_in(tmp_path) is None


def test_temperature_is_that_of_the_hottest_part_of_the_processor(tmp_path: Path) -> None:
    for number, (kind, degrees) in enumerate(
        (("battery", "91000"), ("cpu-thermal", "61500"), ("soc_thermal", "64250"), ("cpu1-thermal", "-274000"))
    ):
        make_file(tmp_path / f"class/thermal/thermal_zone{number}/type", kind)
        make_file(tmp_path / f"class/thermal/thermal_zone{number}/temp", f"{degrees}\n")

    assert Hardware(tmp_path).temperature_celsius() == 64.25


def test_temperature_of_unnamed_sensors_is_the_highest_and_junk_is_none(tmp_path: Path) -> None:
    assert Hardware(tmp_path).temperature_celsius() is None
    for number, text in enumerate(("45000", "47000", "hot", "")):
        make_file(tmp_path / f"class/thermal/thermal_zone{number}/temp", text)

    assert Hardware(tmp_path).temperature_celsius() == 47.0


def test_throttling_is_counted_by_core_and_once_for_their_package(tmp_path: Path) -> None:
    for core, (own, package) in enumerate(((3, 10), (4, 10))):
        folder = tmp_path / f"devices/system/cpu/cpu{core}/thermal_throttle"
        make_file(folder / "core_throttle_count", str(own))
        make_file(folder / "package_throttle_count", str(package))

    assert Hardware(tmp_path).throttle_events_total() == 17


def test_throttling_of_a_raspberry_pi_is_counted_by_its_beginnings(tmp_path: Path) -> None:
    word = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    hardware = Hardware(tmp_path)
    seen = []
    for text in ("0", "20002", "20002", "20000", "20004", "20001", "junk", "20008"):
        make_file(word, f"{text}\n")
        seen.append(hardware.throttle_events_total())

    assert seen == [0, 1, 1, 1, 2, 2, None, 3]
    make_file(word, "50000\n")
    assert Hardware(tmp_path).throttle_events_total() == 1, "it has occurred since the boot"


def test_throttling_is_told() -> None:
    bench = Bench().started()

    bench.send(Throttled(2, 81.4))

    assert bench.events() == ["thermal_throttle"]


def test_agent_sends_what_its_application_has_pushed(tmp_path: Path) -> None:
    with broker() as port:
        orchestrator = Orchestrator(port, "pi-1")
        agent = AgentProcess(tmp_path, f"mqtt://127.0.0.1:{port}", metrics={"source": "push"}, encoding="json")
        agent.start()
        path = until(lambda: next((agent.root / "state").glob("metrics.sock"), None))
        until(lambda: stat.S_IMODE(path.stat().st_mode) == 0o600)

        send(path, b"requests:41|c")

        until(lambda: any(b'"requests_total":41' in payload for _, payload in orchestrator.messages))
        orchestrator.close()
        agent.close()

"""Spans on their way to a collector: as they were made, off unless configured, and never in anybody's way."""

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.adapters import otlp
from orchestrator.adapters.otlp import Traces, open_traces
from orchestrator.core.events import RolloutPaused
from orchestrator.core.state import State
from orchestrator.tracing import Span
from tests.shell.collector import Collector, collecting, until

SPAN = Span(
    "member", 0x1234 << 100, 0x5678 << 40, 0x9ABC << 40, 1_700_000_000.25, 1_700_000_009.5,
    {"tidegate.device": "d-1", "tidegate.generation": 7, "tidegate.checks": ("a", "b")},
    (("granted", 1_700_000_001.0),), "smoke_test_failed: it broke",
)  # fmt: skip
ROOT = replace(SPAN, name="rollout", span_id=SPAN.parent_id or 0, parent_id=None)
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


class Sending:
    """Traces with what the variables say, and what became of the spans."""

    def __init__(self, patch: pytest.MonkeyPatch, endpoint: str, **variables: str) -> None:
        said = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "20", **variables}
        for name, value in said.items():
            patch.setenv(name, value)
        self.fates: Counter[str] = Counter()
        self._lock = threading.Lock()
        traces = open_traces(self.note)
        assert traces is not None
        self.traces = traces

    def note(self, fate: str, count: int) -> None:
        with self._lock:
            self.fates[fate] += count

    def send(self, *spans: Span) -> None:
        self.traces._send(spans)

    def until(self, **fates: int) -> None:
        until(lambda: self.fates == fates, f"{fates}, but there are {self.fates}")


def test_spans_arrive_as_they_were_made(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    sending = Sending(monkeypatch, collector.url)

    sending.send(SPAN, ROOT)
    sending.until(sent=2)
    sending.traces.close()

    member, root = collector.spans
    assert (member.name, member.trace_id, member.span_id) == ("member", SPAN.trace_id, SPAN.span_id)
    assert member.parent_id == root.span_id == ROOT.span_id
    assert root.parent_id == 0
    assert (member.begin, member.end) == (1_700_000_000_250_000_000, 1_700_000_009_500_000_000)
    assert member.attributes["tidegate.device"] == "d-1"
    assert member.attributes["tidegate.generation"] == 7
    assert (member.marks, member.error) == (["granted"], "smoke_test_failed: it broke")
    assert collector.services == {"tidegate"}


def test_variables_say_what_the_service_is_called(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    sending = Sending(monkeypatch, collector.url, OTEL_SERVICE_NAME="plant-7")

    sending.send(SPAN)
    sending.traces.close()

    assert collector.services == {"plant-7"}, "what is queued is sent at the end"


def test_sampler_of_the_variables_leaves_whole_traces_out(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    sending = Sending(monkeypatch, collector.url, OTEL_TRACES_SAMPLER="parentbased_always_off")

    sending.send(SPAN, ROOT)
    sending.traces.close()

    assert not collector.spans
    assert not sending.fates


def test_collector_that_hangs_holds_nobody_up_and_what_does_not_fit_is_counted(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 0.2)
    collector.is_held = True
    limits = {"OTEL_BSP_MAX_QUEUE_SIZE": "4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"}
    sending = Sending(monkeypatch, collector.url, **limits)
    sending.send(SPAN)
    assert collector.came.wait(30)

    began_at = time.thread_time()
    for _ in range(1000):
        sending.send(SPAN)
    spent = time.thread_time() - began_at
    sending.traces.close()

    assert sending.fates == {"dropped": 996}, "one is on its way and four wait"
    assert spent < 1, "a span costs the loop microseconds"
    collector.release.set()
    sending.until(dropped=996, sent=5)


def test_what_a_collector_does_not_take_is_counted(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    collector.status = 400
    sending = Sending(monkeypatch, collector.url)

    sending.send(SPAN)

    sending.until(failed=1)
    sending.traces.close()


def test_what_reaches_no_collector_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    sending = Sending(monkeypatch, NOWHERE, OTEL_EXPORTER_OTLP_TIMEOUT="1")

    sending.send(SPAN)

    sending.until(failed=1)
    sending.traces.close()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_sent_unless_somebody_wants_it(variables: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    assert open_traces(lambda *_: None, variables) is None
    assert not caplog.messages


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER is 'console'; it may be otlp or none"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'; it may be http/protobuf",
        ),
    ],
)
def test_what_cannot_be_done_is_said_and_keeps_nobody_from_starting(
    variables: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_traces(lambda *_: None, variables) is None
    assert said in caplog.text


def test_what_the_libraries_cannot_read_keeps_nobody_from_starting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOWHERE)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "many")

    assert open_traces(lambda *_: None) is None
    assert "correct the variables OTEL_" in caplog.text


def test_without_the_extra_the_log_names_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delitem(sys.modules, "orchestrator.adapters.otlp_sender", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    assert open_traces(lambda *_: None, {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE}) is None
    assert "pip install 'tidegate[orchestrator,otel]'" in caplog.text


def test_defect_of_traces_is_logged_once_and_stops_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []

    def fail(spans: object) -> None:
        sent.append(spans)
        raise RuntimeError("a defect")

    traces = Traces(fail, lambda: None)
    caplog.set_level(logging.ERROR)
    event = RolloutPaused(rollout="r-1", by="alice", reason="")
    for _ in range(3):
        traces.note_fact(State(), event, 1.0)

    assert len(caplog.records) == 1
    assert "no more traces are sent" in caplog.text

"""OpenTelemetry's own SDK, led to make the spans that we already have; imported only where the extra is installed."""

import logging
import os
from collections.abc import Iterable, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from orchestrator.adapters.otlp import NoteSpans, nanoseconds, service
from orchestrator.tracing import Span
from orchestrator.version import VERSION

QUEUE_SPANS_MAX: Final = 2048
"""If OTEL_BSP_MAX_QUEUE_SIZE says nothing else."""


class Sender:
    """Hands spans to the thread that sends them; mutable, for one thread.

    Args:
        note: Told what becomes of them.

    Raises:
        Exception: A variable holds what the libraries cannot read.
    """

    def __init__(self, note: NoteSpans) -> None:
        logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # It would tell of each attempt.
        self._note = note
        self._queue_max = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "") or QUEUE_SPANS_MAX)
        self._exporter = _Counted(OTLPSpanExporter(), note)
        self._ids = _Given()
        resource = Resource(service()).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, max_queue_size=self._queue_max))
        self._tracer = self._provider.get_tracer("tidegate", VERSION)
        self._queued = 0

    def send(self, spans: Iterable[Span]) -> None:
        """Queue spans; what does not fit is dropped and counted."""
        for each in spans:
            self._queue(each)

    def close(self) -> None:
        """Send what is queued; takes as long as the collector takes."""
        self._provider.shutdown()

    def _queue(self, span: Span) -> None:
        self._ids.trace_id, self._ids.span_id = span.trace_id, span.span_id
        made = self._tracer.start_span(
            span.name, self._parent(span), attributes=dict(span.attributes), start_time=nanoseconds(span.began_at)
        )
        if not made.get_span_context().trace_flags.sampled:
            return  # The sampler that the variables name leaves this trace out.
        if self._queued - self._exporter.taken >= self._queue_max:
            self._note("dropped", 1)
            return
        for name, at in span.marks:
            made.add_event(name, timestamp=nanoseconds(at))
        if span.error:
            made.set_status(Status(StatusCode.ERROR, span.error))
        self._queued += 1
        made.end(nanoseconds(span.ended_at))

    def _parent(self, span: Span) -> Context:
        if span.parent_id is None:
            return Context()
        # A trace is sampled as a whole: its root, which is made last, would be sampled like this.
        root = self._provider.sampler.should_sample(None, span.trace_id, "rollout")
        flags = TraceFlags(TraceFlags.SAMPLED if root.decision is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT)
        return set_span_in_context(
            NonRecordingSpan(SpanContext(span.trace_id, span.parent_id, is_remote=False, trace_flags=flags)), Context()
        )


class _Given(IdGenerator):
    """Names spans as they are told to be named."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class _Counted(SpanExporter):
    """Counts what the thread has taken from the queue, and what became of it."""

    def __init__(self, inner: SpanExporter, note: NoteSpans) -> None:
        self._inner = inner
        self._note = note
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            self._note("sent" if result is SpanExportResult.SUCCESS else "failed", len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)

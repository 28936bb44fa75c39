"""Spans to a collector, over OTLP, as the variables of OpenTelemetry say (the extra ``otel``); off unless they do.

A trace is worth less than a rollout. So nothing here keeps an orchestrator from starting, waits, or is let out: what is
wrong is logged, a queue of bounded length stands between the loop and the thread that sends, and what does not fit
into it is dropped and counted.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from orchestrator.core.events import AnyEvent
from orchestrator.core.state import State
from orchestrator.tracing import Span, Tracer
from orchestrator.version import VERSION
from schemas.messages import Reported

if TYPE_CHECKING:
    from orchestrator.adapters.otlp_sender import Sender

log = logging.getLogger(__name__)

Fate = Literal["sent", "failed", "dropped"]
NoteSpans = Callable[[Fate, int], None]
"""Told what became of so many spans; from any thread."""
CLOSE_SECONDS: Final = 2.0
"""So long an end waits for what has not been sent yet."""
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Traces:
    """What the engine tells, as spans, on their way to a collector; mutable.

    Args:
        send: Takes spans; called in the loop, so it must not wait.
        close: Sends what is left, for ``CLOSE_SECONDS`` at most.
    """

    def __init__(self, send: Callable[[Iterable[Span]], None], close: Callable[[], None]) -> None:
        self._send = send
        self._close = close
        self._tracer = Tracer()
        self._has_failed = False

    def note_fact(self, state: State, event: AnyEvent, now: float) -> None:
        """Take a fact that ``state`` does not hold yet."""
        self._note(partial(self._tracer.note_fact, state, event, now))

    def note_report(self, state: State, name: str, reported: Reported, now: float) -> None:
        """Take a device's report before anything follows from it."""
        self._note(partial(self._tracer.note_report, state, name, reported, now))

    def close(self) -> None:
        """Send what is left, as far as somebody takes it."""
        self._close()

    def _note(self, make: Callable[[], Sequence[Span]]) -> None:
        if self._has_failed:
            return
        try:
            self._send(make())
        except Exception:  # A defect here must not end a rollout.
            self._has_failed = True
            log.exception("no more traces are sent until the next start")


def open_traces(note: NoteSpans, environment: Mapping[str, str] = os.environ) -> Traces | None:
    """Return where to tell what happens; None where no collector is configured, or it cannot be used.

    Args:
        note: Told what becomes of the spans.
        environment: The variables; what the libraries read themselves they read from the process's.
    """
    if not _is_wanted(environment):
        return None
    obstacle = _obstacle(environment)
    if obstacle:
        log.warning("no traces are sent: %s", obstacle)
        return None
    try:
        from orchestrator.adapters.otlp_sender import Sender  # noqa: PLC0415 - an extra
    except ImportError as error:
        log.warning("no traces are sent: %s; pip install 'tidegate[orchestrator,otel]', or unset OTEL_…", error)
        return None
    try:
        sender = Sender(note)
    except Exception as error:  # noqa: BLE001 - of libraries, about variables that they alone read
        log.warning("no traces are sent, correct the variables OTEL_…: %s", error)
        return None
    return Traces(sender.send, partial(_close, sender))


def _close(sender: "Sender") -> None:
    """Send what is left in a thread that nobody waits for longer than it is worth."""
    thread = threading.Thread(target=sender.close, name="traces-close", daemon=True)
    thread.start()
    thread.join(CLOSE_SECONDS)


def _is_wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    has_endpoint = any(environment.get(name, "").strip() for name in _ENDPOINTS)
    return exporter != "none" and (bool(exporter) or has_endpoint)


def _obstacle(environment: Mapping[str, str]) -> str:
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter not in {"", "otlp"}:
        return f"OTEL_TRACES_EXPORTER is {exporter!r}; it may be otlp or none"
    named = [(name, environment.get(name, "").strip()) for name in _PROTOCOLS]
    name, protocol = next(((name, value) for name, value in named if value), ("", ""))
    return f"{name} is {protocol!r}; it may be http/protobuf" if protocol not in {"", "http/protobuf"} else ""


def nanoseconds(at: float) -> int:
    """Return a moment in the unit of OTLP, as exact as a number of seconds is in this century."""
    return round(at * 1e6) * 1000


def service() -> dict[str, str]:
    """Return what the orchestrator calls itself, if the variables say nothing else."""
    return {"service.name": "tidegate", "service.version": VERSION}

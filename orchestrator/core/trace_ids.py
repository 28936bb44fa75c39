"""Names of traces and spans, as W3C Trace Context wants them: they follow from the journal, nothing is drawn.

A rollout is one trace. After a restart its spans have the same names as before, and two fleets that both have a
rollout ``r-001`` have two traces, because the plan and the moment of the start are in the name.
"""

import hashlib

from orchestrator.core.rollout import Rollout


def trace_id(rollout: Rollout) -> int:
    """Return the 128 bits that name the trace of a rollout."""
    return int.from_bytes(_digest(rollout, "trace")[:16])


def span_id(rollout: Rollout, kind: str, *which: object) -> int:
    """Return the 64 bits that name one span of it: what kind of span, and which of them."""
    return int.from_bytes(_digest(rollout, kind, *which)[:8])


def wave_span_id(rollout: Rollout, wave: int) -> int:
    """Return the name of a wave's span."""
    return span_id(rollout, "wave", wave)


def traceparent(rollout: Rollout, wave: int) -> str:
    """Return what an order names: the rollout's trace and the wave's span, sampled.

    It is the same for all devices of a wave, so that they go on sharing the bytes of one document.

    Source:
        W3C Trace Context, "traceparent header", version 00.
    """
    return f"00-{trace_id(rollout):032x}-{wave_span_id(rollout, wave):016x}-01"


def _digest(rollout: Rollout, *parts: object) -> bytes:
    name = (rollout.id, rollout.plan.digest, repr(rollout.started_at), *map(str, parts))
    return hashlib.sha256("\n".join(name).encode()).digest()

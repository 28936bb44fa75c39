"""``list`` with ``what: evaluators``: which evaluators are alive, who reads which shards, and what nobody reads."""

from typing import Any

from orchestrator.core.answers import Outcome, accept
from orchestrator.core.leases import STALE_SECONDS, Reader, Readers
from schemas.shards import format_shards


def list_evaluators(readers: Readers, now: float) -> Outcome:
    """Answer with all evaluators by name, and with what the orchestrator and nobody reads."""
    return accept(
        {
            "evaluators": [_row(each, now) for each in readers.evaluators],
            "orchestrator_reads": format_shards(readers.own),
            "unread": format_shards(readers.unread),
        }
    )


def _row(each: Reader, now: float) -> dict[str, Any]:
    age = max(0.0, now - each.heard_at)
    return {
        "evaluator": each.worker,
        "reads": format_shards(each.reads),
        "would_read": format_shards(each.wanted),
        "heard_seconds": round(age, 1),
        "late": age > STALE_SECONDS,
    }

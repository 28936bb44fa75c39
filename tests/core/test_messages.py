"""The documents of the wire contract as they stand there, read and written by our models."""

import json
from typing import Any

import pytest

from schemas.codec import RETAINED, decode, encode, encode_msgpack
from schemas.documents import MODELS, CheckResult, GateResult, GroupSummary, RollbackOrder, StatusDocument, WaveDocument
from schemas.errors import DecodeError
from schemas.messages import Desired, HealthSample, Info, Message, Reported
from schemas.topics import RULES, Kind

SHA = "ab" * 32
TS = "2026-11-23T10:57:04.482Z"
CHECK = {
    "check": "error_rate", "limit_expr": "baseline + 2%", "observed": 0.0042, "baseline": 0.0031, "limit": 0.0231,
    "samples": 5412, "verdict": "pass", "why": "0.42% of requests, limit 2.31%",
}  # fmt: skip
DOCUMENTS: list[tuple[type[Message], dict[str, Any]]] = [
    (Info, {
        "session": 118, "boot_id": "c3f1", "agent": "tidegate-agent/0.1.0", "device_type": "raspberrypi4",
        "arch": "aarch64", "region": "eu-north", "group": "vision", "site": "plant-7", "slots": ["blue", "green"],
        "strategies": ["blue_green", "rolling"], "encodings": ["json", "msgpack"],
        "formats": ["tar.gz", "tar"], "disk_free_bytes": 5368709120,
        "memory_total_bytes": 4294967296, "tags": ["vision"], "single_point_of_failure": False, "maintenance": False,
        "known_issues": [], "signals": ["error_rate", "latency"], "version": "2.3.1", "peer_url": None,
        "sleeping_until": None, "ts": TS,
    }),
    (Desired, {
        "generation": 7, "epoch": 3, "rollout": "r-042", "wave": "canary", "action": "install",
        "release": "vision-app-2.4.0", "version": "2.4.0", "strategy": "blue_green",
        "manifest": {"sha256": SHA, "size_bytes": 2211, "urls": ["http://registry/manifests/1b7e"]},
        "artifact": {"sha256": SHA, "size_bytes": 48211034, "arch": "aarch64", "sources": ["http://cache/", "http://r/"]},
        "health_check": {
            "path": "/health", "port": 8080, "interval_seconds": 30, "timeout_seconds": 10, "success_threshold": 3,
            "failure_threshold": 3,
        },
        "min_ready_seconds": 60, "progress_deadline_seconds": 300, "commit_on": "round_trip", "not_before": None,
        "not_after": "2026-11-24T00:00:00Z", "fallback": {"version": "2.3.1", "sha256": SHA},
    }),
    (Reported, {
        "observed_generation": 7, "seq": 412, "state": "downloading", "installed_version": "2.3.1",
        "latest_version": "2.4.0", "in_progress": True, "update_percentage": 42.0, "slot": "blue",
        "previous_version": "2.3.0", "boot_id": "c3f1",
        "error": {"code": "checksum_mismatch", "step": "verifying", "message": "no", "retryable": True}, "ts": TS,
    }),
    (HealthSample, {
        "seq": 18231, "boot_id": "c3f1", "version": "2.4.0", "uptime_seconds": 86400, "requests_total": 182331,
        "errors_total": 41, "latency": {"gamma": 1.02, "offset": -212, "counts": [1, 2, 3]}, "memory_bytes": 183500800,
        "cpu_ratio": 0.31, "disk_free_bytes": 5368709120, "temperature_celsius": 61.5, "throttle_events_total": 0,
        "restarts_total": 0, "healthy": True, "endpoint_up": True, "log_errors_total": 3, "quality": {"accuracy": 0.93},
    }),
    (GateResult, {
        "gate": "canary_gate", "verdict": "pass", "decision": "await_approval", "evaluated_at": TS, "devices": 3,
        "checks": [CHECK], "phase": "soak", "not_judged": ["quality: no canary reports it"],
    }),
    (RollbackOrder, {
        "trigger": "crash_loop", "scope": "device", "action": "rollback_device", "devices": ["pi-1"], "device_count": 1,
        "evidence": [CHECK], "ts": TS,
    }),
    (StatusDocument, {
        "rollout": "r-042", "release": "app-2", "version": "2", "phase": "soaking", "wave": "canary", "paused": False,
        "counts": {"committed": 3}, "reasons": ["soaked 3 of 60 s"], "allowed": ["pause"], "next_decision_at": TS,
        "started_at": TS, "started_by": "alice", "ts": TS, "ended_at": None, "plan_digest": SHA,
        "from_versions": {"1.9": 3}, "frozen": False,
        "waves": [{
            "wave": "canary", "devices": 3, "done": 3, "healthy": 2, "failed": 0, "offline": 0, "state": "soaking",
            "soaked_seconds": 3.0, "soak_required_seconds": 60.0, "gate": "inconclusive",
        }],
    }),
    (WaveDocument, {
        "rollout": "r-042", "wave": "canary", "release": "app-2", "version": "2", "device_count": 2,
        "members": ["pi-1", "pi-2"], "members_sha256": SHA, "state": "soaking", "counts": {"committed": 2},
        "started_at": None,
        "health": {
            "fresh": 2, "healthy": 1, "requests": 5412, "error_rate": 0.0042, "latency_p50_seconds": 0.02,
            "latency_p95_seconds": 0.04, "latency_p99_seconds": None,
        },
    }),
    (GroupSummary, {
        "group": "vision", "devices": 3, "fresh": 2, "healthy": 1, "requests": 0, "error_rate": None,
        "latency_p50_seconds": None, "latency_p95_seconds": None, "latency_p99_seconds": None,
    }),
]  # fmt: skip


@pytest.mark.parametrize(("model", "document"), DOCUMENTS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_document_of_the_contract_is_read_whole_and_written_back(
    model: type[Message], document: dict[str, Any]
) -> None:
    message = decode(model, json.dumps(document).encode(), RETAINED)

    written = json.loads(encode(message))
    assert {key: value for key, value in written.items() if value is not None or key in document} == document
    assert decode(model, encode_msgpack(message)) == message


@pytest.mark.parametrize(("model", "document"), DOCUMENTS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_receiver_ignores_what_it_does_not_know(model: type[Message], document: dict[str, Any]) -> None:
    later = {**document, "added_in_version_9": {"a": [1]}}

    assert decode(model, json.dumps(later).encode()) == decode(model, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (Info, {"group": "a/b"}),
        (Info, {"tags": ["x"] * 65}),
        (Info, {"session": -1}),
        (Info, {"boot_id": ""}),
        (Desired, {"action": "explode"}),
        (Desired, {"health_check": {"interval_seconds": 0}}),
        (Desired, {"health_check": {"path": "http://evil/"}}),
        (Desired, {"generation": 2**53}),
        (Reported, {"state": "happy"}),
        (Reported, {"update_percentage": 101}),
        (HealthSample, {"latency": {"gamma": 1.0, "offset": 0, "counts": []}}),
        (HealthSample, {"latency": {"gamma": 1.02, "offset": 0, "counts": [-1]}}),
        (HealthSample, {"errors_total": -1}),
        (HealthSample, {"cpu_ratio": -0.1}),
        (HealthSample, {"temperature_celsius": 1e9}),
    ],
)
def test_a_value_out_of_its_range_is_refused(model: type[Message], change: dict[str, Any]) -> None:
    (document,) = [document for each, document in DOCUMENTS if each is model]

    with pytest.raises(DecodeError):
        decode(model, json.dumps({**document, **change}).encode())


def test_messages_cannot_be_changed() -> None:
    result = decode(CheckResult, json.dumps(CHECK).encode())

    with pytest.raises(ValueError, match="frozen"):
        result.samples = 0  # type: ignore[misc]  # what is tested


def test_every_retained_document_has_a_model_or_is_named_as_an_exception() -> None:
    retained = {kind for kind, rule in RULES.items() if rule.retained}

    # A plan is a free document for people; presence is plain text.
    assert retained - set(MODELS) == {
        Kind.AVAILABILITY, Kind.ORCHESTRATOR_AVAILABILITY, Kind.EVALUATOR_AVAILABILITY, Kind.PIECES_AVAILABILITY,
        Kind.PLAN,
    }  # fmt: skip

"""The canary's watch, sentence by sentence of the reference's "Canary Health Evaluation", with its own numbers."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core.rollout import Phase
from tests.core.core_bench import Bench, make_fleet, make_policy

Levels = Callable[[int], dict[str, Any]]
MB = 1_000_000
REFERENCE = {"immediate_minutes": 5, "short_term_minutes": 30, "soak_minutes": 30}
SIGNALS = ("latency", "memory", "cpu", "disk", "quality", "log_errors", "throttle_events")


def well(seq: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of a sample
    """What a device measures when nothing is wrong."""
    return {
        "latency_p50_seconds": 0.05, "latency_p95_seconds": 0.1, "latency_p99_seconds": 0.2, "memory_bytes": 100 * MB,
        "cpu_ratio": 0.3, "disk_free_bytes": 10_000 * MB, "quality": {"accuracy": 0.9}, "log_errors_total": 0,
        "throttle_events_total": 0, **changes,
    }  # fmt: skip


def watched(**changes: Any) -> Bench:  # noqa: ANN401 - any field of a device, from its new version on
    """Return a bench whose canary has just been deployed, and shows ``changes`` from then on."""
    policy = make_policy(canary=REFERENCE)
    bench = Bench(fleet=make_fleet(6, signals=SIGNALS), policy=policy, warm_up_seconds=0)
    for device in bench.devices.values():
        device.levels = well
    bench.advance(330)
    bench.start()
    bench.install_wave(**changes)
    return bench


def until(bench: Bench, phase: Phase, minutes: float) -> float:
    """Let time pass until the rollout is in a phase; return how many minutes that took."""
    began = bench.now
    while bench.phase() is not phase:
        assert bench.now - began <= minutes * 60, f"it is {bench.phase()}: {bench.rollout.reason}"
        bench.advance(30)
    return (bench.now - began) / 60


def failing_checks(bench: Bench) -> list[str]:
    judged = bench.facts("gate_judged")[-1]
    return [check["check"] for check in judged["checks"] if check["verdict"] in {"fail", "caution"}]


def test_a_canary_that_is_well_passes_all_three_phases_and_then_its_gate() -> None:
    bench = watched()

    bench.advance(61 * 60)

    assert [fact["phase"] for fact in bench.facts("canary_phase_started")] == ["short_term", "soak"]
    phases = [fact["phase"] for fact in bench.facts("gate_judged") if fact["verdict"] == "pass"]
    assert set(phases) == {"immediate", "short_term", "soak", None}
    assert bench.rollout.wave == 1


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("crash_count", {"crashes_per_sample": 1}),
        ("application_health", {"is_healthy": False}),
        ("version_match", {"version": "1.9.9"}),
        ("log_errors", {"levels": lambda seq: well(seq, log_errors_total=seq)}),
    ],
)
def test_anything_wrong_in_the_first_five_minutes_brings_the_canary_back_at_once(
    check: str, change: dict[str, Any]
) -> None:
    bench = watched()
    bench.advance(90)
    bench.run(bench.wave(0)[0], "2.0.0", **{name: value for name, value in change.items() if name != "version"})
    bench.devices[bench.wave(0)[0]].version = change.get("version", "2.0.0")

    assert until(bench, Phase.ROLLING_BACK, 4) <= 4

    (order,) = bench.facts("rollback_ordered")
    assert (order["trigger"], order["scope"], order["monitor_seconds"]) == ("canary_gate", "wave", 0)
    assert check in failing_checks(bench)
    assert bench.facts("gate_judged")[-1]["phase"] == "immediate"


def test_samples_that_come_late_and_name_the_version_before_do_not_bring_a_canary_back() -> None:
    bench = watched()
    canary = bench.devices[bench.wave(0)[0]]
    canary.version = "1.0.0"
    bench.advance(60)
    canary.version = "2.0.0"

    bench.advance(6 * 60)

    assert bench.facts("rollback_ordered") == []
    assert bench.facts("canary_phase_started")[-1]["phase"] == "short_term"


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("error_rate", {"errors_per_sample": 4}),
        ("latency_p95", {"levels": lambda seq: well(seq, latency_p95_seconds=0.13)}),
        ("memory_trend", {"levels": lambda seq: well(seq, memory_bytes=100 * MB + seq * MB // 4)}),
        ("cpu", {"levels": lambda seq: well(seq, cpu_ratio=0.55)}),
        ("crash_count", {"crashes_per_sample": 1}),
    ],
)
def test_anything_wrong_until_minute_thirty_brings_the_canary_back_and_has_it_watched_longer(
    check: str, change: dict[str, Any]
) -> None:
    bench = watched()
    bench.advance(5.5 * 60)
    assert bench.facts("canary_phase_started")[-1]["phase"] == "short_term"

    bench.run(bench.wave(0)[0], "2.0.0", **change)
    until(bench, Phase.ROLLING_BACK, 25)

    assert check in failing_checks(bench)
    assert bench.facts("gate_judged")[-1]["phase"] == "short_term"
    assert bench.facts("rollback_ordered")[-1]["monitor_seconds"] == 25 * 60


@pytest.mark.parametrize(
    ("check", "levels"),
    [
        ("memory_trend", lambda seq: well(seq, memory_bytes=100 * MB + seq * MB // 8)),
        ("throttle_events", lambda seq: well(seq, throttle_events_total=seq)),
        ("quality", lambda seq: well(seq, quality={"accuracy": 0.7})),
        ("disk_trend", lambda seq: well(seq, disk_free_bytes=10_000 * MB - 28 * MB * seq)),
    ],
)
def test_a_drift_in_the_soak_extends_it_and_then_asks_a_person(check: str, levels: Levels) -> None:
    bench = watched()
    bench.advance(30.5 * 60)
    assert bench.facts("canary_phase_started")[-1]["phase"] == "soak"

    bench.run(bench.wave(0)[0], "2.0.0", levels=levels)
    until(bench, Phase.HALTED, 240)

    assert failing_checks(bench) == [check]
    assert [fact["extension"] for fact in bench.facts("soak_extended")] == [1, 2, 3]
    assert bench.facts("rollback_ordered") == []
    assert bench.rollout.wave == 0


def test_the_short_term_checks_stay_in_force_during_the_soak() -> None:
    bench = watched()
    bench.advance(31 * 60)

    bench.run(bench.wave(0)[0], "2.0.0", errors_per_sample=9)
    until(bench, Phase.ROLLING_BACK, 30)

    assert "error_rate" in failing_checks(bench)


def test_what_no_canary_reports_is_named_and_not_judged() -> None:
    bench = Bench(fleet=make_fleet(6), policy=make_policy(canary=REFERENCE))
    bench.start()
    bench.install_wave()
    bench.advance(31 * 60)

    judged = bench.facts("gate_judged")[-1]

    assert (judged["phase"], judged["verdict"]) == ("soak", "pass")
    assert {each.split(":")[0] for each in judged["not_judged"]} >= {"throttle_events", "quality", "disk_trend"}

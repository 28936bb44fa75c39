"""Rollouts at the moments a person looks at them: what a real engine published, as a watcher has seen it."""

import io
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType

from orchestrator.cli.documents import Change, Documents
from schemas.documents import CheckResult, GateResult, StatusDocument, WaveStatus
from tests.core.core_bench import TREE, Bench, make_fleet, make_policy

WAVES = ({"name": "wave-1", "percentage": 15}, {"name": "wave-2", "percentage": 35}, {"name": "wave-3"})
DIGEST = "1b7e" * 16
NOW = 1_763_982_000.0  # 2025-11-24T11:00:00Z


def make_bench(count: int = 30, **policy: Any) -> Bench:  # noqa: ANN401 - any part of a policy
    """Return a fleet of two types in two regions, under a policy that asks a person after the canary."""
    fleet = make_fleet(
        count,
        device_type=lambda number: "raspberrypi4" if number % 3 else "jetson",
        region=lambda number: "eu-north" if number % 2 else "us-east",
    )
    return Bench(fleet, make_policy(canary={"require_human_approval_after": True, "min_devices": 3}, **policy))


def soaking() -> Bench:
    """The canary is installed and watched; some others are offline."""
    bench = make_bench()
    bench.set_online("d-0020", "d-0021", is_online=False)
    bench.start(reason="fixes the memory leak")
    bench.install_wave()
    bench.advance(150)
    return bench


def awaiting_approval() -> Bench:
    """The canary has passed its gate."""
    bench = soaking()
    bench.advance(200)
    assert bench.phase() == "awaiting_approval"
    return bench


def halted() -> Bench:
    """A wave stopped for a person because devices failed."""
    waves = [{"name": "wave-1", "percentage": 50, "auto_rollback": False}, {"name": "wave-2", "percentage": 100}]
    bench = make_bench(waves=waves)
    bench.start()
    bench.install_wave()
    bench.soak()
    bench.command("approve", rollout="r-001", actor="bob")
    bench.tick()
    names = [name for name in bench.wave(1) if bench.state.devices[name].action == "install"]
    bench.install(*names[:2])
    bench.fail(*names[2:4])
    bench.tick()
    assert bench.phase() == "halted"
    return bench


def rolled_back() -> Bench:
    """The canary was bad and went back by itself."""
    bench = make_bench()
    bench.start()
    bench.install_wave(errors_per_sample=20)
    bench.advance(240)
    bench.go_back(*bench.rollout.having("returning"))  # type: ignore[arg-type]  # the value of the enum
    bench.advance(600)
    assert bench.phase() == "rolled_back"
    return bench


def seen(bench: Bench, say: Callable[[Change], None] = lambda _change: None) -> Documents:
    """Return what somebody has seen who watched the newest rollout from the start."""
    documents = Documents(bench.rollout.id)
    for sent in bench.sent:
        address = TREE.parse(sent.topic)
        if address is not None and address.ids.get("rollout") == documents.rollout:
            for change in documents.hear(address, sent.payload, bench.now):
                say(change)
    return documents


def recorded() -> Documents:
    """The example of the manual: a hundred devices, the canary passed, a person is waited for."""
    waves = [("canary", 3, 3, 0), ("wave-1", 15, 0, 1), ("wave-2", 34, 0, 2), ("wave-3", 48, 0, 3)]
    status = StatusDocument(
        rollout="r-042", release="vision-app-2.4.0", version="2.4.0", phase="awaiting_approval", wave="canary",
        paused=False, counts={"committed": 3, "pending": 97, "total": 100},
        reasons=("canary_gate: pass, await_approval",), allowed=("approve", "reject", "pause", "abort", "rollback"),
        started_at="2025-11-24T10:18:53.000Z", started_by="alice", ts="2025-11-24T10:59:58.000Z",
        plan_digest=DIGEST, from_versions={"2.3.1": 97, "2.3.0": 3},
        waves=tuple(
            WaveStatus(
                wave=name, devices=devices, done=done, healthy=done, failed=0, offline=offline,
                state="awaiting_approval" if done else "waiting", soaked_seconds=2100 if done else 0,
                soak_required_seconds=2100 if done else 900 if name == "wave-1" else 600, gate="pass" if done else None,
            )
            for name, devices, done, offline in waves
        ),
    )  # fmt: skip
    documents = Documents("r-042", orchestrator="online")
    documents.status, documents.gates["canary"] = status, gate()
    return documents


def gate() -> GateResult:
    """Return a verdict whose numbers are easy to check."""
    checks = (
        check("error_rate", "error_rate <= baseline + 2pp", 0.0042, 0.0031, 0.0231, 5412),
        check("latency_p95", "latency_p95 <= baseline + 20% rel", 0.0412, 0.0389, 0.0467, 5412),
        check("application_health", "healthy_percentage >= 100%", 1.0, None, 1.0, 90),
        check("crash_count", "crash_count <= 0", 0.0, None, 0.0, 90),
    )
    return GateResult(
        gate="canary_gate", verdict="pass", decision="await_approval", evaluated_at="2025-11-24T10:54:00.000Z",
        devices=3, checks=checks,
    )  # fmt: skip


def check(
    name: str,
    expr: str,
    observed: float | None,
    baseline: float | None,
    limit: float | None,
    samples: int,
    **more: Any,  # noqa: ANN401 - any field of a result
) -> CheckResult:
    """Return one result of a check, a pass if nothing is said."""
    fields = {"verdict": "pass", "why": "as it should be", **more}
    return CheckResult(
        check=name, limit_expr=expr, observed=observed, baseline=baseline, limit=limit, samples=samples, **fields
    )


def on_screen(renderable: RenderableType, width: int = 120) -> str:
    """Return what a terminal of so many columns shows, without colours."""
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(renderable, crop=False)
    return capture.get()

"""Rollouts on the bench that a report can be made of."""

from orchestrator.adapters.journal import Journal
from orchestrator.core.members import Progress
from orchestrator.core.rollout import Phase
from orchestrator.reporting.build import build_report
from orchestrator.reporting.model import Report
from tests.core.core_bench import TRIGGERS, Bench, make_fleet, make_policy

HOSTILE = "<script>alert(1)</script>"
FORMULA = "=HYPERLINK(1)"
SPIKE = {
    "name": "error_spike",
    "condition": "error_rate > baseline + 10%",
    "window": "2m",
    "scope": "all_deployed",
    "action": "rollback_all",
}


def make_bench(count: int, journal: Journal | None = None) -> Bench:
    """Return a fleet in three regions, one of which carries markup in its name, and one a formula."""
    policy = make_policy(
        canary={"require_human_approval_after": True, "short_term_minutes": 1, "soak_minutes": 1},
        waves=[
            {"name": "wave-1", "percentage": 30, "soak_minutes": 3, "failure_threshold_percent": 50},
            {"name": "wave-2", "percentage": 100},
        ],
        update={"max_unavailable": "90%", "min_available": "10%"},
        triggers=[*TRIGGERS, SPIKE],
    )
    regions = ("north", HOSTILE, FORMULA)
    fleet = make_fleet(count, region=lambda number: regions[number % 3])
    return Bench(fleet=fleet, policy=policy, journal=journal or Journal(None), warm_up_seconds=90.0)


def complete(bench: Bench) -> Bench:
    """A story that goes well: approval, two waves."""
    bench.start(reason="the quarterly release")
    bench.install_wave()
    bench.advance(210)
    assert bench.command("approve", "bob", rollout=bench.rollout.id, reason=HOSTILE).status == "ok"
    bench.tick()
    for _ in range(2):
        bench.install_wave()
        bench.advance(210)
    assert bench.phase() is Phase.COMPLETED, bench.rollout.reason
    return bench


def roll_back(bench: Bench) -> Bench:
    """A story that goes wrong: errors rise in the first wave, one device fails, one never comes back."""
    bench.start()
    bench.install_wave()
    bench.advance(210)
    bench.command("approve", "bob", rollout=bench.rollout.id, reason=FORMULA)
    bench.tick()
    failed, *others = bench.rollout.having(Progress.ORDERED)
    bench.fail(failed)
    bench.install(*others, errors_per_sample=40)
    while bench.phase() is not Phase.ROLLING_BACK:
        bench.advance(30)
    lost, *back = bench.rollout.having(Progress.RETURNING)
    bench.go_back(*back)
    bench.set_online(lost, is_online=False)
    bench.advance(300)
    return bench


def reported(bench: Bench) -> Report:
    return build_report(bench.entries(), bench.rollout.id, bench.now)

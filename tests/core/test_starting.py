from typing import Any

from orchestrator.core.members import Progress
from orchestrator.core.rollout import Phase
from schemas.codec import MESSAGE, RETAINED, encode
from schemas.documents import Reply
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, document, make_fleet, make_policy, make_release

ABSOLUTE = {"checks": [{"type": "error_rate", "threshold": "2%"}]}


def two_families(**policy: Any) -> Bench:  # noqa: ANN401 - any block of a policy
    """Return a bench on which r-001 updates the pis and r-002 the nucs; app-3.0.0 is for both."""
    fleet = make_fleet(12, device_type=lambda n: "nuc" if n % 2 else "pi")
    bench = Bench(fleet, make_policy(**policy))
    for version, kind in (("2.0.0", "pi"), ("2.1.0", "nuc")):
        bench.releases[f"app-{version}"] = make_release(version, device_types=(kind,))
        bench.start(version)
    return bench


def phases(bench: Bench) -> dict[str, Phase]:
    return {name: rollout.phase for name, rollout in bench.state.rollouts.items()}


def data_of(reply: Reply) -> dict[str, Any]:
    assert reply.status == "ok", reply.error
    return dict(reply.data or {})


def test_a_newer_rollout_ends_the_older_ones_whose_devices_it_wants_and_says_so() -> None:
    bench = two_families()
    bench.install(*bench.state.rollouts["r-001"].plan.waves[0].members)
    ordered = bench.state.rollouts["r-002"].having(Progress.ORDERED)

    planned = data_of(bench.command("plan", release="app-3.0.0", policy="careful", supersede=True))
    started = data_of(bench.start("3.0.0", supersede=True))

    assert planned["supersedes"] == started["supersedes"] == ["r-001", "r-002"]
    assert phases(bench) == {"r-001": Phase.SUPERSEDED, "r-002": Phase.SUPERSEDED, "r-003": Phase.DEPLOYING}
    ended = [(fact["rollout"], fact["outcome"], fact["by"], fact["reason"]) for fact in bench.facts("rollout_ended")]
    assert ended == [(name, "superseded", "alice", "superseded by r-003") for name in ("r-001", "r-002")]
    assert bench.state.rollouts["r-002"].having(Progress.HELD) == ordered
    assert sorted(bench.rollout.plan.targets) == sorted(bench.fleet)


def test_a_rollout_about_other_devices_is_left_alone() -> None:
    bench = two_families()
    bench.releases["app-4.0.0"] = make_release("4.0.0", device_types=("nuc",))

    started = data_of(bench.start("4.0.0", supersede=True))

    assert started["supersedes"] == ["r-002"]
    assert started["excluded"] == {"not for pi": 6}
    assert phases(bench) == {"r-001": Phase.DEPLOYING, "r-002": Phase.SUPERSEDED, "r-003": Phase.DEPLOYING}


def test_a_rollout_of_a_higher_priority_keeps_its_devices() -> None:
    bench = two_families(priority=5)
    weaker = make_policy(priority=4).model_dump(mode="json", by_alias=True)

    refusal = bench.command("start", release="app-3.0.0", policy=weaker, supersede=True).error

    assert refusal is not None
    assert (refusal.code, refusal.message) == (
        "conflict",
        (
            "no device to update: in rollout r-001 (6); in rollout r-002 (6); "
            "r-001 has a higher priority than 4; r-002 has a higher priority than 4"
        ),
    )
    offered = bench.command("start", release="app-3.0.0", policy=weaker).error
    assert offered is not None
    assert offered.message == "no device to update: in rollout r-001 (6); in rollout r-002 (6)"


def test_a_rollback_is_not_superseded() -> None:
    bench = two_families()
    bench.install(*bench.state.rollouts["r-001"].plan.waves[0].members)
    bench.command("rollback", rollout="r-001", scope="fleet", reason="no")

    started = data_of(bench.start("3.0.0", supersede=True))

    assert started["supersedes"] == ["r-002"]
    assert started["excluded"] == {"in rollout r-001": 6}
    assert bench.state.rollouts["r-001"].phase is Phase.ROLLING_BACK


def test_without_being_asked_to_nothing_is_superseded_and_the_refusal_says_what_would_help() -> None:
    bench = two_families()
    before = phases(bench)

    refusal = bench.command("start", release="app-3.0.0", policy="careful").error

    assert refusal is not None
    assert refusal.message == (
        "no device to update: in rollout r-001 (6); in rollout r-002 (6); start with --supersede to end r-001, r-002"
    )
    assert phases(bench) == before


def test_the_plan_that_was_looked_at_starts_and_another_does_not() -> None:
    bench = Bench()
    digest = data_of(bench.command("plan", release="app-2.0.0", policy="careful"))["plan_digest"]
    bench.command("quarantine", device="d-0003", reason="smoke")

    other = bench.command("start", release="app-2.0.0", policy="careful", plan=digest).error
    bench.command("release", device="d-0003")

    assert other is not None
    assert other.code == "conflict"
    assert "the fleet has changed; plan again" in other.message
    assert data_of(bench.start(plan=digest))["plan_digest"] == digest


def test_what_is_told_of_a_fleet_of_many_long_names_fits_into_a_message_and_a_retained_document() -> None:
    long = "\N{GEAR}" * 120
    fleet = make_fleet(
        600,
        device_type=lambda n: f"{n % 90}-{'t' * 100}",
        region=lambda n: f"{n % 300}{long}",
        group=lambda n: f"{n}-{'g' * 50}",
        known_issues=lambda n: [f"{n}{long}"] * (n % 2),
    )
    names = {f"{'d' * 59}-{number:04d}": info for number, info in enumerate(fleet.values())}
    gates = {"canary_gate": ABSOLUTE, "wave_gate": ABSOLUTE, "completion_gate": ABSOLUTE}
    bench = Bench(names, make_policy(canary={"percentage": 45}, gates=gates), warm_up_seconds=0)
    for name in list(names)[:100]:
        bench.command("quarantine", device=name, reason=f"{name} {long}")

    reply = bench.start(ignore_lint=True)
    plan = bench.retained()[TREE.build(Kind.PLAN, rollout="r-001")]

    assert len(encode(reply)) <= MESSAGE.bytes_max
    assert len(plan) <= RETAINED.bytes_max
    assert data_of(reply)["uncovered_count"] == document(plan)["uncovered_count"] > 100
    assert sum(data_of(reply)["excluded"].values()) == 100
    assert data_of(reply)["shortened"]
    assert document(plan)["shortened"][0] == "members"
    assert document(plan)["waves"]

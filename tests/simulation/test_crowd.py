"""A crowd tells the truth: facts in bulk leave what single ones leave, and a rehearsal ends as a whole one does."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from orchestrator.adapters.journal import Journal
from orchestrator.core import events as e
from orchestrator.core.context import Context
from orchestrator.core.events import event_from_json
from orchestrator.core.grants import Wait, decide_grant
from orchestrator.core.inputs import Announced, DeviceReported, PresenceSeen
from orchestrator.core.inventory import Device
from orchestrator.core.observe import observe
from orchestrator.core.reports import decide_reported
from orchestrator.core.rollout import Rollout
from orchestrator.core.snapshot import freeze, thaw
from orchestrator.core.state import State, evolve
from orchestrator.core.targets import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.service import Engine
from orchestrator.telemetry.monitor import Monitor
from schemas.messages import Ready, Reported
from schemas.policy import Policy
from schemas.policy_text import parse_policy
from schemas.topics import TopicTree
from simulator import crowd_health, crowd_world, rehearsing
from simulator.crowd_desk import Desk
from simulator.crowd_facts import apply_to_each
from simulator.crowd_world import CrowdWorld
from simulator.fault_text import parse_fault
from simulator.mail import info_of
from simulator.materials import NEW_VERSION, OLD_VERSION, brisk_policy, make_fleet, make_release
from simulator.rehearsal import RehearsalError, rehearse
from simulator.rehearsal_result import Rehearsal
from simulator.scenario import make_scenario
from tests.simulation.test_rehearsal import CAREFUL, WEAK, careful, simulate

NOW = 1_900_000_100.0
ROLLOUT = "r-001"
FLEET = 40


def under_way() -> State:
    """Return a rollout whose first twelve devices are each somewhere else: ordered, let go, failed, going back."""
    world = CrowdWorld(make_scenario(devices=FLEET, policy=parse_policy(WEAK)), np.ones(FLEET, dtype=np.bool_))
    state, release = world.state, make_release(NEW_VERSION)
    policy = parse_policy(WEAK)
    plan = make_plan(state, release, policy, ROLLOUT, now=NOW)
    assert isinstance(plan, Plan)
    facts: list[e.AnyEvent] = [
        e.RolloutStarted(
            rollout=ROLLOUT, by="alice", reason="", release=release, registry_url="http://x", policy=policy, plan=plan,
            baselines={},
        ),
        *(e.WaveStarted(rollout=ROLLOUT, wave=wave) for wave in (0, 1, 2)),
        _order("install", 2, [*plan.targets]),
        *(_grant(name) for name in plan.targets[:8]),
        *(e.DeviceCommitted(rollout=ROLLOUT, device=name, generation=2, version="2.0.0") for name in plan.targets[:4]),
        _order("rollback", 3, plan.targets[2:6]),
        _order("hold", 4, plan.targets[8:10]),
        _grant(plan.targets[2], generation=3),
    ]  # fmt: skip
    for fact in facts:
        evolve(state, fact, NOW)
    return state


def _order(action: str, generation: int, names: Sequence[str]) -> e.DevicesOrdered:
    return e.DevicesOrdered.model_validate(
        {"rollout": ROLLOUT, "action": action, "generation": generation, "epoch": 1,
         "devices": dict.fromkeys(names, OLD_VERSION)}
    )  # fmt: skip


def _grant(name: str, generation: int = 2, nonce: str = "n", step: str = "activate", seq: int = 7) -> e.GrantIssued:
    return e.GrantIssued.model_validate(
        {"rollout": ROLLOUT, "device": name, "generation": generation, "step": step, "nonce": nonce, "seq": seq}
    )


def told(state: State) -> tuple[list[str], list[str], int]:
    """Return everything that is known of devices and members."""
    rollout = state.rollouts[ROLLOUT]
    return (
        [repr(each) for each in state.devices.values()],
        [repr(each) for each in rollout.members.values()],
        (state.grant_seq),
    )


FACTS: dict[str, tuple[type[e.Event], dict[str, object]]] = {
    "activate": (e.GrantIssued, {"step": "activate", "nonce": "other"}),
    "commit": (e.GrantIssued, {"step": "commit", "nonce": "other"}),
    "staged": (e.DeviceStaged, {"fetched": {"slots": 1, "registry": 2, "peers": 3}}),
    "proven": (e.DeviceProven, {}),
    "committed": (e.DeviceCommitted, {"version": "2.0.0"}),
    "failed": (e.DeviceFailed, {"code": "unhealthy", "message": "", "version": "1.0.0"}),
    "failed and lost": (e.DeviceFailed, {"code": "silent", "message": "", "version": None}),
    "retried": (e.DeviceRetried, {"code": "io", "attempt": 2, "not_before": NOW + 9, "by": "orchestrator"}),
    "returned": (e.DeviceReturned, {"version": "1.0.0"}),
    "quarantined": (e.DeviceQuarantined, {"by": "orchestrator", "reason": "unhealthy"}),
}


def fact_of(kind: str, name: str, place: int) -> e.AnyEvent:
    """Return the fact about one device; grants are numbered."""
    made, fields = FACTS[kind]
    known = {"rollout": ROLLOUT, "generation": 2, "seq": 20 + place}
    about = {field: value for field, value in known.items() if field in made.model_fields}
    return event_from_json(made.model_validate({**about, **fields, "device": name}).model_dump_json())


@pytest.mark.parametrize("kind", FACTS)
def test_a_fact_in_bulk_leaves_the_columns_that_single_facts_leave(kind: str) -> None:
    single = under_way()
    bulk = thaw(freeze(single))
    single = thaw(freeze(single))
    names = single.rollouts[ROLLOUT].members.names[1:30]

    for place, name in enumerate(names):
        evolve(single, fact_of(kind, name, place), NOW + 1)
    apply_to_each(bulk, fact_of(kind, names[0], 0), bulk.devices.rows(names), NOW + 1)

    assert told(bulk) == told(single)


def test_devices_that_report_together_leave_what_they_leave_one_by_one() -> None:
    single, bulk = under_way(), under_way()
    rollout = bulk.rollouts[ROLLOUT]

    for name in rollout.members.names:
        reported = Reported(
            observed_generation=single.devices[name].generation, seq=1, state="idle", installed_version=NEW_VERSION,
            boot_id="crowd",
        )  # fmt: skip
        for fact in decide_reported(single, name, reported, NOW + 1):
            evolve(single, fact, NOW + 1)
        observe(single, DeviceReported(name, reported), NOW + 1)
    desk = Desk(bulk, rollout, np.random.default_rng(1))
    desk.report(bulk.devices.rows(rollout.members.names), "idle", NEW_VERSION, NOW + 1)

    assert told(bulk) == told(single)
    assert "committed" in "".join(told(bulk)[1])


@pytest.mark.parametrize(("parallel", "unavailable"), [(10, "100%"), (50, "25%"), (50, "100%"), (1, "1%")])
def test_as_many_are_let_go_at_once_as_one_after_the_other(parallel: int, unavailable: str) -> None:
    single, bulk = under_way(), under_way()
    for state in (single, bulk):
        _limit(state.rollouts[ROLLOUT], parallel, unavailable)
    members = bulk.rollouts[ROLLOUT].members
    asking = [name for name in members.names if members[name].progress == "ordered"]

    alone = [name for name in asking if _asks(single, name)]
    goes, again_at = Desk(bulk, bulk.rollouts[ROLLOUT], np.random.default_rng(1)).ask(
        bulk.devices.rows(asking), "activate", NOW + 1
    )

    assert [name for name, may in zip(asking, goes, strict=True) if may] == alone
    assert (again_at[~goes] >= NOW + 31).all()


@pytest.mark.parametrize("ill", [1, 7, 11, 40])
def test_as_many_are_let_go_at_once_as_one_after_the_other_where_some_are_ill(ill: int) -> None:
    single, bulk = under_way(), under_way()
    members = bulk.rollouts[ROLLOUT].members
    for state in (single, bulk):
        _limit(state.rollouts[ROLLOUT], 50, "20%", "80%")
        state.devices.fill(state.devices.rows(members.names[-ill:]), Device.is_ill, value=True)
    asking = [name for name in members.names if members[name].progress == "ordered"]

    alone = {name for name in asking if _asks(single, name)}
    goes, _ = Desk(bulk, bulk.rollouts[ROLLOUT], np.random.default_rng(1)).ask(
        bulk.devices.rows(asking), "activate", NOW + 1
    )

    together = {name for name, may in zip(asking, goes, strict=True) if may}
    well = set(members.names[:-ill])
    assert (len(together), len(together & well)) == (len(alone), len(alone & well))


def _limit(rollout: Rollout, parallel: int, unavailable: str, available: str = "1%") -> None:
    policy = rollout.policy
    limits = policy.rollout.global_.model_copy(update={"max_parallel_deploys": parallel})
    update = type(policy.rolling_update).model_validate({"max_unavailable": unavailable, "min_available": available})
    rollout.policy = policy.model_copy(
        update={"rollout": policy.rollout.model_copy(update={"global_": limits}), "rolling_update": update}
    )


def _asks(state: State, name: str) -> bool:
    ready = Ready(generation=2, step="activate", nonce=f"{state.grant_seq:032x}")
    decision = decide_grant(state, name, ready, now=NOW + 1)
    if isinstance(decision, Wait):
        return False
    evolve(state, decision, NOW + 1)
    return True


def test_a_crowd_that_settles_in_is_known_as_if_each_device_had_said_who_it_is() -> None:
    scenario = make_scenario(devices=6)
    world = CrowdWorld(scenario, np.zeros(6, dtype=np.bool_))
    engine = Engine(Journal(None), Context(Monitor(), {}, {}, ""), lambda payload: payload, TopicTree())
    engine.start(world.now)
    for spec in scenario.fleet:
        engine.handle(Announced(spec.id, info_of(spec, 1, OLD_VERSION, "crowd")), world.now)
        engine.handle(PresenceSeen(spec.id, is_online=True), world.now)

    left_out = {"boot", "boot_before", "said_at", "interval_seconds", "sampled_at"}
    one_by_one, together = (
        [{name: repr(cell) for name, cell in each.cells().items() if name not in left_out} for each in devices.values()]
        for devices in (engine.state.devices, world.state.devices)
    )
    assert together == one_by_one


def both(policy: Policy, devices: int, fault: str) -> tuple[Rehearsal, Rehearsal]:
    """Return a rehearsal in bulk and one with whole devices."""
    fleet, found = make_fleet(devices), parse_fault(fault)
    return rehearse(policy, fleet, found, 3, whole_max=0), rehearse(policy, fleet, found, 3)


@pytest.mark.parametrize("fault", ["crash", "unhealthy", "does not start", "p95 +40%"])
def test_what_stops_at_the_canary_stops_there_in_bulk_within_a_minute_of_it(fault: str) -> None:
    bulk, whole = both(careful(), 60, fault)

    assert (bulk.in_bulk, whole.in_bulk) == (True, False)
    assert (bulk.outcome, bulk.stopped_in, bulk.stopped_by) == (whole.outcome, "canary", whole.stopped_by)
    assert (bulk.exposed, bulk.harmed, bulk.affected) == (whole.exposed, whole.harmed, whole.affected)
    assert bulk.seconds == pytest.approx(whole.seconds, abs=60)
    assert [wave.devices for wave in bulk.waves] == [wave.devices for wave in whole.waves]


@pytest.mark.parametrize(
    ("text", "fault", "devices"), [("brisk", "20% crash", 40), ("brisk", "none", 40), (WEAK, "error rate +8%", 30)]
)
def test_what_goes_on_to_the_waves_goes_as_far_in_bulk_and_takes_as_long(text: str, fault: str, devices: int) -> None:
    policy = brisk_policy() if text == "brisk" else parse_policy(text)
    bulk, whole = both(policy, devices, fault)

    assert (bulk.outcome, bulk.stopped_in, bulk.stopped_by) == (whole.outcome, whole.stopped_in, whole.stopped_by)
    assert bulk.exposed == pytest.approx(whole.exposed, rel=0.1)
    assert bulk.harmed == pytest.approx(whole.harmed, abs=1)
    assert bulk.seconds == pytest.approx(whole.seconds, rel=0.05, abs=60)
    assert [wave.verdict for wave in bulk.waves] == [wave.verdict for wave in whole.waves]


@pytest.mark.parametrize(("fault", "stopped_in"), [("p95 +40%", "canary"), ("none", "")])
def test_a_crowd_at_the_pace_of_a_million_devices_ends_as_one_that_is_looked_at_closely(
    fault: str, stopped_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, found = make_fleet(200), parse_fault(fault)
    closely = rehearse(careful(), fleet, found, 3, whole_max=0)
    monkeypatch.setattr(crowd_world, "_PACES", crowd_world._PACES[-1:])
    monkeypatch.setattr(crowd_health, "HEARD_MAX", 20)
    coarsely = rehearse(careful(), fleet, found, 3, whole_max=0)

    assert (closely.outcome, closely.stopped_in, closely.stopped_by) == (
        coarsely.outcome, coarsely.stopped_in, coarsely.stopped_by
    )  # fmt: skip
    assert closely.stopped_in == stopped_in
    assert coarsely.exposed == pytest.approx(closely.exposed, rel=0.1)
    assert coarsely.seconds == pytest.approx(closely.seconds, rel=0.15, abs=180)
    assert [wave.verdict for wave in coarsely.waves] == [wave.verdict for wave in closely.waves]


def test_the_same_seed_gives_the_same_rehearsal_in_bulk() -> None:
    fleet, fault = make_fleet(40), parse_fault("20% of jetson crash")
    first, again = (rehearse(parse_policy(WEAK), fleet, fault, 5, whole_max=0) for _ in range(2))

    assert first == again


def test_a_crowd_for_which_no_rollout_starts_is_refused_with_the_reason() -> None:
    nobody = parse_policy(WEAK).model_copy(update={"targets": 'type == "toaster"'})
    with pytest.raises(RehearsalError, match="the rollout does not start: no device to update: not selected by"):
        rehearse(nobody, make_fleet(20), parse_fault("none"), 1, whole_max=0)


def test_the_command_says_what_bulk_leaves_out_in_words_in_json_and_in_the_picture(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsing, "WHOLE_MAX", 0)
    picture = tmp_path / "run.svg"
    arguments = [str(CAREFUL), "--devices", "30", "--fault", "crash", "--plot", str(picture)]

    _, words, _ = simulate(capsys, *arguments)
    _, data, _ = simulate(capsys, *arguments, "--json")
    found = json.loads(data)

    assert "So many devices were played in bulk" in words
    assert "Left out: messages, network, disks." in found["in_bulk"]
    assert found["runs"][0]["in_bulk"]
    assert "played in bulk" in picture.read_text()


def test_a_fleet_that_is_too_large_is_refused_before_it_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = simulate(capsys, str(CAREFUL), "--devices", "900000000000")

    assert code == 2
    assert "900,000,000,000 devices: from 1 to 2,000,000 can be simulated" in told

import hashlib
import json
from typing import Any

import pytest

from orchestrator.core import events as e
from orchestrator.core.documents import MEMBERS_MAX, desired_bytes, plan_document, status_document, wave_document
from orchestrator.core.effects import (
    PublishDesired,
    PublishMessage,
    PublishPlan,
    PublishStatus,
    merge,
    ordered_devices,
    react,
    reassert,
)
from orchestrator.core.releases import StoredRelease
from orchestrator.core.rollout import Phase
from schemas.codec import MESSAGE, RETAINED, decode, encode
from schemas.documents import RolloutEvent
from schemas.messages import Desired
from schemas.topics import Kind
from tests.core.core_bench import Bench, document, durable, make_fleet, make_info, make_policy, make_release

CANARY = "d-0001"


def started(**policy: Any) -> Bench:  # noqa: ANN401 - any part of a policy
    bench = Bench(policy=make_policy(**policy))
    bench.start()
    return bench


def desired(bench: Bench, name: str = CANARY) -> Desired:
    return decode(Desired, bench.retained()[f"fleet/v1/device/{name}/desired"], RETAINED)


def test_an_install_says_what_where_from_and_how_it_is_proven() -> None:
    bench = started(update={"min_ready_seconds": 7, "progress_deadline": 70, "health_check": {"port": 8080}})

    order = desired(bench)

    assert (order.action, order.rollout, order.wave, order.release) == ("install", "r-001", "canary", "app-2.0.0")
    assert (order.version, order.generation, order.epoch, order.commit_on) == ("2.0.0", 1, 1, "round_trip")
    assert order.manifest is not None
    assert order.artifact is not None
    assert order.manifest.urls == (f"http://registry/manifests/{order.manifest.sha256}",)
    assert order.artifact.sources == (f"http://registry/artifacts/{order.artifact.sha256}",)
    assert (order.min_ready_seconds, order.progress_deadline_seconds, order.health_check.port) == (7, 70, 8080)
    assert order.fallback is not None
    assert order.fallback.version == "1.0.0"


def test_a_rollback_names_the_version_before_and_needs_no_download() -> None:
    bench = started()
    bench.install(CANARY)
    bench.command("rollback", rollout="r-001")

    order = desired(bench)

    assert (order.action, order.version, order.generation) == ("rollback", "1.0.0", 2)
    assert (order.manifest, order.artifact) == (None, None)


def test_a_device_is_ordered_the_artifact_of_its_own_architecture() -> None:
    arm, intel = (make_release(arch=arch).by_arch for arch in ("aarch64", "x86_64"))
    bench = Bench(make_fleet(12, arch=lambda n: "aarch64" if n % 2 else "x86_64"))
    both = StoredRelease(release="app-2.0.0", version="2.0.0", release_counter=1, by_arch={**arm, **intel})
    bench.releases["app-2.0.0"] = both
    bench.start()
    bench.install_wave()
    bench.soak()

    archs = {desired(bench, name).artifact.arch for name in bench.wave(1)}  # type: ignore[union-attr]  # an install
    assert archs == {"aarch64", "x86_64"}
    for name in bench.wave(1):
        artifact = desired(bench, name).artifact
        assert artifact is not None
        assert artifact.arch == bench.fleet[name].arch


def test_each_device_is_sent_back_to_what_it_ran_itself() -> None:
    bench = Bench(make_fleet(12))
    before = {name: "1.1.0" if number % 2 else "1.0.0" for number, name in enumerate(bench.devices)}
    for name, version in before.items():
        bench.devices[name].version = version
    bench.speak()
    bench.reach_wave(1)
    bench.install_wave()

    bench.command("rollback", rollout="r-001")

    orders = {name: desired(bench, name) for name in bench.wave(0) + bench.wave(1)}
    assert {order.action for order in orders.values()} == {"rollback"}
    assert {name: order.version for name, order in orders.items()} == {name: before[name] for name in orders}
    assert {order.version for order in orders.values()} == {"1.0.0", "1.1.0"}


@pytest.mark.parametrize(
    "change", [{"arch": "unheard-of"}, {"device_type": "toaster"}, {"version": "7"}, {"group": "x"}]
)
def test_what_a_device_says_later_changes_no_order_and_breaks_nothing(change: dict[str, Any]) -> None:
    bench = Bench()
    bench.releases["app-2.0.0"] = make_release(arch="aarch64")
    bench.start()
    before = bench.retained()[f"fleet/v1/device/{CANARY}/desired"]

    bench.say(Kind.INFO, make_info(**change), device=CANARY)
    bench.report(CANARY, "downloading")
    bench.ask(CANARY)
    bench.boot()

    assert bench.retained()[f"fleet/v1/device/{CANARY}/desired"] == before


def test_a_grant_names_the_digest_of_the_order_it_is_for() -> None:
    bench = started()

    grant = bench.ask(CANARY)

    assert grant.desired_sha256 == hashlib.sha256(bench.retained()[f"fleet/v1/device/{CANARY}/desired"]).hexdigest()
    assert (grant.device, grant.generation, grant.step, grant.epoch) == (CANARY, 1, "activate", 1)


def test_the_status_says_where_the_rollout_is_and_why() -> None:
    bench = started()
    bench.install_wave()
    bench.advance(60)

    status = status_document(bench.state, bench.rollout, bench.now)

    assert (status.phase, status.wave, status.paused, status.allowed) == (
        "soaking", "canary", False, ("pause", "skip", "abort", "rollback"),
    )  # fmt: skip
    assert status.counts == {"committed": 1, "pending": 5, "total": 6, "failed_ever": 0}
    assert status.reasons[0] == "soaked 60 of 300 s, short-term phase"
    assert status.next_decision_at is not None


def test_the_status_counts_no_soak_and_promises_no_decision_while_nobody_is_heard() -> None:
    bench = started()
    bench.install_wave()
    bench.advance(60)
    for device in bench.devices.values():
        device.is_silent = True
    bench.advance(600)
    assert bench.state.frozen

    status = status_document(bench.state, bench.rollout, bench.now)

    soaked = status.waves[0].soaked_seconds
    assert (status.frozen, status.next_decision_at) == (True, None)
    assert status.allowed[0] == "resume", "a person may take the silence for what it is"
    assert soaked < 300
    bench.advance(600)
    assert status_document(bench.state, bench.rollout, bench.now).waves[0].soaked_seconds == soaked


def test_a_rollout_that_is_over_does_not_say_for_ever_that_nothing_is_decided() -> None:
    bench = started()
    bench.command("abort", rollout="r-001")
    bench.state.frozen = "half of the fleet fell silent"

    assert not status_document(bench.state, bench.rollout, bench.now).frozen


def test_a_wave_names_its_members_up_to_a_size_and_then_their_digest() -> None:
    bench = Bench(
        make_fleet(450), make_policy(waves=[{"name": "w1", "percentage": 20}, {"name": "w2", "percentage": 100}])
    )
    bench.start()

    documents = [wave_document(bench.rollout, number) for number in range(3)]

    assert [each.state for each in documents] == ["deploying", "waiting", "waiting"]
    assert [each.device_count for each in documents] == [5, 89, 356]
    assert documents[1].members == bench.wave(1)
    assert documents[2].members is None
    digest = hashlib.sha256("\n".join(bench.wave(2)).encode()).hexdigest()
    assert documents[2].members_sha256 == digest
    assert all(len(encode(each)) <= RETAINED.bytes_max for each in documents)


def test_the_plan_can_be_read_and_shows_who_is_left_out() -> None:
    bench = started()

    plan = document(plan_document(bench.rollout))

    assert plan["plan_digest"] == bench.rollout.plan.digest
    assert [wave["devices"] for wave in plan["waves"]] == [1, 3, 2]
    assert plan["canary"] == {CANARY: "best monitored pi"}
    assert (plan["started_by"], plan["excluded"]) == ("alice", {})


def test_a_large_canary_does_not_make_answers_that_nobody_can_read() -> None:
    bench = Bench(make_fleet(300), make_policy(canary={"percentage": 100}), warm_up_seconds=60)
    reply = bench.start()

    assert len((reply.data or {})["canary"]) == MEMBERS_MAX
    assert len(json.loads(plan_document(bench.rollout))["canary"]) == MEMBERS_MAX


def test_a_long_reason_is_told_in_short_and_kept_whole_in_the_audit() -> None:
    bench = started()
    halted = e.RolloutHalted(rollout="r-001", reason="because " * 1000)

    notices = [each for each in react(bench.state, halted, bench.now) if isinstance(each, PublishMessage)]

    (notice,) = notices
    assert isinstance(notice.message, RolloutEvent)
    assert notice.message.message == ("because " * 1000)[:1024]
    assert decode(RolloutEvent, encode(notice.message), MESSAGE) == notice.message


def test_a_halt_for_many_long_reasons_can_be_told() -> None:
    names = {f"{'d' * 60}-{number}": info for number, info in enumerate(make_fleet(12).values())}
    checks = [
        {"type": kind, "threshold": threshold, "window": "2m", "min_samples": 2}
        for kind, threshold in (
            ("error_rate", "baseline + 2%"), ("latency_p95", 0.5), ("crash_count", 0),
            ("application_health", "all_healthy"), ("device_health", "all_healthy"),
        )
    ]  # fmt: skip
    policy = make_policy(
        canary={"percentage": 90},
        gates={"canary_gate": {"checks": checks}},
        max_soak_extensions=0,
        mass_silence={"percent": 100},
    )
    bench = Bench(names, policy)
    bench.start()
    bench.install_wave()
    for device in bench.devices.values():
        device.is_silent = True

    bench.soak()

    assert bench.phase() is Phase.HALTED
    assert len(bench.rollout.reason) > 1024
    bench.boot()


def test_ten_facts_in_one_turn_publish_a_document_once_at_its_last_mention() -> None:
    order, other = PublishDesired("a"), PublishDesired("b")
    message = PublishMessage(Kind.SYNC, {}, make_info())

    merged = merge([order, PublishStatus("r", (0,)), message, order, other, PublishStatus("r", (2, 1)), message, order])

    assert merged == [message, other, PublishStatus("r", (0, 1, 2)), message, order]


def test_after_a_connect_every_document_is_written_again() -> None:
    bench = started()
    bench.install_wave()
    bench.advance(60)
    before = durable(bench.state)

    effects = reassert(bench.state)

    assert ordered_devices(bench.state) == list(bench.wave(0))
    assert PublishPlan("r-001") in effects
    assert PublishStatus("r-001", (0, 1, 2)) in effects
    assert [each.kind for each in effects if isinstance(each, PublishMessage)] == [Kind.GATE]
    assert durable(bench.state) == before


def test_desired_bytes_follow_from_the_journal_alone() -> None:
    bench = started()
    device = bench.state.devices[CANARY]
    before = desired_bytes(bench.state, device)

    device.is_online, device.is_asking, device.version = False, True, "9.9.9"

    assert desired_bytes(bench.state, device) == before

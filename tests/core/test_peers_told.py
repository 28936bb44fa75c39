"""Devices of a site that give each other a release: who waits for whom, and who is told to the others."""

from typing import Any

import pytest

from orchestrator.core.peers import peers_ref
from orchestrator.core.snapshot import freeze, thaw
from orchestrator.planning.distribution import Size, plan_distribution
from schemas.codec import decode
from schemas.errors import PolicyError
from schemas.messages import Desired, PeersDocument, PeersRef
from schemas.peers import is_peer_url, site_key
from schemas.policy_distribution import DistributionPolicy
from schemas.policy_text import parse_policy
from tests.core.core_bench import Bench, make_fleet, make_policy

SITES = ("plant-7", "plant-8")
TOPIC = "fleet/v1/all/peers/{}"


def made(count: int = 24, **peers: Any) -> Bench:  # noqa: ANN401 - any field of the block
    fleet = make_fleet(count, site=lambda n: SITES[n % 2])
    giving = {
        name: info.model_copy(update={"peer_url": f"http://10.0.0.{number}:8081"} if info.site == "plant-7" else {})
        for number, (name, info) in enumerate(fleet.items())
    }
    block = {"sources": ["peers", "registry"], "peers": peers} if peers else {"sources": ["peers", "registry"]}
    return Bench(giving, make_policy(distribution=block))


def started(count: int = 24, **peers: Any) -> Bench:  # noqa: ANN401 - any field of the block
    bench = made(count, **peers)
    bench.start()
    bench.install_wave()
    bench.soak()
    return bench


def told(bench: Bench) -> dict[str, PeersRef | None]:
    found = {}
    for name in bench.fleet:
        payload = bench.retained().get(f"fleet/v1/device/{name}/desired")
        if payload:
            artifact = decode(Desired, payload).artifact
            assert artifact is not None
            found[name] = artifact.peers
    return found


def document(bench: Bench, site: str = "plant-7") -> PeersDocument | None:
    payload = bench.retained().get(TOPIC.format(site_key(site)))
    return decode(PeersDocument, payload) if payload else None


def given(bench: Bench) -> set[str]:
    found = document(bench)
    return set() if found is None else {url for each in found.artifacts for url in each.urls}


def test_the_first_of_each_wave_and_site_do_not_wait_and_the_others_do() -> None:
    bench = started(first=2, wait="4m")

    refs = told(bench)
    wave = [name for name, _ in bench.rollout.in_wave(1) if bench.fleet[name].site == "plant-7"]
    waits = [ref.wait_seconds for name in wave if (ref := refs[name]) is not None]
    assert len(waits) == len(wave) > 2
    assert waits == [0.0, 0.0] + [240.0] * (len(waits) - 2)
    assert {ref.key for ref in refs.values() if ref is not None} == {site_key("plant-7")}


def test_devices_of_a_site_where_nobody_gives_are_told_the_registry_alone() -> None:
    bench = started()

    assert {ref for name, ref in told(bench).items() if bench.fleet[name].site == "plant-8"} == {None}
    assert all(b'"peers"' not in bench.retained()[f"fleet/v1/device/{name}/desired"]
               for name in told(bench) if bench.fleet[name].site == "plant-8")  # fmt: skip
    assert document(bench, "plant-8") is None


def test_nobody_waits_longer_than_half_of_the_time_that_he_has() -> None:
    bench = started(first=1, wait="10m")
    policy = bench.rollout.policy
    limits = policy.rollout.global_.model_copy(update={"deploy_timeout_minutes": 4.0})
    block = policy.rollout.model_copy(update={"global_": limits})
    bench.rollout.policy = policy.model_copy(update={"rollout": block})

    refs = [peers_ref(bench.rollout, member) for _, member in bench.rollout.in_wave(1)]
    assert {ref.wait_seconds for ref in refs if ref is not None} == {0.0, 120.0}


def test_those_who_have_it_are_told_and_those_who_left_are_not() -> None:
    bench = started()
    having = {bench.fleet[name].peer_url for name, _ in bench.rollout.in_wave(0) if bench.fleet[name].peer_url}
    bench.advance(10)
    assert having
    assert given(bench) == having

    gone = next(name for name, info in bench.fleet.items() if info.peer_url in having)
    bench.set_online(gone, is_online=False)
    bench.advance(10)
    assert given(bench) == having - {bench.fleet[gone].peer_url}


def test_at_most_sixteen_are_told_and_always_the_same() -> None:
    bench = started(120)
    bench.install_wave()
    bench.advance(10)
    found = document(bench)
    assert found is not None
    assert len(given(bench)) == 16
    sent = len([each for each in bench.sent if "/peers/" in each.topic])

    bench.advance(30)

    assert len([each for each in bench.sent if "/peers/" in each.topic]) == sent, "nothing is said twice"
    bench.boot()
    bench.speak()
    bench.advance(30)
    assert document(bench) == found


def test_what_was_told_is_cleared_when_the_rollout_ends_also_if_it_ended_unseen() -> None:
    bench = started()
    bench.advance(10)
    assert given(bench)

    bench.command("abort", rollout=bench.rollout.id, reason="enough")
    bench.advance(10)
    topic = TOPIC.format(site_key("plant-7"))
    assert not bench.retained().get(topic)

    bench.sent.clear()
    bench.boot()
    bench.speak()
    bench.advance(10)
    assert [each.payload for each in bench.sent if each.topic == topic] == [b""], "the broker may have kept it"


def test_what_was_told_is_told_again_to_a_broker_that_may_have_lost_it() -> None:
    bench = started()
    bench.advance(10)
    topic, before = TOPIC.format(site_key("plant-7")), given(bench)
    bench.sent.clear()

    bench.take(bench.engine.reconnected(bench.now))

    assert [each.retain for each in bench.sent if each.topic == topic] == [True]
    assert given(bench) == before


def test_peers_survive_a_snapshot() -> None:
    bench = started()

    assert thaw(freeze(bench.state)).rollouts[bench.rollout.id].peer_ranks == {"plant-7": 0}


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("http://10.7.0.31:8081", True), ("http://pi-1.plant:80", True), ("http://[fd00::1]:8081", True),
        ("https://10.7.0.31:8081", False), ("http://10.7.0.31", False), ("http://a:80/", False),
        ("http://a:80/admin?x=", False), ("http://user@a:80", False), ("file:///etc/passwd", False),
        ("http://a:80\n", False), ("http://a b:80", False), ("http://" + "a" * 200 + ":80", False), ("", False),
    ],
)  # fmt: skip
def test_address_that_leads_anywhere_but_to_a_host_and_its_port_is_nobodys(url: str, is_one: bool) -> None:  # noqa: FBT001 - a column
    assert is_peer_url(url) is is_one


def test_device_with_such_an_address_is_told_to_nobody() -> None:
    bench = started()
    bench.advance(10)
    liar = next(name for name, info in bench.fleet.items() if info.peer_url in given(bench))
    before = given(bench)
    bench.devices[liar].info = bench.fleet[liar].model_copy(update={"peer_url": "http://registry/admin?"})
    bench.speak()
    bench.advance(10)

    assert given(bench) == before - {bench.fleet[liar].peer_url}


def test_plan_says_what_peers_spare() -> None:
    policy = DistributionPolicy.model_validate({"sources": ["peers", "registry"]})
    found = plan_distribution(policy, {("p", "a"): 100, ("q", "a"): 5}, {"a": Size(1000, 10)}, (), {"p": 60})

    assert found.reason == "the policy says so; 60 of 105 devices give the others of their site what they have"
    assert [(each.site, each.through, each.wan_bytes, each.direct_bytes, each.giving) for each in found.sites] == [
        ("p", "peers", 2 * 1000 + 100 * 10, 101_000, 60),
        ("q", "registry", 5050, 5050, 0),
    ]


def test_with_a_cache_behind_peers_the_line_is_crossed_once() -> None:
    policy = DistributionPolicy.model_validate({"sources": ["peers", "cache", "registry"]})
    found = plan_distribution(policy, {("p", "a"): 100}, {"a": Size(1000, 10)}, {"p"}, {"p": 60})

    assert (found.sites[0].through, found.sites[0].wan_bytes) == ("peers", 1010)


@pytest.mark.parametrize(
    ("devices", "giving", "sources"),
    [(500, 500, ("registry",)), (501, 251, ("peers", "registry")), (501, 250, ("registry",))],
)
def test_auto_lets_more_than_500_devices_give_each_other_what_they_have(
    devices: int, giving: int, sources: tuple[str, ...]
) -> None:
    found = plan_distribution(DistributionPolicy(), {("p", "a"): devices}, {"a": Size(1, 0)}, (), {"p": giving})

    assert found.sources == sources
    if devices > 500:
        assert "give" in found.reason


@pytest.mark.parametrize("text", ["first: 0", "wait: 11m", "wait: 0m", "last: 1"])
def test_policy_whose_peers_make_no_sense_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_policy(f"distribution:\n  sources: [peers, registry]\n  peers: {{{text}}}\n")

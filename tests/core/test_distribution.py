"""Who is told to fetch from where, and what that costs each line."""

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.core.distribution import SitesError
from orchestrator.core.snapshot import freeze, thaw
from orchestrator.planning.distribution import Size, plan_distribution
from schemas.codec import decode
from schemas.errors import PolicyError
from schemas.messages import Desired, Fetched, FetchLimits, FetchWindow, Reported
from schemas.policy_distribution import DistributionPolicy
from schemas.policy_text import parse_policy
from schemas.topics import Kind
from tests.core.core_bench import Bench, make_fleet, make_policy, make_release

CACHES = {"plant-7": ("http://cache-7",), "plant-9": ("http://cache-9a", "http://cache-9b")}
SITES = ("plant-7", "plant-8", "plant-9", None)


def started(caches: Mapping[str, tuple[str, ...]] = CACHES, **policy: Any) -> Bench:  # noqa: ANN401 - any block
    bench = Bench(make_fleet(12, site=lambda n: SITES[n % 4]), make_policy(**policy), caches=lambda: caches)
    bench.start()
    bench.install_wave()
    bench.soak()
    return bench


def sources(bench: Bench) -> dict[str | None, tuple[tuple[str, ...], tuple[str, ...]]]:
    """What each site's ordered devices are told: where the manifest is, and where the archive."""
    told = {}
    for name, info in bench.fleet.items():
        retained = bench.retained().get(f"fleet/v1/device/{name}/desired")
        if retained is not None:
            desired = decode(Desired, retained)
            assert desired.manifest is not None
            assert desired.artifact is not None
            told[info.site] = (
                tuple(url.split("/manifests/")[0] for url in desired.manifest.urls),
                tuple(url.split("/artifacts/")[0] for url in desired.artifact.sources),
            )
    return told


REGISTRY = ("http://registry",)


def test_devices_of_a_site_are_told_its_cache_first_and_the_registry_behind_it() -> None:
    told = sources(started())

    assert told["plant-7"] == 2 * (("http://cache-7", *REGISTRY),)
    assert told["plant-9"] == 2 * (("http://cache-9a", "http://cache-9b", *REGISTRY),)
    assert told["plant-8"] == told[None] == 2 * (REGISTRY,)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (["registry", "cache"], ("http://registry", "http://cache-7")),
        (["registry"], REGISTRY),
        (["cache"], ("http://cache-7",)),
    ],
)
def test_the_policy_says_the_order_and_nobody_is_left_without_a_source(named: list[str], told: tuple[str, ...]) -> None:
    found = sources(started(distribution={"sources": named}))

    assert found["plant-7"] == (told, told)
    assert found["plant-8"] == (REGISTRY, REGISTRY)


def test_what_a_device_fetched_is_kept_by_what_its_sources_are() -> None:
    bench = started()
    name = next(name for name, _ in bench.rollout.in_wave(1) if bench.fleet[name].site in CACHES)
    caches = CACHES[bench.fleet[name].site or ""]
    device = bench.state.devices[name]
    bench.say(
        Kind.REPORTED,
        Reported(
            observed_generation=device.generation, seq=9, state="idle", installed_version="2.0.0", boot_id="boot",
            fetched=Fetched(slots=1000, peers=200, sources=(*(30 for _ in caches), 500, 7)),
        ),
        device=name,
    )  # fmt: skip

    (committed,) = [fact for fact in bench.facts("device_committed") if fact["device"] == name]
    assert committed["fetched"] == {"slots": 1000, "peers": 200, "cache": 30 * len(caches), "registry": 500}
    others = [fact for fact in bench.facts("device_committed") if fact["device"] != name]
    assert not any("fetched" in fact for fact in others), "nothing is written of those who did not say"


def test_a_running_rollout_keeps_its_sources_whatever_the_file_and_the_devices_say_later() -> None:
    bench = started()
    before = {name: payload for name, payload in bench.retained().items() if name.endswith("/desired")}

    def broken() -> Mapping[str, tuple[str, ...]]:
        raise SitesError("sites.yaml:1:1: broken")

    bench.caches = broken
    bench.boot()
    bench.speak()

    assert {name: payload for name, payload in bench.retained().items() if name.endswith("/desired")} == before
    assert sources(bench)["plant-7"] == 2 * (("http://cache-7", *REGISTRY),)


def test_sources_survive_a_snapshot() -> None:
    bench = started()
    copy = thaw(freeze(bench.state)).rollouts[bench.rollout.id]

    assert copy.sources == CACHES_WITH_REGISTRY
    assert [each.site for _, each in copy.in_wave(1)] == [each.site for _, each in bench.rollout.in_wave(1)]


CACHES_WITH_REGISTRY = {site: (*bases, *REGISTRY) for site, bases in CACHES.items()}


def test_a_file_of_sites_that_is_broken_stops_a_start_with_its_place() -> None:
    bench = Bench()

    def broken() -> Mapping[str, tuple[str, ...]]:
        raise SitesError("sites.yaml:3:5: unknown key 'cach'; did you mean 'cache'?")

    bench.caches = broken
    bench.boot()
    bench.speak()

    reply = bench.command("start", release="app-2.0.0", policy="careful")

    assert reply.error is not None
    assert (reply.error.code, reply.error.message) == (
        "not_allowed", "sites.yaml:3:5: unknown key 'cach'; did you mean 'cache'?",
    )  # fmt: skip


def test_the_plan_says_what_each_line_carries() -> None:
    wanted = {("plant-7", "a"): 212, ("plant-7", "b"): 3, ("", "a"): 5}
    found = plan_distribution(
        DistributionPolicy(), wanted, {"a": Size(47_990_000, 10_000), "b": Size(10, 0)}, {"plant-7"}
    )

    assert found.sources == ("cache", "registry")
    assert found.reason == "215 of 220 devices are at sites with a cache"
    plant, elsewhere = found.sites
    assert (plant.site, plant.through, plant.devices) == ("plant-7", "cache", 215)
    assert (plant.wan_bytes, plant.direct_bytes) == (48_000_010, 10_176_000_030)
    assert (elsewhere.site, elsewhere.through, elsewhere.devices) == ("", "registry", 5)
    assert elsewhere.wan_bytes == elsewhere.direct_bytes == 240_000_000
    assert found.wan_bytes == 288_000_010


@pytest.mark.parametrize(("count", "advice"), [(500, "simplest"), (501, "a cache for each site spares")])
def test_without_caches_the_registry_is_chosen_and_the_size_says_what_is_advised(count: int, advice: str) -> None:
    found = plan_distribution(DistributionPolicy(), {("plant-7", "a"): count}, {"a": Size(1, 0)}, ())

    assert found.sources == ("registry",)
    assert advice in found.reason


def test_who_is_told_the_registry_against_the_policy_is_counted() -> None:
    policy = DistributionPolicy.model_validate({"sources": ["cache"]})
    found = plan_distribution(policy, {("plant-7", "a"): 3, ("plant-8", "a"): 2}, {"a": Size(1, 0)}, {"plant-7"})

    assert found.reason == ("the policy says so; 2 of 5 devices have no cache at their site and are told the registry")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cache, usb]", "'usb' is no source; write auto, or a list out of cache, peers, registry"),
        ("[]", "write auto, or a list out of cache, peers, registry"),
        ("cache", "write auto, or a list out of cache, peers, registry"),
        ("[cache, cache]", "'cache' stands there twice"),
    ],
)
def test_a_policy_with_a_source_that_is_none_is_refused_with_the_list(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=":2:3: .*" + message):
        parse_policy(f"distribution:\n  sources: {text}\n")


# What devices may take of a site's line

NIGHT = FetchLimits(bytes_per_second=20_000, window=FetchWindow(start="22:00", end="05:00"))


def limited_bench(**policy: Any) -> Bench:  # noqa: ANN401 - any block
    fleet = make_fleet(12, site=lambda n: SITES[n % 4])
    bench = Bench(fleet, make_policy(**policy), limits=lambda: {"plant-7": NIGHT, "elsewhere": NIGHT})
    bench.start()
    return bench


def limits_told(bench: Bench) -> dict[str | None, FetchLimits | None]:
    found = {}
    for name, info in bench.fleet.items():
        retained = bench.retained().get(f"fleet/v1/device/{name}/desired")
        if retained is not None:
            artifact = decode(Desired, retained).artifact
            assert artifact is not None
            assert (artifact.limits is None) == (b'"limits"' not in retained)
            found[info.site] = artifact.limits
    return found


def test_the_devices_of_a_site_are_told_what_they_may_take_of_its_line() -> None:
    bench = limited_bench(distribution={"activate": "manual"})

    assert limits_told(bench) == {"plant-7": NIGHT, "plant-8": None, "plant-9": None, None: None}
    assert thaw(freeze(bench.state)).rollouts["r-001"].limits == {"plant-7": NIGHT}


def test_a_plan_says_how_long_an_archive_takes_a_device_of_each_site() -> None:
    bench = Bench(make_fleet(4, site="plant-7"), limits=lambda: {"plant-7": NIGHT})
    bench.releases["app-2.0.0"] = make_release(artifact_size_bytes=1_008_000_000)  # twice what a night takes
    data = bench.command("plan", release="app-2.0.0", policy="careful").data
    assert data is not None
    (site,) = data["distribution"]["sites"]

    assert site["limits"]["bytes_per_second"] == 20_000
    assert site["fetch_seconds"] == 2 * 24 * 3600.0
    (finding,) = [each for each in data["lint"] if each["id"] == "L017"]
    assert finding["message"].startswith("plant-7: an archive of 1008.0 MB takes a device 14 h at 20.0 kB/s")


def test_a_device_that_waited_for_its_hours_is_not_late_when_they_begin() -> None:
    bench = limited_bench(limits={"max_retries": 0})
    name = bench.wave(0)[0]
    report = Reported.model_validate(
        {
            "observed_generation": bench.state.devices[name].generation,
            "seq": 1,
            "state": "waiting",
            "boot_id": "b",
            "error": {"code": "outside_window", "step": "fetch", "message": "", "retryable": True},
        }
    )
    bench.say(Kind.REPORTED, report, device=name)
    assert not bench.state.devices[name].has_prepared
    for other in bench.wave(0)[1:]:
        bench.report(other, "ready")
    bench.advance(3600)
    bench.report(name, "downloading")
    bench.advance(9 * 60)
    assert bench.facts("device_failed") == []

    bench.advance(2 * 60)
    assert [fact["device"] for fact in bench.facts("device_failed")] == [name]

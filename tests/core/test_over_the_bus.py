"""Who is told to fetch over the broker, what that costs, and how it is accounted for."""

from typing import Any

import pytest

from orchestrator.cli.distribution import Distribution as Shown
from orchestrator.cli.distribution import render_distribution
from orchestrator.core.distribution import peer_ranks
from orchestrator.core.summaries import distribution_summary
from orchestrator.planning.distribution import Distribution, SiteShare, Size, Takers, plan_distribution
from schemas.codec import decode
from schemas.messages import Desired, Fetched, Reported
from schemas.policy_distribution import DistributionPolicy
from schemas.topics import Kind
from tests.core.core_bench import Bench, make_fleet, make_policy

REGISTRY = "http://registry"
CACHE = "http://cache-7"
SITES = ("plant-7", "plant-8", "plant-9")
TRANSPORTS: dict[str, tuple[str, ...]] = {"plant-7": ("mqtt",), "plant-8": ("http", "mqtt"), "plant-9": ()}
SIZES = {"a": Size(1000, 10)}


def started(sources: object = "auto", *, mixed: bool = False) -> Bench:
    """Return a rollout to three sites: one without HTTP, one with both, and one of agents that say nothing."""
    fleet = make_fleet(
        18,
        site=lambda n: SITES[n % 3],
        transports=lambda n: () if mixed and n > 9 else TRANSPORTS[SITES[n % 3]],
    )
    bench = Bench(fleet, make_policy(distribution={"sources": sources}), caches=lambda: {"plant-7": (CACHE,)})
    bench.start()
    bench.install_wave()
    bench.soak()
    return bench


def told(bench: Bench) -> dict[str | None, tuple[str, ...]]:
    found = {}
    for name, info in bench.fleet.items():
        retained = bench.retained().get(f"fleet/v1/device/{name}/desired")
        if retained is not None:
            desired = decode(Desired, retained)
            assert desired.manifest is not None
            assert desired.artifact is not None
            found[info.site] = tuple(url.rpartition("/artifacts/")[0] for url in desired.artifact.sources)
            assert found[info.site] == tuple(url.rpartition("/manifests/")[0] for url in desired.manifest.urls)
    return found


def test_where_somebody_has_no_http_mqtt_is_told_behind_all_else_and_nobody_else_hears_of_it() -> None:
    assert told(started()) == {
        "plant-7": (CACHE, REGISTRY, "mqtt:"),
        "plant-8": (REGISTRY, "mqtt:"),
        "plant-9": (REGISTRY,),
    }


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["mqtt"], {"plant-7": ("mqtt:",), "plant-8": ("mqtt:",), "plant-9": (REGISTRY,)}),
        (
            ["mqtt", "registry"],
            {"plant-7": ("mqtt:", REGISTRY), "plant-8": ("mqtt:", REGISTRY), "plant-9": (REGISTRY,)},
        ),
        (["registry"], dict.fromkeys(SITES, (REGISTRY,))),
        (["cache", "mqtt"], {"plant-7": (CACHE, "mqtt:"), "plant-8": ("mqtt:",), "plant-9": (REGISTRY,)}),
    ],
)
def test_the_policy_says_the_order(sources: list[str], expected: dict[str, tuple[str, ...]]) -> None:
    assert told(started(sources)) == expected


def test_who_takes_nothing_over_the_broker_is_not_left_without_a_source() -> None:
    assert told(started(["mqtt"], mixed=True))["plant-7"] == ("mqtt:", REGISTRY)


def test_the_order_of_peers_counts_the_broker_where_the_site_has_it() -> None:
    sites = tuple(
        SiteShare(site=site, through="mqtt", devices=9, giving=3, taking=taking, wan_bytes=0, direct_bytes=0)
        for site, taking in (("plant-7", 2), ("plant-8", 0))
    )
    found = Distribution(sources=("mqtt", "peers", "registry"), reason="", sites=sites)

    assert peer_ranks(found, REGISTRY, {}) == {"plant-7": 1, "plant-8": 0}


def planned(sources: Any, *, takers: int, without_http: int, devices: int = 10) -> Distribution:  # noqa: ANN401 - as in a policy
    return plan_distribution(
        DistributionPolicy.model_validate({"sources": sources}),
        {("p", "a"): devices},
        SIZES,
        (),
        takers=Takers({("p", "a"): takers}, {("p", "a"): without_http}),
    )


@pytest.mark.parametrize(
    ("sources", "through", "over_bus"),
    [("auto", "registry", 3), (["mqtt", "registry"], "mqtt", 7), (["registry", "mqtt"], "registry", 3),
     (["registry"], "registry", 0)],
)  # fmt: skip
def test_a_plan_says_what_the_broker_carries(sources: object, through: str, over_bus: int) -> None:
    found = planned(sources, takers=7, without_http=3)

    (share,) = found.sites
    assert (share.through, share.over_bus, share.without_http) == (through, over_bus, 3)
    assert (share.bus_bytes, share.wan_bytes) == (over_bus * 1010, (10 - over_bus) * 1010)
    assert found.bus_bytes == share.bus_bytes


def test_a_plan_names_devices_without_http_and_a_policy_that_forgets_them() -> None:
    assert planned("auto", takers=3, without_http=3).reason.endswith("; 3 of 10 devices have no HTTP, only mqtt")
    assert planned(["registry"], takers=3, without_http=3).reason == (
        "the policy says so; 3 of 10 devices have no HTTP, and the policy names no mqtt"
    )
    assert planned("auto", takers=3, without_http=0).sources == ("registry",), "nobody needs it"


def test_a_site_where_nobody_has_http_costs_the_registry_nothing() -> None:
    (share,) = planned("auto", takers=10, without_http=10).sites

    assert (share.through, share.wan_bytes, share.bus_bytes) == ("mqtt", 0, 10_100)


def test_people_read_what_the_broker_carries() -> None:
    shown = Shown.model_validate(distribution_summary(planned("auto", takers=3, without_http=3)))
    *_, table, in_all = render_distribution(shown)

    cells = [str(cell) for column in getattr(table, "columns", ()) for cell in column.cells]
    assert cells[-1] == "3 over the broker: 3.0 kB; the others from the registry: 7.1 kB"
    assert (
        str(in_all).strip()
        == "in all 7.1 kB from the registry instead of 10.1 kB, and 3.0 kB over the broker, as archives"
    )


def test_what_came_over_the_broker_is_kept_by_that_name() -> None:
    bench = started(["mqtt", "registry"])
    name = next(name for name, _ in bench.rollout.in_wave(1) if bench.fleet[name].site == "plant-8")
    device = bench.state.devices[name]
    bench.say(
        Kind.REPORTED,
        Reported(
            observed_generation=device.generation, seq=9, state="idle", installed_version="2.0.0", boot_id="boot",
            fetched=Fetched(sources=(700, 30)),
        ),
        device=name,
    )  # fmt: skip

    (committed,) = [fact for fact in bench.facts("device_committed") if fact["device"] == name]
    assert committed["fetched"] == {"mqtt": 700, "registry": 30}

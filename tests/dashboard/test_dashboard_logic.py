"""What the page makes of the bus, without a bus: its modules are asked in a browser."""

from collections.abc import AsyncIterator
from typing import Any, get_args

import msgpack
import pytest
import pytest_asyncio
from playwright.async_api import Browser as Chromium

from orchestrator.adapters.dashboard import DashboardConfig
from orchestrator.adapters.registry import serve_registry
from orchestrator.cli.quantities import limit_text, margin, value_text
from orchestrator.core.explanation import VERB_EFFECTS
from orchestrator.core.members import Progress
from orchestrator.core.rollout import TERMINAL, Phase
from schemas.documents import CheckResult
from schemas.messages import DeviceState
from schemas.topics import RULES, Kind, TopicTree
from tests.dashboard.page_bench import Browser, browsing

pytestmark = [pytest.mark.chromium, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    folder = tmp_path_factory.mktemp("registry")
    async with serve_registry(folder, "127.0.0.1", 0, DashboardConfig()) as url, browsing(chromium) as browser:
        await browser.page.goto(f"{url}/dashboard/")
        yield browser


IDS = {
    "device": "pi-0042", "rollout": "r-1", "wave": "canary", "group": "g", "kind": "crash", "scope": "fleet",
    "actor": "alice", "verb": "approve", "worker": "w-1", "key": "0123abcd",
}  # fmt: skip


async def test_page_reads_topics_as_the_contract_writes_them(browser: Browser) -> None:
    tree = TopicTree("plant-7/v1")
    fields = {kind: {name for name in IDS if f"{{{name}}}" in RULES[kind].pattern} for kind in Kind}
    topics = {kind.value: tree.build(kind, **{name: IDS[name] for name in fields[kind]}) for kind in Kind}

    found = await browser.imported(
        "topics.js", "given.map((topic) => m.parseTopic('plant-7/v1', topic))", list(topics.values())
    )

    unread = {
        "ready", "grant", "fetch", "piece", "sync", "trust", "peers", "command", "evaluator_samples", "evaluator_lease",
        "pieces_availability",
    }  # fmt: skip
    read = {kind: answer for kind, answer in zip(topics, found, strict=True) if answer is not None}
    assert set(topics) - set(read) == unread
    for kind, answer in read.items():
        assert answer["kind"] == kind
        assert {name: answer["ids"][name] for name in fields[Kind(kind)]} == {
            name: IDS[name] for name in fields[Kind(kind)]
        }
    foreign = ["plant-7/v1/device/a/b/info", "fleet/v1/audit", "plant-7/v1/device//info", "plant-7/v1/device/+/info"]
    assert (
        await browser.imported("topics.js", "given.map((topic) => m.parseTopic('plant-7/v1', topic))", foreign)
        == [None] * 4
    )


async def test_page_has_a_look_for_everything_that_the_product_says(browser: Browser) -> None:
    words: dict[str, Any] = await browser.imported("words.js", "({...m})")
    assert set(words["PHASES"]) == {phase.value for phase in Phase}
    assert {name for name, look in words["PHASES"].items() if look.get("ended")} == {phase.value for phase in TERMINAL}
    assert set(words["VERBS"]) == set(VERB_EFFECTS) - {
        "skip"
    }  # which device to leave out is asked on the device's page
    assert {words["VERBS"][verb].get("grave", False) for verb in ("abort", "rollback", "reject", "finish")} == {True}

    told = await browser.imported(
        "places.js", "given.map((each) => m.placesOfCounts({[each]: 1})[0]?.[0])", [each.value for each in Progress]
    )
    assert set(told) <= set(words["PLACES"])
    states = list(get_args(DeviceState))
    body = """given.map((state) => {
      const device = {id: 'a', online: true, desired: null, reported: {state, observed: 1}};
      return m.placeInFleet(device, new Map());
    })"""
    places = await browser.imported("places.js", body, states)
    assert dict(zip(states, places, strict=True)) == {
        "idle": "steady", "waiting": "working", "downloading": "working", "verifying": "working",
        "installing": "working", "ready": "working", "draining": "working", "switching": "working", "trial": "trial",
        "rolling_back": "returning", "rolled_back": "returned", "failed": "failed",
    }  # fmt: skip


async def test_samples_in_msgpack_are_read_like_those_in_json(browser: Browser) -> None:
    sample = {
        "seq": 2**40, "boot_id": "b" * 40, "cpu_ratio": 0.25, "healthy": True, "endpoint_up": False, "version": None,
        "low": -5, "lower": -70_000, "latency": {"gamma": 1.02, "offset": -212, "counts": list(range(300))},
        "quality": {"größe": 1.5},
    }  # fmt: skip
    packed = msgpack.packb(sample)

    assert await browser.imported("msgpack.js", "m.decode(new Uint8Array(given))", list(packed)) == sample
    for cut in range(0, len(packed), 37):
        body = "(() => { try { m.decode(new Uint8Array(given)); return 'read'; } catch { return 'refused'; } })()"
        assert await browser.imported("msgpack.js", body, list(packed[:cut])) == "refused"


CHECKS = [
    ("error_rate <= baseline + 2pp", 0.0042, 0.0031, 0.0231, "pass"),
    ("error_rate <= baseline + 2pp", 0.05, 0.01, 0.03, "fail"),
    ("healthy_percentage >= 95%", 0.97, None, 0.95, "pass"),
    ("latency_p95 <= baseline + 20%", 0.0412, 0.0389, 0.0467, "pass"),
    ("error_rate > baseline + 10pp", 0.5, 0.0, 0.1, "fail"),
    ("crash_count <= 0", 0.0, None, 0.0, "pass"),
    ("memory_growth <= 1%/10m", 0.002, None, 0.01, "pass"),
    ("temperature <= 80", 61.5, None, 80.0, "pass"),
    ("error_rate <= baseline + 2pp", None, None, None, "inconclusive"),
]


async def test_checks_are_told_as_on_the_command_line(browser: Browser) -> None:
    names = ("rule", "observed", "baseline", "limit", "verdict")
    given = [dict(zip(names, case, strict=True)) for case in CHECKS]
    body = "given.map((each) => [m.checkFill(each), m.checkValue(each, each.observed), m.checkLimit(each)])"

    told = await browser.imported("numbers.js", body, given)

    for case, (fill, observed, limit) in zip(given, told, strict=True):
        check = CheckResult.model_validate({**case, "check": "c", "limit_expr": case["rule"], "samples": 1, "why": ""})
        left = margin(check)
        assert left is None or fill == pytest.approx(max(0.0, 1 - left)), case
        assert observed.replace("–", "-") == value_text(check, check.observed)
        assert limit == limit_text(check)


async def test_what_is_taken_away_while_nobody_listens_is_forgotten_after_the_next_connection(browser: Browser) -> None:
    body = """(() => {
      const model = m.createModel();
      const say = (kind, ids, body, at) => m.hear(model, {kind, ids, body, retained: true}, at);
      say('status', {rollout: 'r-1'}, {phase: 'soaking'}, 10);
      say('status', {rollout: 'r-2'}, {phase: 'soaking'}, 10);
      for (const id of ['a', 'b']) say('desired', {device: id}, {rollout: 'r-1', wave: 'canary', generation: 1}, 10);
      say('status', {rollout: 'r-2'}, {phase: 'completed'}, 30);
      say('availability', {device: 'b'}, 'offline', 30);
      say('hold', {}, {reason: 'fire'}, 10);
      m.sweep(model, 5);
      const held = model.hold;
      m.sweep(model, 20);
      return [held.reason, model.hold,
        [...model.rollouts.keys()], [...model.devices.keys()], [...model.members.get('r-1').get('canary')]];
    })()"""

    assert await browser.imported("model.js", body) == ["fire", None, ["r-2"], ["b"], ["b"]]


async def test_rates_begin_anew_with_each_boot_of_a_device(browser: Browser) -> None:
    sample = {"unreadable": False, "p95": 0.25, "memory": 2e6, "cpu": 0.5, "temperature": None}
    told = [(0, "a", 100, 1), (2000, "a", 120, 3), (4000, "b", 500, 0), (5000, "b", 505, 0)]
    names = ("at", "boot", "requests", "errors")
    samples = [{**sample, **dict(zip(names, each, strict=True))} for each in told]

    series = await browser.imported("series.js", "m.seriesOf(given)", samples)

    assert series["requests"] == [None, 10, None, 5]
    assert series["errors"] == [None, 10, None, 0]
    assert (series["p95"][0], series["memory"][0], series["cpu"][0]) == (250, 2, 50)


async def test_gap_in_the_chain_of_the_audit_is_seen(browser: Browser) -> None:
    record = {"at": "2026-11-29T10:00:00.000Z", "epoch": 1, "kind": "soak_started", "body": {}}
    chain = [("", "a"), ("a", "b"), ("b", "c"), ("x", "d")]
    records = [
        {**record, "seq": seq, "previous_hash": before, "hash": own} for seq, (before, own) in enumerate(chain, 5)
    ]
    body = """(() => {
      const model = m.createModel();
      for (const each of given) m.hear(model, {kind: 'audit', ids: {}, body: each}, 0);
      return model.audit.map((each) => each.follows);
    })()"""

    assert await browser.imported("model.js", body, records) == [True, True, True, False]

"""What the page says of the bus itself: broken connections, missing rights, nonsense, and ten thousand devices."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser as Chromium

from orchestrator.adapters.brokers import start_embedded
from orchestrator.adapters.dashboard import DashboardConfig
from orchestrator.adapters.registry import serve_registry
from tests.broker.broker_process import serving_process
from tests.dashboard.page_bench import Message, browsing, publish, said, status

pytestmark = [pytest.mark.chromium, pytest.mark.asyncio(loop_scope="module")]

DEVICE_COUNT = 10_000
LONGEST_TASK_MILLISECONDS = 1000
"""50 ms count as long; a machine that is busy with other tests takes many times as long for everything."""
PAGE_CPU_SECONDS = 6
"""Of the page's own thread, for all of it: some 2 s on a small machine, whatever else that does."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with serve_registry(tmp_path_factory.mktemp("registry"), "127.0.0.1", 0, DashboardConfig()) as base:
        yield f"{base}/dashboard/"


def device(name: str, **reported: object) -> list[Message]:
    info = {
        "session": 1, "boot_id": "b", "agent": "light/1", "device_type": "pi4", "arch": "aarch64", "region": "eu",
        "group": f"group-{name[-1]}", "version": "1.0.0",
    }  # fmt: skip
    order = {
        "generation": 2, "epoch": 1, "rollout": "r-1", "wave": "canary", "action": "install", "release": "lab-1.2.0",
        "version": "1.2.0",
    }  # fmt: skip
    state = {"observed_generation": 2, "seq": 1, "state": "idle", "installed_version": "1.2.0", "boot_id": "b"}
    return [
        (f"fleet/v1/device/{name}/availability", b"online"),
        said(f"device/{name}/info", info),
        said(f"device/{name}/desired", order),
        said(f"device/{name}/reported", {**state, **reported}),
    ]


async def test_lost_connection_is_said_with_since_when_until_it_is_back(
    chromium: Chromium, url: str, tmp_path: Path
) -> None:
    options = ("--database", tmp_path / "broker.db", "--websocket-port")
    async with browsing(chromium, forgives="WebSocket connection to") as browser:
        with serving_process(*options, 0) as broker:
            publish(broker.port, [status(), *device("pi-1")])
            await browser.log_in(url, "alice", broker=f"ws://127.0.0.1:{broker.websocket_port}")
            await browser.until("awaiting approval")
            await browser.page.get_by_role("link", name="r-1").click()
            approve = browser.page.get_by_role("button", name="approve")
            assert await approve.is_enabled()
            broker.stop()
        await browser.until("✖ Disconnected since")
        assert "Everything below is as it was then" in await browser.page.locator(".banner.bad").inner_text()
        assert (
            await browser.page.evaluate("getComputedStyle(document.querySelector('main.view')).filter")
            == "grayscale(1)"
        )
        assert await approve.is_disabled()
        with serving_process(*options, broker.websocket_port) as again:
            await browser.until("● live")
            await browser.page.locator(".banner.bad").wait_for(state="detached")
            assert await approve.is_enabled()
            publish(again.port, [status(phase="completed", wave=None, allowed=[], ended_at="2026-11-29T10:06:00.000Z")])
            await browser.until("completed")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A broker with users and an access list: its address and the passwords."""
    with start_embedded(tmp_path, operators=("alice",), devices=("pi-1",)) as broker:
        assert broker.access is not None
        yield f"ws://127.0.0.1:{broker.websocket_port}", dict(broker.access.passwords)


async def test_wrong_password_leads_back_to_the_form(
    chromium: Chromium, url: str, guarded: tuple[str, dict[str, str]]
) -> None:
    async with browsing(chromium) as browser:
        await browser.log_in(url, "alice", "guessed", broker=guarded[0])
        await browser.until("the broker refused the user or the password")
        assert await browser.page.get_by_label("User").input_value() == "alice"
        assert await browser.page.get_by_label("Broker").input_value() == guarded[0]
        assert await browser.page.get_by_label("Password").input_value() == ""


async def test_what_the_user_may_not_read_is_named_instead_of_looking_empty(
    chromium: Chromium, url: str, guarded: tuple[str, dict[str, str]]
) -> None:
    broker, passwords = guarded
    async with browsing(chromium) as browser, browsing(chromium) as other:
        await browser.log_in(url, "viewer", passwords["viewer"], broker=broker)
        await other.log_in(url, "alice", passwords["alice"], broker=broker)
        await browser.until(
            "Nothing has arrived. Either there is nothing below fleet/v1 on this broker, or viewer may not read it"
        )
        await browser.page.evaluate("window.tidegate.link.refused.push('the audit')")  # as brokers do that say so
        await browser.until("Your user may not read: the audit.")
        await other.until("Nothing has arrived.")
        await other.page.get_by_role("button", name="Brake").click()
        await other.page.get_by_role("button", name="Pull the brake").click()
        await browser.until("Brake is on")
        await browser.page.get_by_role("button", name="Brake is on").click()
        await browser.page.get_by_label("Type release to confirm").fill("release")
        await browser.page.get_by_role("button", name="Release the brake").click()
        await browser.until("the broker's access list does not let you publish this")


async def test_password_is_kept_nowhere_unless_somebody_asks_for_it(
    chromium: Chromium, url: str, guarded: tuple[str, dict[str, str]]
) -> None:
    broker, passwords = guarded
    places = "[location.href, {...sessionStorage}, {...localStorage}, document.cookie, window.tidegate.login]"
    stored = f"JSON.stringify({places})"
    async with browsing(chromium) as browser:
        await browser.log_in(url, "alice", passwords["alice"], broker=broker)
        await browser.until("● live")
        assert passwords["alice"] not in await browser.page.evaluate(stored)
        await browser.log_in(url, "alice", passwords["alice"], broker=broker, remembers=True)
        await browser.until("● live")
        await browser.page.reload()
        await browser.until("● live")
        await browser.page.get_by_role("button", name="alice").click()
        await browser.page.get_by_role("button", name="Connect").wait_for()
        assert passwords["alice"] not in await browser.page.evaluate(stored)


async def test_halted_rollout_says_why_and_offers_what_makes_sense(chromium: Chromium, url: str) -> None:
    check = {
        "check": "latency_p95", "limit_expr": "latency_p95 <= baseline + 20% rel", "observed": 0.5, "baseline": 0.25,
        "limit": 0.3, "samples": 412, "verdict": "fail", "why": "500 ms, limit 300 ms",
    }  # fmt: skip
    gate = {
        "gate": "canary_gate", "verdict": "fail", "decision": "halt", "evaluated_at": "2026-11-29T10:05:00.000Z",
        "devices": 2, "checks": [check],
    }  # fmt: skip
    reasons = ["canary_gate: fail, halt", "latency_p95: 500 ms"]
    halted = status(phase="halted", reasons=reasons, allowed=["abort", "resume", "rollback", "an_unknown_verb"])
    with serving_process("--websocket-port", 0) as broker:
        publish(broker.port, [halted, said("rollout/r-1/gate/canary", gate), *device("pi-1")])
        publish(broker.port, [("fleet/v1/orchestrator/availability", b"offline")])
        async with browsing(chromium) as browser:
            await browser.log_in(url, "alice", broker=f"ws://127.0.0.1:{broker.websocket_port}")
            await browser.until("■ halted after canary")
            await browser.until("canary gate: fail, halt · latency p95: 500 ms")
            await browser.until("The orchestrator is offline: nothing is decided")
            await browser.page.get_by_role("link", name="r-1").click()
            row = browser.page.get_by_role("row", name="latency p95")
            await row.get_by_role("img", name="500% of the way to the limit").wait_for()
            cells = await row.get_by_role("cell").all_inner_texts()
            assert [cell for cell in cells if cell] == [
                "500 ms", "300 ms (baseline + 20% rel)", "250 ms", "412", "✖ fail\n500 ms, limit 300 ms",
            ]  # fmt: skip
            commands = browser.page.get_by_role("group", name="Commands").get_by_role("button")
            assert await commands.all_inner_texts() == ["resume", "rollback", "abort"]


@pytest.mark.parametrize("payload", [b"stop!", b"null", b"\xff"])
async def test_brake_that_cannot_be_read_counts_as_on_as_it_does_for_devices(
    chromium: Chromium, url: str, payload: bytes
) -> None:
    with serving_process("--websocket-port", 0) as broker:
        publish(broker.port, [("fleet/v1/all/hold", payload)])
        async with browsing(chromium) as browser:
            await browser.log_in(url, "alice", broker=f"ws://127.0.0.1:{broker.websocket_port}")
            await browser.page.get_by_role("button", name="Brake is on").wait_for()
            publish(broker.port, [("fleet/v1/all/hold", b"")])
            await browser.page.get_by_role("button", name="Brake", exact=True).wait_for()


HOSTILE = "<img src=x onerror=window.broken=1><script>window.broken=1</script>"
NONSENSE: list[object] = [None, 7, "text", [], {}, HOSTILE, {"a": {"b": [HOSTILE]}}, -1e308]
STATUS_FIELDS = ("phase", "wave", "counts", "reasons", "allowed", "waves", "started_at", "from_versions", "version")
TOPICS = [
    *(f"device/d-{{number}}/{kind}" for kind in ("info", "reported", "desired")),
    *(f"rollout/r-1/{kind}/x-{{number}}" for kind in ("wave", "gate", "event")),
    *("audit", "group/g/summary", "orchestrator/info"),
]


def nonsense() -> Iterator[Message]:
    """Everything that a document must not be, in every place."""
    error = {"code": HOSTILE, "message": HOSTILE, "step": 7}
    checks = [{"check": HOSTILE, "limit_expr": HOSTILE}, 7, None]
    yield status(release=HOSTILE, version=HOSTILE, reasons=[HOSTILE], phase=HOSTILE, started_by=HOSTILE)
    yield from device("pi-1", state=HOSTILE, installed_version=HOSTILE, error=error)
    yield said("all/hold", {"reason": HOSTILE, "by": HOSTILE})
    yield said("rollout/r-1/gate/canary", {"gate": HOSTILE, "verdict": HOSTILE, "checks": checks})
    yield said("rollout/r-1/plan", {"waves": NONSENSE, "canary": NONSENSE, "policy": 7})
    yield "fleet/v1/device/d-1/reported", b"\xff\x00{"
    for number, each in enumerate(NONSENSE):
        yield status(f"s-{number}", **dict.fromkeys(STATUS_FIELDS, each))
        yield from ((f"fleet/v1/{topic.format(number=number)}", json.dumps(each).encode()) for topic in TOPICS)


async def test_nonsense_and_markup_are_shown_as_text_and_break_no_view(chromium: Chromium, url: str) -> None:
    with serving_process("--websocket-port", 0) as broker:
        publish(broker.port, nonsense())
        async with browsing(chromium) as browser:
            await browser.log_in(url, "alice", broker=f"ws://127.0.0.1:{broker.websocket_port}")
            await browser.until(HOSTILE)
            routes = ["", "fleet", "start", "audit", "device/pi-1", "rollout/r-1"]
            routes += [f"{kind}-{number}" for kind in ("rollout/s", "device/d") for number in range(len(NONSENSE))]
            for route in routes:
                await browser.show(route)
                await browser.page.wait_for_function("route => window.tidegate.shown === route", arg=route)
                assert await browser.page.get_by_text("This cannot be shown").count() == 0, route
            assert await browser.page.evaluate("window.broken") is None
            assert await browser.page.locator("main img, main script").count() == 0


async def test_ten_thousand_devices_do_not_keep_the_page_from_answering(chromium: Chromium, url: str) -> None:
    names = [f"pi-{number:05d}" for number in range(DEVICE_COUNT)]
    watch = """() => {
      window.tasks = [];
      const note = (list) => list.getEntries().forEach((each) => window.tasks.push(each.duration));
      new PerformanceObserver(note).observe({type: 'longtask'});
    }"""
    complete = """(count) => {
      const all = [...window.tidegate.model.devices.values()];
      return all.length === count && all.every((each) => each.info && each.reported);
    }"""
    with serving_process("--websocket-port", 0, "--queued-max", DEVICE_COUNT * 5) as broker:
        publish(broker.port, [message for name in names for message in device(name)[1::2]])
        publish(broker.port, [status(counts={"committed": DEVICE_COUNT, "total": DEVICE_COUNT, "failed_ever": 0})])
        async with browsing(chromium) as browser:
            await browser.page.goto(f"{url}#/fleet")
            await browser.page.evaluate(watch)
            before = await browser.cpu_seconds()
            await browser.page.get_by_label("Broker").fill(f"ws://127.0.0.1:{broker.websocket_port}")
            await browser.page.get_by_role("button", name="Connect").click()
            await browser.page.wait_for_function(complete, arg=DEVICE_COUNT, timeout=60_000)
            await browser.until("10 000 devices")
            for step in range(5):
                some = names[step * 500 : (step + 1) * 500]
                publish(broker.port, [device(name, state="downloading", seq=2)[-1] for name in some])
            await browser.page.locator(".legend").get_by_text("installing 2500").wait_for()
            await browser.page.get_by_role("searchbox").fill("pi-04242")
            await browser.page.get_by_role("link", name="pi-04242").click()
            await browser.until("generation 2")
            tasks = await browser.page.evaluate("window.tasks")
            spent = await browser.cpu_seconds() - before

    assert spent < PAGE_CPU_SECONDS
    assert max(tasks, default=0) < LONGEST_TASK_MILLISECONDS, tasks


async def test_page_without_devices_shows_counts_and_reads_a_device_when_it_is_opened(
    chromium: Chromium, url: str
) -> None:
    with serving_process("--websocket-port", 0) as broker:
        publish(broker.port, [status(), *device("pi-1"), *device("pi-2")])
        publish(
            broker.port, [said("group/group-1/summary", {"group": "group-1", "devices": 7, "fresh": 7, "healthy": 6})]
        )
        async with browsing(chromium) as browser:
            await browser.page.goto(url)
            await browser.page.get_by_label("Broker").fill(f"ws://127.0.0.1:{broker.websocket_port}")
            await browser.page.get_by_label("Leave out devices").check()
            await browser.page.get_by_role("button", name="Connect").click()
            await browser.page.get_by_role("link", name="r-1").click()
            await browser.page.get_by_role("img", name="canary: 2 updated").wait_for()
            await browser.show("fleet")
            await browser.until("✖ 6 of 7 heard are healthy")
            assert await browser.page.evaluate("window.tidegate.model.devices.size") == 0
            await browser.page.get_by_placeholder("id of a device").fill("pi-2")
            await browser.page.get_by_role("button", name="Open").click()
            await browser.until("install 1.2.0, generation 2")
            assert await browser.page.evaluate("[...window.tidegate.model.devices.keys()]") == ["pi-2"]

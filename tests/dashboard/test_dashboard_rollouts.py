"""People at the dashboard, with a real orchestrator: they start, approve, see a bad release go back, and brake."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium

from orchestrator.core import events as e
from tests.dashboard.page_bench import Browser, browsing
from tests.end_to_end.light_fleet import living
from tests.end_to_end.rollout_bench import DEVICES, all_online, command, make_devices, start, until_phase
from tests.end_to_end.stage import POLICY, Stage, make_stage

pytestmark = [pytest.mark.chromium, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        stage = make_stage(stack, tmp_path, DEVICES)
        stage.start("--dashboard-broker-url", f"ws://127.0.0.1:{stage.broker.websocket_port}")
        yield stage


async def log_in(browser: Browser, stage: Stage) -> None:
    assert stage.broker.access is not None
    await browser.log_in(f"{stage.registry}/dashboard/", "alice", stage.broker.access.passwords["alice"])
    await browser.until("● live")


async def test_person_plans_starts_and_approves_a_rollout_that_reaches_every_device(
    chromium: Chromium, stage: Stage
) -> None:
    async with living(make_devices(stage), stage.broker), browsing(chromium) as browser:
        page = browser.page
        await all_online(stage)
        await log_in(browser, stage)
        await page.get_by_role("link", name="Start").click()
        await page.get_by_label("Release").fill("lab-1.2.0")
        await page.locator("select[name=policyFrom]").select_option("json")
        await page.get_by_label("Policy as JSON").fill(json.dumps(POLICY))
        await page.get_by_label("Name of the rollout").fill("r-1")
        await page.get_by_label("Time scale").fill("60")
        await page.get_by_role("button", name="Plan", exact=True).click()
        await browser.until("L015 warning")
        await page.get_by_role("button", name="Start this plan").click()
        await page.get_by_label("Reason, for the audit").fill("new model")
        await page.get_by_role("button", name="start", exact=True).click()
        await browser.until("awaiting approval", seconds=30)

        await page.get_by_role("button", name="rollback").click()
        dangerous = page.locator("dialog button[type=submit]")
        assert await dangerous.is_disabled()
        await page.get_by_label("Type r-1 to confirm").fill("r-2")
        assert await dangerous.is_disabled()
        await page.get_by_label("Type r-1 to confirm").fill("r-1")
        await page.wait_for_function("() => !document.querySelector('dialog button[type=submit]').disabled")
        await page.keyboard.press("Escape")

        await page.get_by_role("button", name="approve").click()
        await page.get_by_label("Reason, for the audit").fill("charts look good")
        await page.locator("dialog button[type=submit]").click()
        await browser.until("✔ approve r-1")
        await browser.until("completed", seconds=30)
        await page.get_by_role("img", name="wave-2: 3 updated").wait_for()
        assert await page.get_by_role("group", name="Commands").get_by_role("button").all_inner_texts() == ["rollback"]
        await page.get_by_role("link", name="Audit").click()
        await browser.until("r-1 · completed")

    [started] = [fact for fact in stage.facts() if isinstance(fact, e.RolloutStarted)]
    [approved] = [fact for fact in stage.facts() if isinstance(fact, e.RolloutApproved)]
    assert (started.by, started.reason) == ("alice", "new model")
    assert (approved.by, approved.reason, approved.wave) == ("alice", "charts look good", 0)


async def test_person_sees_what_brought_a_bad_release_back_and_keeps_a_device_out(
    chromium: Chromium, stage: Stage
) -> None:
    bad = frozenset({"1.1.0"})
    async with living(make_devices(stage, bad=bad), stage.broker), browsing(chromium, width=360, height=740) as browser:
        page = browser.page
        await all_online(stage)
        await start(stage, "lab-1.1.0")
        await log_in(browser, stage)
        await until_phase(stage, "rolled_back")
        await browser.until("rolled back")
        await page.get_by_role("link", name="r-1").click()
        await browser.until("What stopped it")
        await page.get_by_role("row", name="error rate spike").get_by_text("✖ fail").wait_for()
        await page.get_by_role("img", name="canary: 2 went back").wait_for()

        canary = page.get_by_role("img", name="canary: 2 went back")
        await canary.focus()
        await canary.press("ArrowRight")
        await canary.press("Enter")
        await browser.until("has seen")
        assert await page.locator("h1").inner_text() in {f"{name} light, here, group lab" for name in DEVICES}
        await page.locator(".chart canvas").first.wait_for()
        await page.get_by_role("button", name="quarantine").click()
        await page.get_by_label("Reason, for the audit").fill("flaky disk")
        await page.locator("dialog button[type=submit]").click()
        await page.get_by_role("button", name="release from quarantine").wait_for()
        for view in ("", "rollout/r-1", "fleet", "start", "audit"):
            await browser.show(view)
            await page.wait_for_timeout(200)
            assert await page.evaluate("document.documentElement.scrollWidth") == 360, view

    [kept] = [fact for fact in stage.facts() if isinstance(fact, e.DeviceQuarantined)]
    assert (kept.by, kept.reason) == ("alice", "flaky disk")


async def test_brake_is_pulled_and_released_and_seen_on_every_view(chromium: Chromium, stage: Stage) -> None:
    async with browsing(chromium) as browser, browsing(chromium, scheme="dark") as other:
        for each in (browser, other):
            await log_in(each, stage)
        await browser.page.get_by_role("button", name="Brake").click()
        await browser.page.get_by_label("Reason, for the audit").fill("plant incident")
        await browser.page.get_by_role("button", name="Pull the brake").click()
        for view in ("", "fleet", "start", "audit"):
            await other.show(view)
            await other.until("Brake is on: no device activates anything. “plant incident” by alice")
        await browser.page.get_by_role("button", name="Brake is on").click()
        await browser.page.get_by_label("Type release to confirm").fill("release")
        await browser.page.get_by_role("button", name="Release the brake").click()
        await other.page.get_by_role("button", name="Brake", exact=True).wait_for()
        await browser.page.locator("dialog").wait_for(state="detached")


async def test_refused_command_says_why_and_what_would_be_right(chromium: Chromium, stage: Stage) -> None:
    async with browsing(chromium) as browser:
        await log_in(browser, stage)
        await browser.show("start")
        await browser.page.get_by_label("Release").fill("lab-1.2.1")
        await browser.page.get_by_label("Policy's name").fill("careful")
        await browser.page.get_by_role("button", name="Plan", exact=True).click()
        await browser.until("no release 'lab-1.2.1' (not_found; did you mean lab-1.2.0, lab-1.1.0?)")
        assert (await command(stage, "list"))["rollouts"] == []

"""The dashboard in Debian's Chromium, and a bus on which a test says whatever it likes."""

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import ConsoleMessage, Page, async_playwright

Message = tuple[str, bytes]
_PROGRAM = shutil.which("chromium") or "/usr/bin/chromium"
_CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test"
_PUBACK_SIZE = 4


@dataclass
class Browser:
    """One page and what went wrong in it."""

    page: Page
    troubles: list[str] = field(default_factory=list)

    async def log_in(
        self, url: str, user: str, password: str = "", *, broker: str = "", remembers: bool = False
    ) -> None:
        """Open the page and fill in the form; whether it works shows afterwards."""
        await self.page.goto(url)
        await self.page.get_by_label("User").fill(user)
        await self.page.get_by_label("Password").fill(password)
        if broker:
            await self.page.get_by_label("Broker").fill(broker)
        if remembers:
            await self.page.get_by_label("Remember in this tab").check()
        await self.page.get_by_role("button", name="Connect").click()

    async def show(self, route: str) -> None:
        """Go to a view."""
        await self.page.evaluate("route => { location.hash = `#/${route}`; }", route)

    async def until(self, text: str, *, seconds: float = 15) -> None:
        """Return once the page shows a text."""
        await self.page.get_by_text(text).first.wait_for(timeout=seconds * 1000)

    async def imported(self, module: str, body: str, given: object = None) -> Any:  # noqa: ANN401 - any JSON value
        """Return what a function of one of the page's modules says: ``body`` sees the module and what is given."""
        script = f"async (given) => {{ const m = await import('/dashboard/{module}'); return ({body}); }}"
        return await self.page.evaluate(script, given)


@contextlib.asynccontextmanager
async def running_chromium() -> AsyncIterator[Chromium]:
    """Start the browser's program; pages of it know nothing of each other."""
    async with async_playwright() as playwright:
        program = await playwright.chromium.launch(executable_path=_PROGRAM, args=["--no-sandbox"])
        try:
            yield program
        finally:
            await program.close()


@contextlib.asynccontextmanager
async def browsing(
    program: Chromium,
    *,
    width: int = 1280,
    height: int = 800,
    scheme: Literal["light", "dark"] = "light",
    forgives: str = "",
) -> AsyncIterator[Browser]:
    """Open a page; afterwards nothing may have gone wrong in it, but for messages that hold ``forgives``."""
    context = await program.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB", timezone_id="UTC"
    )
    try:
        browser = Browser(await context.new_page())

        def note(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                browser.troubles.append(message.text)

        browser.page.on("console", note)
        browser.page.on("pageerror", lambda error: browser.troubles.append(str(error)))
        yield browser
        left = [each for each in browser.troubles if not (forgives and forgives in each)]
        if left:
            pytest.fail(f"the page complained: {left[:5]}")
    finally:
        await context.close()


def said(topic: str, document: Mapping[str, Any]) -> Message:
    """Write a document of the contract's tree."""
    return f"fleet/v1/{topic}", json.dumps(document).encode()


def publish(port: int, messages: Iterable[Message]) -> None:
    """Publish retained messages, each acknowledged, as fast as the broker takes them."""
    sent = list(messages)
    packets = b"".join(_publish(topic, payload, number) for number, (topic, payload) in enumerate(sent))
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(_CONNECT)
        assert connection.recv(4) == b"\x20\x02\x00\x00"
        sender = threading.Thread(target=connection.sendall, args=(packets,))
        sender.start()
        left = _PUBACK_SIZE * len(sent)
        while left > 0:
            left -= len(connection.recv(65_536)) or pytest.fail("the broker hung up")
        sender.join()


def _publish(topic: str, payload: bytes, number: int) -> bytes:
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + (number % 65_000 + 1).to_bytes(2, "big") + payload
    size, length = bytearray(), len(body)
    while length > 127:
        size.append(length % 128 | 128)
        length //= 128
    return b"\x33" + bytes([*size, length]) + body


def status(rollout: str = "r-1", **changes: object) -> Message:
    """Write the status of a rollout of two devices that awaits approval, or whatever is changed of it."""
    wave = {
        "wave": "canary", "devices": 2, "done": 2, "healthy": 2, "failed": 0, "offline": 0,
        "state": "awaiting_approval", "soaked_seconds": 60, "soak_required_seconds": 60, "gate": "pass",
    }  # fmt: skip
    document = {
        "rollout": rollout, "release": "lab-1.2.0", "version": "1.2.0", "phase": "awaiting_approval", "wave": "canary",
        "paused": False, "counts": {"committed": 2, "total": 2, "failed_ever": 0}, "reasons": ["canary_gate: pass"],
        "allowed": ["approve", "reject", "pause"], "started_at": "2026-11-29T10:00:00.000Z", "started_by": "alice",
        "ts": "2026-11-29T10:05:00.000Z", "from_versions": {"1.0.0": 2}, "waves": [wave],
    }  # fmt: skip
    return said(f"rollout/{rollout}/status", {**document, **changes})

"""The dashboard's files: served with strict headers, complete, and readable in both colour schemes."""

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from orchestrator.adapters.dashboard import FOLDER, DashboardConfig, DashboardError, check_dashboard_url
from orchestrator.adapters.registry import serve_registry
from tests.shell.test_registry import ask

CONFIG = DashboardConfig(broker_url="wss://broker.example/mqtt", topic_root="plant-7/v1")


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    async with serve_registry(tmp_path, "127.0.0.1", 0, CONFIG) as base_url:
        port = urlsplit(base_url).port
        assert port
        yield port


async def test_page_and_all_of_its_files_are_served_with_types_that_browsers_insist_on(port: int) -> None:
    types = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    for file in FOLDER.rglob("*.*"):
        status, headers, body = await ask(port, f"/dashboard/{file.relative_to(FOLDER)}")
        assert (status, body) == (200, file.read_bytes())
        if file.suffix in types:
            assert headers["content-type"].partition(";")[0] == types[file.suffix], file
    assert (await ask(port, "/dashboard/"))[2] == (FOLDER / "index.html").read_bytes()
    status, headers, _ = await ask(port, "/")
    assert (status, headers["location"]) == (307, "/dashboard/")


@pytest.mark.parametrize(
    "path", ["/dashboard/", "/dashboard/main.js", "/dashboard/config.json", "/dashboard/no-such-file"]
)
async def test_every_answer_forbids_scripts_from_anywhere_else(port: int, path: str) -> None:
    _, headers, _ = await ask(port, path)

    policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["worker-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path", ["/dashboard/../adapters/keys.py", "/dashboard/%2e%2e/adapters/keys.py", "/dashboard//etc/passwd"]
)
async def test_nothing_beside_the_folder_is_served(port: int, path: str) -> None:
    assert (await ask(port, path))[0] == 404


async def test_page_is_told_where_the_broker_is_and_nothing_else(port: int) -> None:
    _, _, body = await ask(port, "/dashboard/config.json")

    assert json.loads(body) == {"broker": "wss://broker.example/mqtt", "topic_root": "plant-7/v1"}


async def test_orchestrator_without_a_dashboard_serves_none(tmp_path: Path) -> None:
    async with serve_registry(tmp_path, "127.0.0.1", 0) as url:
        port = urlsplit(url).port
        assert port
        assert (await ask(port, "/dashboard/"))[0] == 404


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://broker:1883",
        "ws://alice:secret@broker",
        "wss://",
        "ws://broker/?token=secret",
        "ws://broker:0",
        "ws://[broken",
    ],
)
def test_address_that_browsers_cannot_use_or_must_not_know_is_refused_without_repeating_its_secret(url: str) -> None:
    with pytest.raises(DashboardError, match="write ws://host:port") as caught:
        check_dashboard_url(url)
    assert "secret" not in str(caught.value)


def test_addresses_of_a_websocket_are_taken() -> None:
    for url in (None, "ws://127.0.0.1:9001", "wss://broker.example/mqtt", "ws://[::1]:9001"):
        check_dashboard_url(url)


def test_page_has_no_script_or_style_of_its_own_and_loads_nothing_from_elsewhere() -> None:
    page = (FOLDER / "index.html").read_text()

    assert not re.search(r"<style|\son\w+=|\sstyle=|<script[^>]*>[^<]", page)
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    for module in FOLDER.glob("*.js"):
        text = module.read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|localStorage", text
        ), module


def test_every_module_that_is_named_is_there() -> None:
    for module in FOLDER.glob("*.js"):
        for name in re.findall(r'from "(\./[^"]+)"', module.read_text()):
            assert (module.parent / name).is_file(), f"{module.name}: {name}"


def test_vendored_files_are_those_on_record() -> None:
    record = json.loads((FOLDER / "vendor" / "vendored.json").read_text())
    known = {"vendored.json"}
    for package in record.values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert "MIT" in (FOLDER / "vendor" / package["licence_file"]).read_text()[:200]
        assert len(base64.b64decode(package["package_sha512"])) == 64
        for name, digest in package["files"].items():
            assert hashlib.sha256((FOLDER / "vendor" / name).read_bytes()).hexdigest() == digest, name
        known |= {package["licence_file"], *package["files"]}
    assert {path.name for path in (FOLDER / "vendor").iterdir()} == known


def _schemes() -> list[dict[str, str]]:
    text = (FOLDER / "style.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks)
    return [light, {**light, **dark}]


def _luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", _schemes(), ids=["light", "dark"])
def test_text_can_be_read_on_every_ground_it_stands_on(scheme: dict[str, str]) -> None:
    texts = ("ink", "soft", "faint", "accent", "good", "busy", "wait", "back", "bad", "calm")
    pairs = [(text, ground) for text in texts for ground in ("paper", "panel")]
    pairs += [("bad", "bad-paper"), ("ink", "bad-paper"), ("wait", "wait-paper"), ("ink", "wait-paper")]
    pairs += [("on-accent", "accent"), ("panel", "bad"), ("panel", "wait")]

    found = {pair: round(_contrast(scheme[pair[0]], scheme[pair[1]]), 2) for pair in pairs}

    assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}

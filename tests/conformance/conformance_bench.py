# ruff: noqa: ANN401 - the example is a stand-alone script, which no type checker follows
"""A minimal client that lives in a thread, the ways to spoil it, and a run of the kit against whatever is there."""

import binascii
import contextlib
import importlib.util
import itertools
import json
import sys
import threading
import time
import urllib.request
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.adapters.keys import create_keys, load_private
from orchestrator.adapters.releases import ReleaseStore
from tests.device.device_world import QUICK_APPLICATION, make_release

MINIMAL = Path(__file__).parents[2] / "examples" / "minimal_device" / "device.py"
TIMES = ("--timeout", "15", "--quiet", "0.2", "--pace", "0.1")
_roots = itertools.count(1)


def make_folder(folder: Path) -> Path:
    """Make an orchestrator's folder with the releases 1.0.0 and 1.1.0."""
    create_keys(folder / "keys")
    key = load_private(folder / "keys" / "release.key")
    for version in ("1.0.0", "1.1.0"):
        built = make_release(folder, version, application=QUICK_APPLICATION, key=key)
        ReleaseStore(folder / "releases").publish(built)
    return folder


def next_root() -> str:
    """Return a tree that nobody has used."""
    return f"lab/v{next(_roots)}"


def run_kit(folder: Path, port: int, device: str, root: str, *options: str) -> tuple[int, str, str]:
    """Run ``tidegate conformance`` and return its exit code, standard output and standard error."""
    result = CliRunner().invoke(
        app,
        ["conformance", "--device", device, "--folder", str(folder), "--broker", f"mqtt://127.0.0.1:{port}",
         "--topic-root", root, *TIMES, *options],
    )  # fmt: skip
    return result.exit_code, result.stdout, result.stderr


def judged(stdout: str) -> dict[bool | None, dict[str, str]]:
    """Return by verdict what was seen of each clause."""
    clauses = json.loads(stdout)["clauses"]
    return {
        verdict: {each["clause"]: each["seen"] for each in clauses if each["holds"] is verdict}
        for verdict in (True, False, None)
    }


@contextlib.contextmanager
def minimal_device(
    folder: Path, port: int, root: str, spoil: Callable[[Any], None] = lambda _device: None
) -> Iterator[Any]:
    """Let a minimal client live in a thread beside the test, spoiled before it connects."""
    key = (folder / "keys" / "command.pub").read_text().strip()
    options = Namespace(
        device="pi-7", command_key=key, state=str(folder / "state"), topic_root=root, sample_seconds=0.2
    )
    device = load_minimal().Device(options)
    spoil(device)
    ended = threading.Event()

    def live() -> None:
        device.client.connect("127.0.0.1", port, 30)
        while not ended.is_set():
            if device.client.loop(0.02):
                device.client.reconnect()
            device.tick(time.monotonic())
        device.client.disconnect()
        device.client.loop(0.1)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield device
    finally:
        ended.set()
        thread.join()


def load_minimal() -> Any:
    """Load the example afresh, so that a spoiled one spoils no other."""
    if str(MINIMAL.parent) not in sys.path:
        sys.path.append(str(MINIMAL.parent))
    spec = importlib.util.spec_from_file_location("minimal_device", MINIMAL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def verification() -> dict[str, Any]:
    """Return what the example verifies with."""
    found: dict[str, Any] = load_minimal().open_grant.__globals__
    return found


def globals_of(device: Any) -> dict[str, Any]:
    found: dict[str, Any] = type(device).__init__.__globals__
    return found


def activate_at_once(device: Any) -> None:
    say = device.say

    def hasty(name: str, **document: Any) -> None:
        say(name, **document)
        if name == "ready" and document["step"] == "activate":
            device.switch(device.state["desired"], time.monotonic())

    device.say = hasty


def believe_any_signature(device: Any) -> None:
    def unverified(_kind: str, envelope: bytes, _key: bytes) -> bytes:
        return binascii.a2b_base64(json.loads(envelope)["payload"])

    honest = globals_of(device)["open_grant"]
    globals_of(device)["open_grant"] = FunctionType(honest.__code__, {**honest.__globals__, "unseal": unverified})


def reuse_nonce(device: Any) -> None:
    say, nonce = device.say, "ab" * 16

    def stale(name: str, **document: Any) -> None:
        if name == "ready":
            device.question = (device.question[0], nonce, device.question[2])
            document["nonce"] = nonce
        say(name, **document)

    device.say = stale


def ignore_brake(device: Any) -> None:
    hear = device.client.on_message

    def deaf(client: Any, data: Any, message: Any) -> None:
        if not message.topic.endswith("/hold"):
            hear(client, data, message)

    device.client.on_message = deaf


def take_wrong_shard(device: Any) -> None:
    device.number += 1


def forget_to_retain(device: Any) -> None:
    say = device.say
    device.say = lambda name, **document: say(name, **{**document, "retain": False} if name == "reported" else document)


def refuse_to_go_back(device: Any) -> None:
    switch = device.switch

    def stubborn(desired: dict[str, Any], now: float) -> None:
        device.report("idle") if desired["action"] == "rollback" else switch(desired, now)

    device.switch = stubborn


def believe_any_bytes(device: Any) -> None:
    def unverified(_file: object, urls: list[str]) -> None:
        with urllib.request.urlopen(urls[0]) as response:
            response.read()

    globals_of(device)["fetch"] = unverified


FAULTS: dict[str, Callable[[Any], None]] = {
    "grant-needed": activate_at_once,
    "grant-signature": believe_any_signature,
    "nonce-fresh": reuse_nonce,
    "hold-obeyed": ignore_brake,
    "health-shard": take_wrong_shard,
    "reported-retained": forget_to_retain,
    "rollback-done": refuse_to_go_back,
    "tampered-refused": believe_any_bytes,
}
"""By the one clause that each breaks."""

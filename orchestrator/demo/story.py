"""The demo's story, from twelve devices on 1.0.0 to twelve on 1.2.0."""

import asyncio
import contextlib
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from orchestrator.adapters.brokers import Broker, open_broker
from orchestrator.adapters.journal import JOURNAL_NAME
from orchestrator.adapters.keys import create_keys, load_private
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release
from orchestrator.demo.fleet import DemoDevice, clone_image, free_port, make_devices, write_config
from orchestrator.demo.load import drive
from orchestrator.demo.observer import ACTOR, DemoError, Observed, Observer, clear_retained
from orchestrator.demo.processes import Processes, running
from orchestrator.demo.screen import Screen
from orchestrator.demo.summary import summarize
from orchestrator.examples import find_examples
from orchestrator.shelf import load_policy
from schemas.documents import Reply
from schemas.times import format_duration
from schemas.topics import TopicTree

FIRST, BAD, GOOD = "1.0.0", "1.1.0", "1.2.0"
TIME_SCALE: Final = 120.0
"""An hour becomes 30 seconds."""
SAMPLE_INTERVAL_SECONDS: Final = 0.25
BASELINE_SECONDS: Final = 8.0
APPROVAL_SECONDS: Final = 5.0
_TERMINAL: Final = frozenset({"completed", "aborted", "rolled_back"})


@dataclass(frozen=True, slots=True)
class Options:
    """How the demo runs.

    Attributes:
        url: A broker that is already there; None starts one.
        kind: Which one to start.
        folder: Where everything lies; None takes a new one below the system's temporary folder.
        asks: Ask for the approval in the terminal.
        quiet: Print only the summary object.
    """

    url: str | None
    kind: Literal["embedded", "mosquitto"]
    folder: Path | None
    asks: bool
    quiet: bool


async def tell(options: Options) -> dict[str, Any]:
    """Run the demo and return its summary; every process it started has ended then.

    Raises:
        FleetError: It did not get where it must.
    """
    folder = options.folder or Path(tempfile.mkdtemp(prefix="tidegate-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    devices = make_devices(folder)
    images = _make_releases(folder)
    started_at = time.monotonic()
    clock: Callable[[], float] = lambda: time.monotonic() - started_at  # noqa: E731 - one clock, passed on
    with (
        open_broker(
            options.url, folder, kind=options.kind, operators=(ACTOR,), devices=[device.id for device in devices]
        ) as broker,
        contextlib.ExitStack() as stack,
    ):
        # On somebody's own broker there may be a real fleet: there the demo keeps to a tree of its own.
        tree = TopicTree() if options.url is None else TopicTree(f"tidegate-demo-{secrets.token_hex(4)}/v1")
        processes = stack.enter_context(running(folder))
        observer = Observer(broker.url_for(ACTOR), tree, clock)
        screen = stack.enter_context(Screen(observer.seen, clock, quiet=options.quiet))
        try:
            return await _play(
                _Stage(options, folder, devices, broker, tree, processes, observer, screen, clock), images
            )
        finally:
            stack.close()
            if options.url is not None:
                await clear_retained(broker.url, tree)


@dataclass(frozen=True, slots=True)
class _Stage:
    options: Options
    folder: Path
    devices: list[DemoDevice]
    broker: Broker
    tree: TopicTree
    processes: Processes
    observer: Observer
    screen: Screen
    clock: Callable[[], float]


async def _play(stage: _Stage, images: dict[str, BuiltRelease]) -> dict[str, Any]:
    """Run the story beside everything that goes on meanwhile, and stop that when the story ends."""
    connected = asyncio.Event()
    background: list[Awaitable[None]] = [
        stage.observer.run(connected),
        _refresh(stage.screen),
        drive([device.port for device in stage.devices]),
        _watch_processes(stage.processes),
    ]
    tasks = [asyncio.ensure_future(each) for each in background]
    story = asyncio.ensure_future(_act(stage, images, connected))
    try:
        done, _ = await asyncio.wait([story, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # The first to end is the story, or a defect beside it.
        return await story
    finally:
        for task in [story, *tasks]:
            task.cancel()
        await asyncio.gather(story, *tasks, return_exceptions=True)


async def _act(stage: _Stage, images: dict[str, BuiltRelease], connected: asyncio.Event) -> dict[str, Any]:
    await connected.wait()
    say, observer = stage.screen.say, stage.observer
    say(f"everything of this demo lies in {stage.folder}", "dim")
    say(f"to look for yourself meanwhile: {_look(stage)}", "dim")
    _start_orchestrator(stage)
    await asyncio.to_thread(_provision, stage, images[FIRST])
    # From this thread, because Linux ends a child with the thread that started it.
    for device in stage.devices:
        stage.processes.start(device.id, ["device_client", "run", "--config", str(device.config_path)])
    say(f"{len(stage.devices)} agents are starting, each with {FIRST} in its blue slot")
    await observer.until(lambda seen: _count(seen, FIRST) == len(stage.devices), seconds=60, what="all devices report")
    memory = sum(stage.processes.memory_bytes().values())
    say(f"all {len(stage.devices)} devices run {FIRST}; all processes together take {memory / 1e6:.0f} MB")
    say(f"one hour of the policy takes {format_duration(3600 / TIME_SCALE)} (time scale {TIME_SCALE:g})")
    say(f"taking the baseline under load for {BASELINE_SECONDS:g} s")
    await asyncio.sleep(BASELINE_SECONDS)
    await _roll_out(stage, "r-1", BAD)
    await _until_ended(stage, "r-1", expected="rolled_back")
    _explain_rollback(stage, "r-1")
    await _roll_out(stage, "r-2", GOOD)
    await _approve(stage, "r-2")
    await _until_ended(stage, "r-2", expected="completed")
    everyone = len(stage.devices)
    await observer.until(lambda seen: _count(seen, GOOD) == everyone, seconds=15, what=f"all report {GOOD}")
    return _finish(stage, memory)


def _make_releases(folder: Path) -> dict[str, BuiltRelease]:
    """Build and publish the three versions of the example application."""
    application = find_examples() / "application"
    create_keys(folder / "keys")
    (folder / "policies").mkdir(exist_ok=True)
    shutil.copyfile(find_examples() / "policies" / "demo.yaml", folder / "policies" / "demo.yaml")
    key = load_private(folder / "keys" / "release.key")
    store = ReleaseStore(folder / "releases")
    built = {}
    for counter, version in enumerate((FIRST, BAD, GOOD), start=1):
        tree = folder / "trees" / version
        shutil.copytree(application / "app", tree / "app", ignore=shutil.ignore_patterns("__pycache__"))
        (tree / "config").mkdir()
        shutil.copyfile(application / "versions" / f"{version}.json", tree / "config" / "app.json")
        built[version] = build_release(
            tree,
            release=f"sensor-app-{version}",
            version=version,
            release_counter=counter,
            command=("{python}", "app/serve.py", "--port", "{port}"),
            key=key,
        )
        store.publish(built[version])
    return built


def _start_orchestrator(stage: _Stage) -> None:
    url = stage.broker.url_for("orchestrator")
    secret = f":{url.password}" if url.password else ""
    user = f"{url.username}{secret}@" if url.username else ""
    scheme = "mqtts" if url.is_tls else "mqtt"
    arguments = ["orchestrator", "orchestrator", "--folder", str(stage.folder)]
    if stage.broker.websocket_port is not None:
        # Two ports that a page needs: the registry's, which serves it, and the broker's for browsers.
        port = free_port()
        arguments += ["--registry-port", str(port)]
        arguments += ["--dashboard-broker-url", f"ws://{url.host}:{stage.broker.websocket_port}"]
        person = stage.broker.url_for(ACTOR)
        stage.screen.say(
            f"or in a browser: http://{url.host}:{port}/dashboard/ as {ACTOR}, password {person.password}", "dim"
        )
    stage.processes.start(
        "orchestrator",
        [*arguments, "--topic-root", stage.tree.root, "--tick-seconds", "0.1", "--settle-seconds", "1"],
        environment={"TIDEGATE_BROKER": f"{scheme}://{user}{url.host}:{url.port}"},
    )


def _provision(stage: _Stage, image: BuiltRelease) -> None:
    keys = stage.folder / "keys"
    release_key, command_key = ((keys / name).read_text().strip() for name in ("release.pub", "command.pub"))
    for device in stage.devices:
        write_config(
            device,
            stage.broker,
            topic_root=stage.tree.root,
            release_key=release_key,
            command_key=command_key,
            sample_interval_seconds=SAMPLE_INTERVAL_SECONDS,
        )
    first = stage.devices[0]
    manifest, artifact = stage.folder / "image.manifest", stage.folder / "image.artifact"
    manifest.write_bytes(image.envelope)
    artifact.write_bytes(image.artifact)
    stage.processes.run(
        "provision",
        ["device_client", "provision", "--config", str(first.config_path), "--manifest", str(manifest),
         "--artifact", str(artifact)],
    )  # fmt: skip
    clone_image(first, stage.devices)


async def _roll_out(stage: _Stage, rollout: str, version: str) -> None:
    policy = load_policy(stage.folder / "policies" / "demo.yaml")
    body = {
        "rollout": rollout,
        "release": f"sensor-app-{version}",
        "policy": policy.model_dump(mode="json", by_alias=True),
        "time_scale": TIME_SCALE,
        "reason": "demo",
    }
    reply = _ok(await stage.observer.command("start", body))
    waves = ", ".join(f"{wave['wave']} {wave['devices']}" for wave in reply["waves"])
    stage.screen.rollout = rollout
    stage.screen.say(f"{rollout}: rolling out {version} ({waves})", "bold")


async def _until_ended(stage: _Stage, rollout: str, *, expected: str) -> None:
    def has_ended(seen: Observed) -> bool:
        status = seen.status.get(rollout)
        return status is not None and status.phase in {*_TERMINAL, "halted"}

    await stage.observer.until(has_ended, seconds=90, what=f"{rollout} ends")
    _expect(stage, rollout, expected)
    stage.screen.say(f"{rollout}: {expected.replace('_', ' ')}", "bold green" if expected == "completed" else "bold")


def _expect(stage: _Stage, rollout: str, phase: str) -> None:
    status = stage.observer.seen.status[rollout]
    if status.phase != phase:
        raise DemoError(f"{rollout} is {status.phase}, expected {phase}: {'; '.join(status.reasons)}")


def _explain_rollback(stage: _Stage, rollout: str) -> None:
    for order in stage.observer.seen.rollbacks.get(rollout, []):
        for check in order.evidence:
            stage.screen.say(f"{order.trigger} closed the gate: {check.why}", "red")


async def _approve(stage: _Stage, rollout: str) -> None:
    def awaits(seen: Observed) -> bool:
        status = seen.status.get(rollout)
        return status is not None and status.phase in {*_TERMINAL, "awaiting_approval", "halted"}

    await stage.observer.until(awaits, seconds=90, what=f"{rollout} awaits approval")
    _expect(stage, rollout, "awaiting_approval")
    stage.screen.say(f"{rollout}: the canary passed its gate and a person is asked", "bold yellow")
    if not await _consents(stage):
        _ok(await stage.observer.command("reject", {"rollout": rollout, "reason": "demo: refused in the terminal"}))
        raise DemoError(f"{rollout} was refused in the terminal and is rolled back")
    _ok(await stage.observer.command("approve", {"rollout": rollout, "reason": "demo"}))
    stage.screen.say(f"{rollout}: approved", "bold")


async def _consents(stage: _Stage) -> bool:
    """Ask in the terminal; no answer within a few seconds is a yes, because this is a demo."""
    if not stage.options.asks:
        return True
    stage.screen.say(f"approve? [Y/n] (yes by itself in {APPROVAL_SECONDS:g} s)", "bold yellow")
    loop, answer = asyncio.get_running_loop(), asyncio.Queue[str]()
    loop.add_reader(sys.stdin.fileno(), lambda: answer.put_nowait(sys.stdin.readline()))
    try:
        async with asyncio.timeout(APPROVAL_SECONDS):
            return not (await answer.get()).strip().lower().startswith("n")
    except TimeoutError:
        return True
    finally:
        loop.remove_reader(sys.stdin.fileno())


def _ok(reply: Reply) -> dict[str, Any]:
    if reply.error is not None:
        raise DemoError(f"{reply.error.code}: {reply.error.message}")
    return dict(reply.data or {})


def _count(seen: Observed, version: str) -> int:
    return sum(r.installed_version == version and r.state == "idle" for r in seen.reported.values())


def _finish(stage: _Stage, memory_bytes: int) -> dict[str, Any]:
    seconds = stage.clock()
    report = stage.folder / "report.json"
    facts = {
        "bad_version": BAD,
        "seconds": round(seconds, 1),
        "time_scale": TIME_SCALE,
        "memory_bytes": memory_bytes,
        "broker": str(stage.broker.url_for(ACTOR)),
        "report": str(report),
        "journal": str(stage.folder / JOURNAL_NAME),
        "look": _look(stage),
    }
    summary = summarize(stage.observer.seen, [device.id for device in stage.devices], now=seconds, facts=facts)
    report.write_text(json.dumps(summary, indent=2), encoding="utf-8")
    return summary


def _look(stage: _Stage) -> str:
    """Return the line that shows every rollout on the bus."""
    url = stage.broker.url_for(ACTOR)
    password = url.password if stage.broker.access is not None else "PASSWORD"  # one that was given is not shown
    secret = f" -u {url.username} -P {password}" if url.password else ""
    return f"mosquitto_sub -h {url.host} -p {url.port}{secret} -v -t '{stage.tree.root}/rollout/#'"


async def _refresh(screen: Screen) -> None:
    while True:
        screen.refresh()
        await asyncio.sleep(0.25)


async def _watch_processes(processes: Processes) -> None:
    while True:
        name = processes.died()
        if name is not None:
            raise DemoError(f"the process {name!r} ended by itself; see its log beside the report")
        await asyncio.sleep(0.5)

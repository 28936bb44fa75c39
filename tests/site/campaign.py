"""A release to fifty agents of one site behind a narrow line, with and without neighbours that give it to each other.

``make site``: each agent lives in a network namespace of its own, the orchestrator with its registry and the broker
beyond a line with a rate and a delay. One device gives its neighbours something else, some have slow links, and two are
killed in the middle, the one that has given most among them, and started again later. Everybody must come to the
release, verified; what crossed the line is what the registry's interface has counted.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from device_client.adapters.failure import StepError
from device_client.adapters.slots import Slots
from orchestrator.adapters.journal import Journal
from orchestrator.cli.bus import TREE, session
from orchestrator.core.events import DeviceCommitted, WaveStarted, event_from_json
from schemas.topics import Kind
from tests.end_to_end.rollout_bench import command
from tests.end_to_end.site_fleet import told
from tests.site.network import Counted, Links, counters, missing
from tests.site.scene import LYING_CANARY, RELEASE, SOURCES, Scene, Shape, policy, scene
from tests.storm.figures import Figure, Outcome

ARTIFACTS_MAX: Final = 3.0
"""What the registry may give for the whole site, in artifacts, where devices give each other what they have."""
LOOK_SECONDS: Final = 0.5
TOLD_SECONDS: Final = 10.0
START_SECONDS: Final = 300.0
"""A busy machine takes its time to start so many agents."""
AWAY_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 3600.0
Say = Callable[[str], None]
_DONE: Final = ("completed", "halted", "aborted")
_MB: Final = 1e6


class Watch:
    """What has crossed which link since the rollout began, and the two that are struck.

    Args:
        site: The scene.
        say: Takes a line for people.
    """

    def __init__(self, site: Scene, say: Say) -> None:
        self._site, self._say = site, say
        self._artifact_bytes = len(site.built.artifact)
        self._centre_before, self._site_before = counters(), counters("site")
        self._line_before_bytes = counters("exchange")["line"].sent_bytes
        self._began_at = self._told_at = time.monotonic()
        self._killed: dict[str, float] = {}
        self.struck: list[str] = []
        self.distrusted: set[str] = set()

    def sent_by(self, link: str) -> int:
        """Return what the centre has sent over one of its two links."""
        return counters()[link].sent_bytes - self._centre_before[link].sent_bytes

    def line_bytes(self) -> int:
        """Return what has been sent to the site; less than what the registry sends where some of it got lost."""
        return counters("exchange")["line"].sent_bytes - self._line_before_bytes

    def devices(self) -> dict[str, Counted]:
        """Return what each device has sent and got."""
        now = counters("site")
        return {
            name: Counted(
                sent_bytes=now[name].got_bytes - self._site_before[name].got_bytes,
                got_bytes=now[name].sent_bytes - self._site_before[name].sent_bytes,
            )
            for name in self._site.shape.names
        }

    def look(self, known: dict[str, Any]) -> None:
        """Strike when it is time, start again who was away for long enough, and say how far everybody is."""
        devices, now = self.devices(), time.monotonic()
        if not self.struck:
            self._strike(devices)
        for name in [name for name, at in self._killed.items() if now - at >= AWAY_SECONDS]:
            del self._killed[name]
            self._site.agents[name].start()
            self._say(f"{name} is started again")
        if now - self._told_at >= TOLD_SECONDS:
            self._told_at = now
            whole = sum(each.got_bytes > self._artifact_bytes for each in devices.values())
            self._say(
                f"{now - self._began_at:4.0f} s: {known.get('phase')} {known.get('wave')}, {whole} have the bytes; "
                f"registry {self.sent_by('registry') / _MB:.1f} MB, "
                f"devices {sum(each.sent_bytes for each in devices.values()) / _MB:.1f} MB"
            )

    def _strike(self, devices: dict[str, Counted]) -> None:
        """Kill one that is amidst its download, and the one that gives most or another that downloads."""
        shape = self._site.shape
        able = {name: each for name, each in devices.items() if name != shape.liar}
        amidst = [name for name, each in able.items() if 0.3 < each.got_bytes / self._artifact_bytes < 0.7]
        giving = [name for name, each in able.items() if each.sent_bytes > self._artifact_bytes]
        if len(amidst) < 2 or not (giving or len(amidst) > shape.devices // 2):
            return
        giver = max(giving, key=lambda name: able[name].sent_bytes) if giving else amidst[1]
        for name in (amidst[0], giver):
            self._site.agents[name].kill()
            self._killed[name] = time.monotonic()
            self.struck.append(name)
            shares = [count / self._artifact_bytes for count in (devices[name].got_bytes, devices[name].sent_bytes)]
            self._say(f"{name} is killed; it has got {shares[0]:.1f} artifacts and given {shares[1]:.1f}")


async def roll_out(site: Scene, scenario: str, say: Say) -> Watch:
    """Run the rollout to its end, with its blows."""
    deadline = time.monotonic() + START_SECONDS
    while (await command(site.stage, "list"))["devices"] < site.shape.devices:
        assert time.monotonic() < deadline, "the agents do not announce themselves"
        await asyncio.sleep(LOOK_SECONDS)
    say(f"{site.shape.devices} agents are there")
    watch = Watch(site, say)
    async with _hearing(site, watch):
        await command(site.stage, "start", release=RELEASE, policy=policy(scenario), rollout="r-1")
        deadline = time.monotonic() + PATIENCE_SECONDS
        known: dict[str, Any] = {}
        while known.get("phase") not in _DONE and time.monotonic() < deadline:
            known = await command(site.stage, "get", rollout="r-1")
            watch.look(known)
            await asyncio.sleep(LOOK_SECONDS)
    say(f"the rollout is {known.get('phase')}")
    return watch


@asynccontextmanager
async def _hearing(site: Scene, watch: Watch) -> AsyncIterator[None]:
    """Hear who distrusts whom."""

    async def hear() -> None:
        async for message in client.messages:
            if message.topic.value.endswith("/peer_distrusted"):
                watch.distrusted.add(message.topic.value)

    async with session(site.stage.operator(), [TREE.filter(Kind.DEVICE_EVENT)]) as client:
        hearing = asyncio.create_task(hear())
        try:
            yield
        finally:
            hearing.cancel()


def judge(site: Scene, scenario: str, watch: Watch) -> Outcome:
    """Say what it came to, once the orchestrator has ended."""
    artifact_bytes, shape = len(site.built.artifact), site.shape
    registry_bytes, devices = watch.sent_by("registry"), watch.devices()
    site.stage.stop()
    report = told(site.stage)
    said = report["header"]["fetched"]
    digests = [_digest(agent.root) for agent in site.agents.values()]
    has_peers = "peers" in SOURCES[scenario]
    bar = ARTIFACTS_MAX if has_peers else None
    verified = sum(digest is not None and digest == max(filter(None, digests)) for digest in digests)
    wave_seconds, committed = _wave(site)
    lied = devices[shape.liar].sent_bytes
    outcome = Outcome(f"{scenario}, {shape.devices} agents", load=round(os.getloadavg()[0], 1))
    outcome.figures = [
        Figure("registry's link", registry_bytes / artifact_bytes, "artifacts", bar),
        Figure("registry by the reports", said.get("registry", 0) / artifact_bytes, "artifacts", bar),
        Figure("neighbours by the reports", said.get("peers", 0) / artifact_bytes, "artifacts"),
        Figure("devices' links", sum(each.sent_bytes for each in devices.values()) / artifact_bytes, "artifacts"),
        Figure("verified", verified, "devices", shape.devices, is_floor=True),
        Figure("committed", committed, "devices", shape.devices, is_floor=True),
        Figure("wave", wave_seconds, "s"),
        Figure("the line, to the site", watch.line_bytes() / artifact_bytes, "artifacts"),
        Figure("broker's link", watch.sent_by("broker") / _MB, "MB"),
        Figure("liar's link", lied / _MB, "MB"),
        Figure("distrust it", len(watch.distrusted), "devices"),
    ]
    if len(watch.struck) < 2:
        outcome.wrong.append("nobody was killed in the middle")
    if site.stage.verify() != len(site.stage.facts()):
        outcome.wrong.append("the journal is not whole")
    if has_peers and not watch.distrusted:
        outcome.wrong.append("nobody asked the one that lies")
    return outcome


def _digest(root: Path) -> str | None:
    """Return what the slot that serves holds, read again to the last byte; None where nothing whole serves."""
    slots = Slots(root)
    slot = slots.active()
    try:
        return None if slot is None else slots.check(slot).tree_digest
    except StepError:
        return None


def _wave(site: Scene) -> tuple[float, int]:
    """Return how long it took from when the wave began until the last device had committed, and how many have."""
    began_at, committed = 0.0, {}
    reader = Journal.open_reader(site.stage.folder / "journal.db")
    try:
        for entry in reader.read():
            match event_from_json(entry.body):
                case WaveStarted(wave=1):
                    began_at = entry.at
                case DeviceCommitted(device=device):
                    committed[device] = entry.at
                case _:
                    pass
    finally:
        reader.close()
    return max(committed.values(), default=float("inf")) - began_at, len(committed)


def run(scenario: str, shape: Shape, folder: Path) -> Outcome:
    """Build the site, roll out, and judge."""
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(f"{scenario}: {text}", highlight=False, soft_wrap=True)

    with tempfile.TemporaryDirectory(prefix=".site-", dir=folder) as here, scene(shape, Path(here)) as site:
        return judge(site, scenario, asyncio.run(roll_out(site, scenario, say)))


def main(arguments: Sequence[str]) -> int:
    """Run the campaign; return 1 if a bar was missed or something happened that must not."""
    usual = Links()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=50, help="%(default)s")
    parser.add_argument("--scenario", choices=tuple(SOURCES), action="append", help="several times; default all")
    parser.add_argument("--artifact-mb", type=float, default=8.0, help="of the release (%(default)s)")
    parser.add_argument("--line-mbit", type=float, default=usual.line_mbit, help="the site's line (%(default)s)")
    parser.add_argument("--line-ms", type=float, default=usual.line_ms, help="there and back (%(default)s)")
    parser.add_argument("--device-mbit", type=float, default=usual.device_mbit, help="a device's link (%(default)s)")
    parser.add_argument("--slow", type=int, default=5, help="devices with a slow link (%(default)s)")
    parser.add_argument("--slow-mbit", type=float, default=usual.slow_mbit, help="such a link (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on a disk; default is the current folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if lack := missing():
        raise SystemExit(lack)
    links = Links(options.line_mbit, options.line_ms, options.device_mbit, options.slow_mbit)
    outcomes = []
    for scenario in options.scenario or SOURCES:
        is_liar_first = scenario == LYING_CANARY
        size_bytes = int(options.artifact_mb * _MB)
        shape = Shape(options.devices, size_bytes, options.slow, links, is_canary_the_liar=is_liar_first)
        outcomes.append(run(scenario, shape, options.folder))
        if not options.json:
            _print(outcomes[-1])
    if options.json:
        print(json.dumps({"name": "site", "outcomes": [each.facts() for each in outcomes]}))
    return 0 if all(each.holds for each in outcomes) else 1


def _print(outcome: Outcome) -> None:
    print(f"{outcome.scenario} (load {outcome.load}): {'holds' if outcome.holds else 'DOES NOT HOLD'}")
    for figure in outcome.figures:
        print(f"  {figure}")
    for wrong in outcome.wrong:
        print(f"  WRONG: {wrong}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

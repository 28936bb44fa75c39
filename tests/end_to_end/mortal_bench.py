"""A rollout with an orchestrator that can be killed at any call, again and again from the same beginning."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.adapters.journal import JOURNAL_NAME, Journal, StoredEntry
from orchestrator.adapters.keys import create_keys, load_private
from orchestrator.adapters.releases import ReleaseStore, build_release
from orchestrator.core import events as e
from orchestrator.core.replaying import Recorded, replay
from tests.core.core_bench import fold
from tests.end_to_end.lockstep import NEW, ROLLOUT, World, a_world

STEPS_AFTER: Final = 3
"""So long it lives on after the rollout has ended."""
ONCE: Final = {
    "rollout_started", "wave_started", "rollout_approved", "rollback_ordered", "rollout_halted", "rollout_resumed",
    "rollout_ended", "device_committed", "device_failed", "device_returned", "soak_started", "canary_phase_started",
    "rollback_verified",
}  # fmt: skip
"""Facts of which there is one each, however often the process dies."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a rollout came to, without times and numbers that a restart may change."""

    rollout: dict[str, Any]
    once: dict[str, int]
    ordered: dict[str, list[str]]
    switched: dict[str, list[str]]


@dataclass
class Bench:
    """A driver of orchestrators, and the folder that each begins with."""

    folder: Path
    command_key: bytes
    driver: "asyncio.subprocess.Process"
    count: int = 0

    @asynccontextmanager
    async def scene(self) -> AsyncIterator[tuple[World, Path]]:
        """Make a world and an orchestrator's folder of their own; both are gone afterwards."""
        self.count += 1
        here = self.folder / f"scene-{self.count}"
        shutil.copytree(self.folder / "first", here / "fleet")
        try:
            async with a_world(here / "clock", self.command_key) as world:
                yield world, here / "fleet"
        finally:
            shutil.rmtree(here, ignore_errors=True)

    async def begin(self, world: World, folder: Path, **how: object) -> "tuple[int, asyncio.Future[Any]]":
        """Start an orchestrator; return its process and what says how it ended."""
        request = {"folder": str(folder), "port": world.port, "clock": str(folder.parent / "clock"), **how}
        assert self.driver.stdin is not None
        self.driver.stdin.write(json.dumps(request).encode() + b"\n")
        pid = int((await self._answer())["pid"])
        return pid, asyncio.ensure_future(self._answer())

    async def run(self, world: World, folder: Path, until: Callable[[], bool] | None = None, **how: object) -> int:
        """Run an orchestrator until everybody is rolled back, or ``until``, and end it; return its exit code."""
        pid, ended = await self.begin(world, folder, **how)
        steps_left = STEPS_AFTER

        def is_over() -> bool:
            nonlocal steps_left
            steps_left -= world.phase == "rolled_back"
            return steps_left < 0

        try:
            await world.live(ended, until or is_over)
            if not ended.done():
                os.kill(pid, signal.SIGTERM)
            return int((await ended)["code"])
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await ended
            raise

    async def _answer(self) -> Any:  # noqa: ANN401 - parsed JSON
        assert self.driver.stdout is not None
        return json.loads(await self.driver.stdout.readline())


@asynccontextmanager
async def a_bench(folder: Path) -> AsyncIterator[Bench]:
    """Make keys and a release in ``folder``, and start a driver."""
    first = folder / "first"
    create_keys(first / "keys")
    (first / "policies").mkdir()
    tree = folder / "tree"
    (tree / "app").mkdir(parents=True)
    (tree / "app" / "main.txt").write_text(NEW)
    key = load_private(first / "keys" / "release.key")
    built = build_release(tree, release=f"lab-{NEW}", version=NEW, release_counter=1, command=["true"], key=key)
    ReleaseStore(first / "releases").publish(built)
    command_key = load_private(first / "keys" / "command.key").public_key().public_bytes_raw()
    root = Path(__file__).parents[2]
    driver = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.end_to_end.mortal_driver", cwd=root, start_new_session=True,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Bench(folder, command_key, driver)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        await driver.wait()


def entries_of(folder: Path) -> list[StoredEntry]:
    """Return all entries of a journal whose chain holds; raises ``JournalCorruptError`` if it does not."""
    reader = Journal.open_reader(folder / JOURNAL_NAME)
    try:
        reader.verify()
        return list(reader.read())
    finally:
        reader.close()


def told_by(world: World, folder: Path) -> Told:
    """Return what a rollout came to."""
    entries = entries_of(folder)
    state = fold(entries)
    rollout = state.rollouts[ROLLOUT]
    facts = [e.event_from_json(each.body) for each in entries]
    orders = [each for each in facts if isinstance(each, e.DevicesOrdered)]
    return Told(
        {
            "phase": rollout.phase,
            "plan": rollout.plan.digest,
            "members": {name: (m.progress, m.failed, m.excused, m.error) for name, m in rollout.members.items()},
            "approvals": sorted(rollout.approvals),
            "quarantine": {name: device.quarantine for name, device in state.devices.items()},
            "versions": {name: device.version for name, device in world.devices.items()},
        },
        {kind: count for kind, count in sorted(Counter(each.kind for each in entries).items()) if kind in ONCE},
        {name: [order.action for order in orders if name in order.devices] for name in world.devices},
        {name: [version for _, version in device.activations] for name, device in world.devices.items()},
    )


def unsound(world: World, folder: Path, told: Told) -> str:
    """Say what is wrong with a rollout that has ended; empty if nothing is."""
    found, entries = told_by(world, folder), entries_of(folder)
    differs = [f"{key} {theirs} instead of {ours}" for key, ours, theirs in _compared(told, found) if ours != theirs]
    if differs:
        differs.append(f"for {fold(entries).rollouts[ROLLOUT].reason!r}")
    others = *world.wrong, *replayed(entries), *_unaccounted(world, entries), *_repeated(world, entries)
    return "; ".join([*differs, *others])


def _compared(told: Told, found: Told) -> Iterator[tuple[str, object, object]]:
    yield from ((key, told.rollout[key], found.rollout[key]) for key in told.rollout)
    yield from ((key, told.once.get(key, 0), found.once.get(key, 0)) for key in sorted(ONCE))
    yield "ordered", told.ordered, found.ordered
    yield "switched", told.switched, found.switched


def replayed(entries: list[StoredEntry]) -> list[str]:
    """Name the decisions that do not follow from the journal before them."""
    done = replay(Recorded(each.seq, each.at, e.event_from_json(each.body)) for each in entries)
    return [f"replay, entry {each.seq}: {each.message}" for each in done.mismatches]


def _unaccounted(world: World, entries: list[StoredEntry]) -> list[str]:
    """Name what was said to somebody and does not stand in the journal, and what stands there and was not told."""
    hashes = {each.seq: each.hash for each in entries}
    told = [
        f"audit record {seq} is not the journal's" for seq, hash_ in world.audit.items() if hashes.get(seq) != hash_
    ]
    missed = sorted(hashes.keys() - world.audit.keys())
    facts = [e.event_from_json(each.body) for each in entries]
    answered = {each.transaction for each in facts if isinstance(each, e.CommandAnswered) and each.status == "ok"}
    issued = {each.nonce for each in facts if isinstance(each, e.GrantIssued)}
    grants = [grant for device in world.devices.values() for grant in device.granted]
    return [
        *told,
        *([f"audit records {missed} were never published"] if missed else []),
        *(f"the answer to {each} is not in the journal" for each in world.replies.keys() - answered),
        *(f"{each.device} went without an entry" for each in grants if each.nonce not in issued),
    ]


def _repeated(world: World, entries: list[StoredEntry]) -> list[str]:
    """Name what was let go twice."""
    counts = Counter(
        (grant.device, grant.generation, grant.step) for each in world.devices.values() for grant in each.granted
    )
    again = [
        f"{device} took {step} of generation {order} twice" for (device, order, step), n in counts.items() if n > 1
    ]
    facts = [e.event_from_json(each.body) for each in entries]
    nonces = Counter(each.nonce for each in facts if isinstance(each, e.GrantIssued))
    return [*again, *(f"nonce {nonce} was granted twice" for nonce, n in nonces.items() if n > 1)]

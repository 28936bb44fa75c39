"""How long a restart takes in the middle of a rollout to a million devices, until decisions go on.

The journal holds a fleet of that size, a rollout planned for it, and every order, grant and commit of its first waves.
What is measured is a new process: from its start, imports and all, until the engine has its state and its epoch and has
decided on a person's ``pause``, durably. As many entries stand behind the snapshot as there ever do. ``--fold`` also
measures once without a snapshot, from the journal's beginning.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from planning import NOW, POLICY, make_release

from orchestrator.adapters.journal import JOURNAL_NAME, Journal
from orchestrator.adapters.snapshots import EACH_ENTRIES, SNAPSHOT_NAME, Snapshots
from orchestrator.core import events as e
from orchestrator.core.inventory import Device
from orchestrator.core.state import State, evolve
from orchestrator.core.targets import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.shelf import load_policy
from schemas.messages import Info

BAR_SECONDS = 3.0
ROLLOUT = "r-1"
APPENDED = 5_000
ORDERED = 1_000
LAST_WAVE = 3

RESTART = """
import sys, time
from pathlib import Path
from orchestrator.adapters.snapshots import SNAPSHOT_NAME, Snapshots
from orchestrator.core.context import Context
from orchestrator.core.inputs import CommandReceived
from orchestrator.adapters.journal import JOURNAL_NAME, Journal
from orchestrator.service import Engine
from orchestrator.telemetry.monitor import Monitor
from schemas.commands import parse_command
from schemas.topics import TopicTree
folder, now = Path(sys.argv[1]), float(sys.argv[2])
journal = Journal(folder / JOURNAL_NAME)
engine = Engine(journal, Context(Monitor(), {}, {}, "http://registry"), lambda payload: payload, TopicTree())
known = Snapshots(folder / SNAPSHOT_NAME, journal).load()
if known is not None:
    engine.resume(*known)
engine.start(now)
pause = parse_command("pause", b'{"rollout": "r-1"}')
engine.handle(CommandReceived("alice", "pause", pause), now + 1)
assert engine.state.rollouts["r-1"].paused
print(len(engine.state.devices), flush=True)
"""


def events(state: State, devices: int) -> Iterator[e.AnyEvent]:
    """Yield the facts of the rollout, each to be applied before the next is asked for."""
    kinds = [
        Info(
            session=0, boot_id="-", agent="agent/1", arch="aarch64", device_type=f"type-{number % 6}",
            region=f"region-{number % 12}", group=f"group-{number % 40}", signals=("latency",),
        )
        for number in range(240)
    ]  # fmt: skip
    names = [f"device-{number:07d}" for number in range(devices)]
    for number, name in enumerate(names):
        yield e.DeviceAnnounced(device=name, info=kinds[number % len(kinds)])
    rows = state.devices.rows(names)
    state.devices.fill(rows, Device.version, "1.0.0")
    state.devices.fill(rows, Device.is_online, value=True)
    policy, release = load_policy(POLICY), make_release()
    plan = make_plan(state, release, policy, ROLLOUT, now=NOW)
    assert isinstance(plan, Plan)
    yield e.RolloutStarted(
        rollout=ROLLOUT, by="alice", reason="", release=release, registry_url="http://registry", policy=policy,
        plan=plan, baselines={},
    )  # fmt: skip
    for number, wave in enumerate(plan.waves):
        yield e.WaveStarted(rollout=ROLLOUT, wave=number)
        members = iter(wave.members)
        while some := list(islice(members, ORDERED)):
            yield from _deployed(state.generation + 1, some)


def _deployed(generation: int, names: list[str]) -> Iterator[e.AnyEvent]:
    yield e.DevicesOrdered(
        rollout=ROLLOUT, action="install", generation=generation, epoch=1, devices=dict.fromkeys(names, "1.0.0")
    )
    for name in names:
        yield e.GrantIssued(
            rollout=ROLLOUT, device=name, generation=generation, step="activate", nonce="ab" * 16, seq=1, in_flight=0,
            unavailable=0,
        )  # fmt: skip
        yield e.DeviceCommitted(rollout=ROLLOUT, device=name, generation=generation, version="2.0.0")


def build(folder: Path, devices: int) -> tuple[int, int]:
    """Write journal and snapshot; return how many entries the journal holds, and how many stand behind the snapshot."""
    journal, state = Journal(folder / JOURNAL_NAME), State()
    journal.open_epoch(NOW)
    facts = _applied(state, events(state, devices))
    seq = 0
    while state.rollouts.get(ROLLOUT) is None or state.rollouts[ROLLOUT].wave < LAST_WAVE:
        seq = _append(journal, list(islice(facts, APPENDED)))
    kept = Snapshots(folder / SNAPSHOT_NAME, journal)
    kept.write(kept.make(state, seq))
    end = seq + EACH_ENTRIES
    while seq < end:
        seq = _append(journal, list(islice(facts, APPENDED)))
    journal.close()
    return seq, EACH_ENTRIES


def _append(journal: Journal, facts: list[e.AnyEvent]) -> int:
    last = journal.append([(fact.kind, fact.model_dump_json()) for fact in facts], NOW)[-1]
    journal.mark_performed(last.seq)
    return last.seq


def _applied(state: State, facts: Iterable[e.AnyEvent]) -> Iterator[e.AnyEvent]:
    for fact in facts:
        evolve(state, fact, NOW)
        yield fact


def restart(folder: Path, number: int, devices: int) -> float:
    """Start a process on the folder and return the seconds until it has decided."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RESTART, str(folder), str(NOW + 100 * number)],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    assert int(done.stdout) == devices
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--fold", action="store_true", help="also once without a snapshot")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:  # /tmp may be in memory
        folder = Path(name)
        entries, tail = build(folder, options.devices)
        runs = [restart(folder, number + 1, options.devices) for number in range(options.runs)]
        folded = None
        if options.fold:
            (folder / SNAPSHOT_NAME).unlink()
            folded = round(restart(folder, options.runs + 1, options.devices), 1)
    figure = round(statistics.median(runs), 2)
    facts: dict[str, Any] = {
        "name": f"restart_{options.devices}_devices_seconds", "figure": figure, "unit": "s", "bar": BAR_SECONDS,
        "ratio": round(figure / BAR_SECONDS, 2), "runs": [round(each, 2) for each in runs], "entries": entries,
        "tail": tail, "folded": folded,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }  # fmt: skip
    if options.json:
        print(json.dumps(facts))
        return
    print(facts["machine"])
    print(f"restart of a rollout to {options.devices:,} devices, {entries:,} entries, {tail:,} behind the snapshot:")
    print(f"median {figure} s of {len(runs)} runs, bar {BAR_SECONDS} s, ratio {facts['ratio']}")
    if folded is not None:
        print(f"without a snapshot {folded} s")


if __name__ == "__main__":
    main()

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.adapters import snapshots
from orchestrator.adapters.journal import Journal
from orchestrator.adapters.snapshots import SNAPSHOT_NAME, Snapshots
from orchestrator.core.inputs import CommandReceived
from orchestrator.core.snapshot import freeze, thaw
from orchestrator.core.state import State
from schemas.commands import RolloutCommand
from tests.core.core_bench import Bench, durable
from tests.reporting.report_bench import complete, make_bench, roll_back


@pytest.fixture(scope="module")
def bench() -> Bench:
    return roll_back(make_bench(12))


@pytest.fixture
def kept(bench: Bench, tmp_path: Path) -> Snapshots:
    found = Snapshots(tmp_path / SNAPSHOT_NAME, bench.journal)
    found.write(found.make(bench.state, bench.engine.seq))
    return found


def path_of(tmp_path: Path) -> Path:
    return tmp_path / SNAPSHOT_NAME


def test_what_is_frozen_thaws_as_the_same_state(bench: Bench) -> None:
    thawed = thaw(freeze(bench.state))

    assert durable(thawed) == durable(bench.state)
    assert freeze(thawed) == freeze(bench.state)


def test_an_empty_state_thaws_as_an_empty_state() -> None:
    assert durable(thaw(freeze(State()))) == durable(State())


def test_what_is_only_seen_is_left_out(bench: Bench) -> None:
    assert any(device.is_online for device in bench.state.devices.values())
    assert not any(device.is_online for device in thaw(freeze(bench.state)).devices.values())


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x00" * 100])
def test_what_is_no_snapshot_is_an_error_and_nothing_in_it_is_executed(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"snapshot|allow_pickle"):
        thaw(data)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, head=np.array([{"a": 1}], dtype=object), names=np.array([object()]))

    with pytest.raises(ValueError, match="allow_pickle"):
        thaw(path.read_bytes())


def test_a_snapshot_that_was_saved_is_loaded_with_its_place(bench: Bench, kept: Snapshots) -> None:
    found = kept.load()

    assert found is not None
    assert (found[1], durable(found[0])) == (bench.engine.seq, durable(bench.state))


def test_there_is_none_at_first(bench: Bench, tmp_path: Path) -> None:
    assert Snapshots(path_of(tmp_path), bench.journal).load() is None


def test_a_damaged_one_is_not_used(kept: Snapshots, tmp_path: Path) -> None:
    data = bytearray(path_of(tmp_path).read_bytes())
    data[len(data) // 2] ^= 1
    path_of(tmp_path).write_bytes(data)
    assert kept.load() is None

    path_of(tmp_path).write_bytes(data[:40])
    assert kept.load() is None


def test_one_of_another_journal_is_not_used(kept: Snapshots, tmp_path: Path) -> None:
    other = complete(make_bench(6)).journal

    assert Snapshots(path_of(tmp_path), other).load() is None
    assert Snapshots(path_of(tmp_path), Journal(None)).load() is None
    assert kept.load() is not None


def test_one_that_another_program_wrote_is_not_used(
    kept: Snapshots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "program", lambda: "another")

    assert kept.load() is None
    assert json.loads(path_of(tmp_path).read_bytes().partition(b"\n")[0])["program"] != "another"


def test_a_disk_that_refuses_costs_nothing_but_time(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Snapshots(tmp_path / "file" / SNAPSHOT_NAME, bench.journal)

    kept.write(kept.make(bench.state, bench.engine.seq))

    assert kept.load() is None


def test_an_engine_that_resumes_says_again_what_may_not_have_been_said() -> None:
    bench = make_bench(6)
    bench.start()
    bench.engine.handle(CommandReceived("alice", "pause", RolloutCommand(rollout="r-001")), bench.now)  # never sent
    kept, seq = freeze(bench.state), bench.engine.seq

    bench.engine = type(bench.engine)(
        bench.journal, bench.engine.context, lambda payload: payload, bench.engine._tree, summary_seconds=float("inf")
    )
    bench.engine.resume(thaw(kept), seq)
    said = [each.topic for each in bench.take(bench.engine.start(bench.now))]

    assert said.count("fleet/v1/rollout/r-001/event/paused") == 1
    assert "fleet/v1/rollout/r-001/event/started" not in said


def test_an_engine_that_resumes_publishes_what_the_one_before_may_not_have(tmp_path: Path) -> None:
    bench = make_bench(6)
    bench.start()
    kept, seq = freeze(bench.state), bench.engine.seq
    bench.install_wave()
    whole = bench.boot()
    expected = durable(bench.state)

    bench.engine = type(bench.engine)(
        bench.journal, bench.engine.context, lambda payload: payload, bench.engine._tree, summary_seconds=float("inf")
    )
    bench.engine.resume(thaw(kept), seq)
    resumed = bench.take(bench.engine.start(bench.now))

    assert durable(bench.state).rollouts == expected.rollouts
    assert {each.topic for each in resumed} == {each.topic for each in whole}

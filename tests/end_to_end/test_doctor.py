"""``tidegate doctor`` finds what would keep a rollout from working, against a real broker and a real orchestrator."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import publish
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.adapters import clock
from orchestrator.adapters.broker_url import BrokerUrl
from schemas.topics import Kind, TopicTree
from tests.end_to_end.stage import Stage, environment_of, make_stage

EXAMPLE = Path(__file__).parents[2] / "examples" / "policies" / "careful.yaml"
Findings = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        made = make_stage(stack, tmp_path_factory.mktemp("doctor"), ["d-1"], request.param)
        shutil.copyfile(EXAMPLE, made.folder / "policies" / "careful.yaml")
        made.start()
        yield made


@pytest.fixture
def copy(stage: Stage, tmp_path: Path) -> Path:
    """A folder as the orchestrator has it, to be damaged."""
    return Path(shutil.copytree(stage.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock")))


def examine(url: BrokerUrl, *options: str) -> tuple[int, Findings]:
    environment = {"TIDEGATE_BROKER": environment_of(url)["TIDEGATE_BROKER"]}
    result = CliRunner().invoke(app, ["doctor", "--json", "--timeout", "3", *options], env=environment)
    found = json.loads(result.stdout)["findings"]
    return result.exit_code, {each["check"]: each for each in found}


def retain(url: BrokerUrl, topic: str, payload: bytes) -> None:
    login = {"username": url.username or "", "password": url.password}
    publish.single(topic, payload, qos=1, retain=True, hostname=url.host, port=url.port, auth=login)  # type: ignore[arg-type] # a dict of these is what it takes


def states(found: Findings) -> dict[str, str]:
    return {name: each["state"] for name, each in found.items()}


def test_all_is_well_where_all_is_well(stage: Stage) -> None:
    code, found = examine(stage.operator(), "--folder", str(stage.folder))

    assert code == 0
    assert set(states(found).values()) == {"ok"}, found
    assert {"broker", "access list", "versions", "answer", "clock", "keys", "journal", "releases"} <= set(found)


def test_user_who_may_order_devices_is_named_with_what_to_do(stage: Stage) -> None:
    code, found = examine(stage.broker.url_for("orchestrator"))

    assert found["access list"]["state"] == "warning"
    assert "orchestrator may publish desired, grant for any device" in found["access list"]["text"]
    assert "tidegate broker-config" in found["access list"]["remedy"]
    assert code == 0


def test_broker_that_is_not_there_is_the_first_and_only_thing_to_mend(stage: Stage) -> None:
    code, found = examine(BrokerUrl("127.0.0.1", 1, username="alice"))

    assert code == 1
    assert found["broker"]["state"] == "failed"
    assert "is the broker running" in found["broker"]["remedy"]
    assert set(found) == {"broker", "machine"}


def test_wrong_password_is_told_from_a_broker_that_is_away(stage: Stage) -> None:
    url = stage.operator()

    code, found = examine(BrokerUrl(url.host, url.port, username="alice", password="wrong"))

    assert code == 1
    assert "password" in found["broker"]["text"] + found["broker"]["remedy"]


def test_clock_that_is_ahead_is_a_warning(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = clock.now
    monkeypatch.setattr("orchestrator.adapters.clock.now", lambda: real() - 60)

    code, found = examine(stage.operator())

    assert code == 0
    assert found["clock"]["state"] == "warning"
    assert "60 s ahead of" in found["clock"]["text"]


def damage_release(folder: Path) -> None:
    next((folder / "releases" / "artifacts").iterdir()).write_bytes(b"other bytes")


def damage_journal(folder: Path) -> None:
    (folder / "journal.db").write_bytes(b"no database at all")
    (folder / "journal.db-wal").unlink(missing_ok=True)


def damage_policy(folder: Path) -> None:
    (folder / "policies" / "careful.yaml").write_text("rollout: [")


def damage_sites(folder: Path) -> None:
    (folder / "sites.yaml").write_text("sites:\n  plant-7:\n    cach: http://cache\n")


def open_the_key(folder: Path) -> None:
    (folder / "keys" / "command.key").chmod(0o644)


def lose_the_key(folder: Path) -> None:
    (folder / "keys" / "command.key").unlink()


@pytest.mark.parametrize(
    ("damage", "check", "expected"),
    [
        (damage_release, "releases", ("failed", "tidegate release publish")),
        (damage_journal, "journal", ("failed", "restore")),
        (damage_policy, "policies", ("warning", "tidegate lint")),
        (damage_sites, "sites", ("failed", "docs/site-cache.md")),
        (open_the_key, "keys", ("failed", "chmod 600")),
        (lose_the_key, "keys", ("failed", "tidegate init")),
    ],
)
def test_damage_in_the_folder_is_named_with_its_remedy(
    stage: Stage, copy: Path, damage: Callable[[Path], None], check: str, expected: tuple[str, str]
) -> None:
    state, remedy = expected
    damage(copy)

    code, found = examine(stage.operator(), "--folder", str(copy))

    assert found[check]["state"] == state, found[check]
    assert remedy in found[check]["remedy"]
    assert code == (1 if state == "failed" else 0)


def test_person_sees_marks_and_remedies(stage: Stage, copy: Path) -> None:
    damage_policy(copy)
    environment = {"TIDEGATE_BROKER": environment_of(stage.operator())["TIDEGATE_BROKER"]}

    result = CliRunner().invoke(app, ["doctor", "--folder", str(copy)], env=environment)

    assert "✔  broker" in result.stdout
    assert "!  policies" in result.stdout
    assert "→ tidegate lint" in result.stdout
    assert result.stdout.rstrip().endswith("It works, and something wants your attention.")


def test_piece_server_that_is_gone_is_found_and_one_that_never_was_is_not_missed(stage: Stage) -> None:
    topic = TopicTree().build(Kind.PIECES_AVAILABILITY)
    server, found = stage.broker.url_for("pieces"), {}
    for said in (b"", b"online", b"offline", b""):
        retain(server, topic, said)
        found[said] = examine(stage.operator())[1].get("pieces")

    assert found[b""] is None
    assert (found[b"online"] or {})["state"] == "ok"
    gone = found[b"offline"] or {}
    assert (gone["state"], gone["text"].startswith("nobody gives pieces")) == ("warning", True)
    assert "tidegate pieces --folder" in gone["remedy"]


def test_orchestrator_that_is_away_is_found(stage: Stage) -> None:
    stage.stop()
    try:
        code, found = examine(stage.operator())
    finally:
        stage.start()

    assert code == 1
    assert found["answer"]["state"] == "failed"
    assert "start it" in found["answer"]["remedy"]

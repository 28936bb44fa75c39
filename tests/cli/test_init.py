"""``tidegate init``: a folder to start a fleet from, never overwritten, finished when it was interrupted."""

import json
import re
import shlex
import shutil
import stat
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from device_client.settings import load_settings
from orchestrator.__main__ import app
from orchestrator.adapters.inventories import read_inventory
from orchestrator.adapters.keys import load_public
from orchestrator.adapters.roots import RootFolder
from orchestrator.examples import find_examples

PARTS = ["signing/", "keys/", "policies/", "releases/", "application/", "inventory.csv", "access/"]


def typed(command: str) -> Result:
    return CliRunner().invoke(app, shlex.split(command)[1:])


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", str(folder), *arguments])


def made(folder: Path, *arguments: str) -> Path:
    result = run(folder, "--operator", "alice", *arguments)
    assert result.exit_code == 0, result.output
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_release_key_is_apart_from_what_the_orchestrator_needs(tmp_path: Path) -> None:
    folder = made(tmp_path / "fleet")

    assert sorted(path.name for path in (folder / "keys").iterdir()) == ["command.key", "command.pub", "release.pub"]
    assert load_public(folder / "keys" / "release.pub") == load_public(folder / "signing" / "release.pub")
    secrets = [*folder.rglob("*.key"), *folder.rglob("agent.toml"), folder / "access" / "credentials.json"]
    assert len(secrets) >= 10
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_an_agent_can_be_started_with_the_settings_of_its_folder(tmp_path: Path) -> None:
    folder = made(tmp_path / "fleet", "--device", "pi-1", "--device", "pi-2", "--host", "broker.example")

    for device in ("pi-1", "pi-2"):
        client = folder / "access" / "clients" / device
        settings = load_settings(client / "agent.toml")
        assert (settings.device, settings.broker, settings.port) == (device, "mqtts://broker.example:8883", 8080)
        assert settings.release_keys == (load_public(folder / "keys" / "release.pub"),)
        assert settings.ca_file == str(client / "ca.crt")


def test_devices_on_one_machine_have_ports_of_their_own(tmp_path: Path) -> None:
    folder = made(tmp_path / "fleet")

    settings = [load_settings(path) for path in folder.glob("access/clients/*/agent.toml")]
    assert len({port for each in settings for port in (each.port, each.standby_port)}) == 4


@pytest.mark.parametrize("policy", ["first", "careful"])
def test_policies_have_no_finding_of_lint_that_matters(tmp_path: Path, policy: str) -> None:
    folder = made(tmp_path / "fleet")

    result = typed(f"tidegate lint {folder}/policies/{policy}.yaml --strict --json")

    assert result.exit_code == 0
    findings = json.loads(result.stdout)["findings"]
    open_ones = [each for each in findings if not each.get("silenced")]
    assert policy == "careful" or open_ones == []


def test_the_first_policy_explains_itself() -> None:
    text = (find_examples() / "policies" / "first.yaml").read_text()

    assert len(re.findall(r"#", text)) >= 20
    assert "lint" in YAML(typ="safe").load(text)


def test_said_twice_changes_nothing_and_says_so(tmp_path: Path) -> None:
    folder = made(tmp_path / "fleet")
    before = files(folder)

    result = run(folder)

    assert (result.exit_code, files(folder)) == (0, before)
    assert "nothing was changed" in result.output


@pytest.mark.parametrize("written", range(len(PARTS)))
def test_an_interrupted_one_is_finished_by_the_same_again(
    tmp_path: Path, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is interrupted while a part is moved to its place, and another time while it is written."""
    folder = tmp_path / "fleet"
    real, count = Path.rename, 0

    def interrupted(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count > written:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", interrupted)
        run(folder, "--operator", "alice", "--host", "broker.example")
    there = files(folder)

    answer = run(folder, "--operator", "alice", "--host", "broker.example", "--json")

    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["kept"] == [part for part in PARTS[:written] if part != "signing/" or written < 2]
    assert told["made"][: len(PARTS) - written] == PARTS[written:]
    kept = {name: content for name, content in there.items() if not name.startswith(".")}
    assert kept.items() <= files(folder).items(), "nothing that was finished is written again"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert len(list(folder.glob("access/clients/*/agent.toml"))) == 2


def test_new_rows_of_the_inventory_are_let_in_by_the_same_again(tmp_path: Path) -> None:
    folder = made(tmp_path / "fleet")
    before = files(folder)
    with (folder / "inventory.csv").open("a") as file:
        file.write("cam-9,jetson,north,line-1\n")

    result = run(folder)

    assert result.exit_code == 0, result.output
    assert "made: access/clients/cam-9/agent.toml" in result.output
    agent = tomllib.loads((folder / "access" / "clients" / "cam-9" / "agent.toml").read_text())
    assert (agent["device_type"], agent["region"], agent["group"]) == ("jetson", "north", "line-1")
    after = files(folder)
    assert {name for name in before if after[name] != before[name]} <= {
        "inventory.csv",
        "access/users.json",
        "access/written.json",
        "access/broker/passwords",
    }


def test_an_inventory_that_is_there_is_taken(tmp_path: Path) -> None:
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / "inventory.yaml").write_text("devices: {gate-1: {region: eu}}")

    folder = made(tmp_path / "fleet")

    assert not (folder / "inventory.csv").exists()
    assert list(read_inventory(folder / "inventory.yaml")) == ["gate-1"]
    assert load_settings(folder / "access" / "clients" / "gate-1" / "agent.toml").region == "eu"


def test_a_device_that_comes_after_a_trust_root_follows_it(tmp_path: Path) -> None:
    folder = made(tmp_path / "fleet")
    keys = folder / "keys"
    for command in (
        f"tidegate keys new {tmp_path}/root.key",
        (
            f"tidegate keys root init --root {tmp_path}/root.pub --release {keys}/release.pub "
            f"--command {keys}/command.pub -o {tmp_path}/1.root.json"
        ),
        f"tidegate keys root sign {tmp_path}/1.root.json --key {tmp_path}/root.key",
        f"tidegate keys root install {tmp_path}/1.root.json --folder {folder}",
    ):
        assert (result := typed(command)).exit_code == 0, result.output
    with (folder / "inventory.csv").open("a") as file:
        file.write("cam-9,,,\n")

    assert run(folder).exit_code == 0

    client = folder / "access" / "clients" / "cam-9"
    assert load_settings(client / "agent.toml").trust_root == str(client / "root.json")
    assert (client / "root.json").read_bytes() == RootFolder(keys / "roots").chain()[1][-1]


@pytest.mark.parametrize(
    ("there", "arguments", "why"),
    [
        ("inventory.csv", ("--device", "pi-9"), "is there, and nothing is overwritten; write pi-9 into it"),
        ("access", ("--operator", "bob"), "--add-operator"),
        ("access", ("--host", "other.example"), "--renew-server --host"),
    ],
)
def test_what_would_overwrite_is_refused_with_what_to_do(
    tmp_path: Path, there: str, arguments: tuple[str, ...], why: str
) -> None:
    folder = made(tmp_path / "fleet")
    before = files(folder)
    assert (folder / there).exists()

    refused = run(folder, *arguments)

    assert (refused.exit_code, files(folder)) == (1, before)
    assert why in refused.output


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda folder: (folder / "keys" / "release.pub").unlink(), "release.pub"),
        (lambda folder: (folder / "inventory.csv").write_text("device,colour\n"), "no field 'colour'"),
        (lambda folder: shutil.rmtree(folder / "access" / "authority"), "put it back"),
    ],
    ids=["key", "inventory", "authority"],
)
def test_what_was_taken_away_is_named(tmp_path: Path, damage: object, why: str) -> None:
    folder = made(tmp_path / "fleet")
    with (folder / "inventory.csv").open("a") as file:
        file.write("cam-9,,,\n")
    assert callable(damage)
    damage(folder)

    refused = run(folder)

    assert refused.exit_code == 1
    assert why in refused.output


def test_three_commands_are_named_that_can_be_typed_as_they_stand(tmp_path: Path) -> None:
    folder = tmp_path / "my fleet"
    broker, orchestrator, build = json.loads(run(folder, "--json").stdout)["next"]

    assert shlex.split(broker)[-1] == str(folder / "access" / "broker" / "mosquitto.conf")
    assert Path(shlex.split(broker)[-1]).is_file()
    words = shlex.split(orchestrator)
    assert Path(words[words.index("--client") + 1], "client.key").is_file()
    result = typed(build)
    assert result.exit_code == 0, result.output
    assert f"next: tidegate start '{folder}/policies/first.yaml' --release example-1.0.0" in result.output


def test_an_orchestrator_that_others_reach_is_told_under_which_address(tmp_path: Path) -> None:
    _, orchestrator, _ = json.loads(run(tmp_path / "fleet", "--host", "broker.example", "--json").stdout)["next"]

    assert "--registry-host 0.0.0.0 --registry-url http://broker.example:18080" in orchestrator


def test_release_key_may_lie_anywhere_when_a_release_is_built(tmp_path: Path) -> None:
    folder = made(tmp_path / "fleet")
    away = Path(shutil.move(folder / "signing" / "release.key", tmp_path / "safe.key"))
    build = f"tidegate release build {folder}/application --release a --version 1.0.0 --counter 1 --folder {folder}"

    refused = typed(f"{build} -- app/serve.py")
    assert (refused.exit_code, "signing/release.key" in refused.output) == (1, True)

    result = typed(f"{build} --key {away} -- app/serve.py")
    assert result.exit_code == 0, result.output


def test_a_users_folder_says_where_the_broker_is_and_who_one_is(tmp_path: Path) -> None:
    refused = typed(f"tidegate --client {tmp_path}/nobody list")
    assert refused.exit_code == 1
    assert "name a user's folder like fleet/access/clients/NAME" in refused.output

    folder = made(tmp_path / "fleet", "--tools-port", "1")
    result = typed(f"tidegate --client {folder}/access/clients/alice list")
    assert result.exit_code == 5
    assert "mqtts://" in result.output
    assert "localhost:1" in result.output

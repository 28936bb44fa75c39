import configparser
import getpass
import json
import pwd
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from device_client.adapters.service import BEAT_SECONDS
from device_client.guardian.seen import Patience
from device_client.settings import load_settings
from device_client.units import hidden_paths
from tests.device.device_world import AgentProcess

AGENT, GUARDIAN = "tidegate-agent.service", "tidegate-guardian.service"
HIDDEN = "/var/tmp/device"
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "Restart": "always",
    "KillMode": "process",
}


def install(config: Path, destination: Path, user: str | None = None) -> "subprocess.CompletedProcess[str]":
    command = [
        sys.executable, "-m", "device_client", "install-service", "--config", str(config),
        "--destination", str(destination), "--user", user or getpass.getuser(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read(path: Path) -> configparser.ConfigParser:
    """Read a unit, which is an INI file with names in upper and lower case and no interpolation."""
    unit = configparser.ConfigParser(interpolation=None, strict=True, comment_prefixes=("#",), delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign] # as configparser's documentation does
    unit.read_string(path.read_text())
    return unit


@pytest.fixture
def agent(tmp_path: Path) -> AgentProcess:
    folder = tmp_path / "50% of $HOME"
    folder.mkdir()
    return AgentProcess(folder, "mqtt://127.0.0.1:1")


def test_units_are_written_with_this_devices_paths_and_the_next_commands_are_said(
    agent: AgentProcess, tmp_path: Path
) -> None:
    done = install(agent.config, tmp_path)

    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "systemd hides" not in line] == [
        f"wrote {tmp_path / AGENT}",
        f"wrote {tmp_path / GUARDIAN}",
        "Now type, as root:",
        "  systemctl daemon-reload",
        f"  systemctl enable --now {GUARDIAN} {AGENT}",
    ]
    assert agent.root.is_dir(), "systemd would not start what may write to a missing folder"
    for name, program in ((AGENT, "device_client run"), (GUARDIAN, "device_client.guardian")):
        service = read(tmp_path / name)["Service"]
        config = str(agent.config).replace("%", "%%").replace("$", "$$")
        assert service["ExecStart"] == f'{sys.executable} -P -m {program} --config "{config}"'
        assert service["ReadWritePaths"] == f'"{agent.root}"'.replace("%", "%%")
        assert service["User"] == getpass.getuser()


def test_unit_of_the_application_is_confined_and_the_agent_may_start_it(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "mqtt://127.0.0.1:1", runtime={"kind": "systemd"})

    done = install(agent.config, tmp_path)

    assert done.returncode == 0, done.stderr
    unit = read(tmp_path / "tidegate-app@.service")
    service = unit["Service"]
    ports = f"--port {agent.port} --standby-port {agent.standby_port}"
    program = f"{sys.executable} -P -m device_client.application --root {agent.root} {ports}"
    assert service["ExecStart"] == f"{program} %i"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    given = {"DynamicUser": "yes", "KillMode": "control-group", "Restart": "no", "CapabilityBoundingSet": ""}
    assert {key: service[key] for key in given} == given
    assert all(service[key] for key in ("MemoryMax", "TasksMax", "CPUWeight", "LimitFSIZE"))
    assert int(service["OOMScoreAdjust"]) > 0, "it goes before the agent does"
    rules = (tmp_path / "50-tidegate.rules").read_text()
    assert f'subject.user == "{getpass.getuser()}"' in rules
    assert '.indexOf("tidegate-app@") == 0' in rules


@pytest.mark.parametrize("name", [AGENT, GUARDIAN])
def test_units_are_hardened_and_started_again_for_ever(agent: AgentProcess, tmp_path: Path, name: str) -> None:
    install(agent.config, tmp_path)
    unit = read(tmp_path / name)

    assert {key: unit["Service"][key] for key in HARDENED} == HARDENED
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert int(unit["Service"]["OOMScoreAdjust"]) <= -900
    assert unit["Service"]["MemoryMin"]
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    assert "@" not in (tmp_path / name).read_text()


@pytest.mark.parametrize("name", [AGENT, GUARDIAN])
@pytest.mark.parametrize("user", ["root", "nobody"])
def test_units_let_podman_write_its_stores_and_control_groups(tmp_path: Path, user: str, name: str) -> None:
    agent = AgentProcess(tmp_path, "mqtt://127.0.0.1:1", runtime={"kind": "podman"})
    owner = pwd.getpwnam(user)
    stores, run = ("/var/lib/containers /var/lib/cni", "/run")
    if user != "root":
        stores, run = (f"{owner.pw_dir}/.local/share/containers", f"/run/user/{owner.pw_uid}")

    done = install(agent.config, tmp_path, user)

    assert done.returncode == 0, done.stderr
    unit = read(tmp_path / name)
    service = unit["Service"]
    assert service["ReadWritePaths"] == f"{agent.root} {stores} {run}"
    given = {"ProtectControlGroups": "no", "Delegate": "yes", "ProtectKernelTunables": "no", "RestrictSUIDSGID": "no"}
    assert {key: service[key] for key in given} == given
    assert {key: service[key] for key in ("ProtectSystem", "ProtectHome", "PrivateTmp", "KillMode")} == {
        "ProtectSystem": "strict", "ProtectHome": "read-only", "PrivateTmp": "yes", "KillMode": "process",
    }  # fmt: skip
    # Of somebody else a program with the setuid bit is needed.
    gains = ("NoNewPrivileges", "LockPersonality", "ProtectKernelModules")
    assert {service[key] for key in gains} == {"yes" if user == "root" else "no"}
    assert service.get("Environment") == (None if user == "root" else f"XDG_RUNTIME_DIR={run}")
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    assert "@" not in (tmp_path / name).read_text()


def test_folders_that_podman_needs_are_among_the_next_commands(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "mqtt://127.0.0.1:1", runtime={"kind": "podman"})

    as_root = install(agent.config, tmp_path, "root").stdout.splitlines()
    as_nobody = install(agent.config, tmp_path, "nobody").stdout.splitlines()

    home = pwd.getpwnam("nobody").pw_dir
    assert as_root.index("  mkdir -p /var/lib/containers /var/lib/cni") < as_root.index("  systemctl daemon-reload")
    assert f"  install -d -o nobody {home}/.local/share/containers" in as_nobody
    assert "  loginctl enable-linger nobody" in as_nobody


@pytest.mark.parametrize("kind", ["process", "systemd", "docker"])
def test_units_without_podman_leave_control_groups_alone(tmp_path: Path, kind: str) -> None:
    agent = AgentProcess(tmp_path, "mqtt://127.0.0.1:1", runtime={"kind": kind})

    done = install(agent.config, tmp_path)

    service = read(tmp_path / AGENT)["Service"]
    assert (service["ProtectControlGroups"], service.get("Delegate")) == ("yes", None)
    assert service["ReadWritePaths"] == str(agent.root)
    assert "containers" not in done.stdout


def test_watchdog_hears_the_agent_in_time_and_before_the_guardian_ends_it(agent: AgentProcess, tmp_path: Path) -> None:
    install(agent.config, tmp_path)
    service = read(tmp_path / AGENT)["Service"]

    assert service["Type"] == "notify"
    assert 3 * BEAT_SECONDS <= int(service["WatchdogSec"]) < Patience().silence_seconds
    assert service["TimeoutStartSec"] == f"{Patience().start_seconds / 60:.0f}min"


def test_command_of_a_unit_is_one_that_runs(agent: AgentProcess, tmp_path: Path) -> None:
    install(agent.config, tmp_path)
    start = read(tmp_path / AGENT)["Service"]["ExecStart"].replace("%%", "%").replace("$$", "$")
    words = ["status" if word == "run" else word for word in shlex.split(start)]

    shown = subprocess.run(words, capture_output=True, text=True, check=True)

    assert json.loads(shown.stdout)["device"] == "pi-1"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("port", '"x"', "key 'port'"),
        ("broker", '"http://x"', "key 'broker'"),
        ("rooot", '"r"', "key 'rooot'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(
    agent: AgentProcess, tmp_path: Path, key: str, value: str, says: str
) -> None:
    lines = [line for line in agent.config.read_text().splitlines() if not line.startswith(f"{key} =")]
    agent.config.write_text("\n".join([*lines, f"{key} = {value}"]))

    refused = install(agent.config, tmp_path)

    assert refused.returncode == 2
    assert f"{agent.config}: " in refused.stderr
    assert says in refused.stderr
    assert list(tmp_path.glob("*.service")) == []


def test_unknown_user_and_missing_folder_are_refused_with_a_remedy(agent: AgentProcess, tmp_path: Path) -> None:
    unknown = install(agent.config, tmp_path, user="nobody-knows")
    missing = install(agent.config, tmp_path / "missing")

    assert (unknown.returncode, missing.returncode) == (2, 2)
    assert "useradd --system nobody-knows" in unknown.stderr
    assert "make it, or name another with --destination" in missing.stderr
    assert list(tmp_path.glob("*.service")) == []


def test_paths_that_systemd_hides_from_services_are_named(agent: AgentProcess) -> None:
    settings = load_settings(agent.config).model_copy(update={"root": HIDDEN})

    hidden = hidden_paths(settings, Path("/etc/tidegate/agent.toml"))

    assert Path(HIDDEN) in hidden
    assert Path("/etc/tidegate/agent.toml") not in hidden

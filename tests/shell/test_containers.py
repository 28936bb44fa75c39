"""docker-compose.yml and the Dockerfile name only what is there; no engine is needed to know that."""

import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from device_client.settings import Settings
from orchestrator.__main__ import app
from orchestrator.adapters.keys import load_public
from orchestrator.adapters.watching import DEFAULT_PORT

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def load_compose() -> dict[str, Any]:
    tree: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    return tree


COMPOSE = load_compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
USERS = {"eclipse-mosquitto": "1883:1883", "prom/prometheus": "65534:65534", "grafana/grafana": "472:0"}
"""The users that these images are made for; what they write belongs to them."""


def mounts(service: str) -> list[list[str]]:
    return [volume.split(":") for volume in SERVICES[service].get("volumes", [])]


def has_compose_plugin() -> bool:
    docker = shutil.which("docker")
    return (
        docker is not None
        and subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode == 0
    )


def test_compose_file_is_accepted_by_docker_where_there_is_one() -> None:
    if has_compose_plugin():
        for profile in ([], ["--profile", "tools"], ["--profile", "metrics"]):
            subprocess.run(["docker", "compose", *profile, "config", "--quiet"], check=True, cwd=ROOT)
    assert set(COMPOSE) == {"name", "services", "volumes"} | {key for key in COMPOSE if key.startswith("x-")}


@pytest.mark.parametrize("service", SERVICES)
def test_every_mount_is_a_declared_volume_or_a_file_of_the_repository(service: str) -> None:
    for source, target, *_ in mounts(service):
        assert source in COMPOSE["volumes"] or (ROOT / source).is_file() or source == "./grafana/provisioning", source
        assert target.startswith("/")


@pytest.mark.parametrize("service", SERVICES)
def test_every_image_is_built_here_or_is_one_of_those_that_are_known(service: str) -> None:
    build = SERVICES[service].get("build")
    if build is None:
        name, _, version = SERVICES[service]["image"].partition(":")
        assert name in USERS
        assert version not in ("", "latest")
    else:
        assert f" AS {build['target']}\n" in DOCKERFILE
        assert (ROOT / build["context"] / "Dockerfile").is_file()


@pytest.mark.parametrize("service", SERVICES)
def test_no_container_runs_as_root_or_may_change_its_image(service: str) -> None:
    entry = SERVICES[service]
    assert entry["read_only"] is True
    assert entry["cap_drop"] == ["ALL"]
    assert entry["security_opt"] == ["no-new-privileges:true"]
    if "build" in entry:
        stage = DOCKERFILE.partition(f" AS {entry['build']['target']}\n")[2].partition("\nFROM ")[0]
        assert "\nUSER tidegate\n" in stage
    else:
        assert entry["user"] == USERS[entry["image"].partition(":")[0]]


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_waits_for_what_it_needs(service: str) -> None:
    for needed, how in SERVICES[service].get("depends_on", {}).items():
        assert how["condition"] in ("service_completed_successfully", "service_healthy")
        if how["condition"] == "service_healthy":
            assert "test" in SERVICES[needed].get("healthcheck", {})


def test_long_running_services_are_started_again_and_watched() -> None:
    for service, entry in SERVICES.items():
        is_short = service in ("setup", "operator")
        assert entry.get("restart", "no") == ("no" if is_short else "unless-stopped"), service
    assert "HEALTHCHECK" in DOCKERFILE.partition(" AS orchestrator\n")[2].partition("\nFROM ")[0]


def test_orchestrator_is_started_with_options_it_has() -> None:
    name, *options = SERVICES["orchestrator"]["command"]
    command: Any = typer.main.get_command(app)
    known = {option for parameter in command.commands[name].params for option in parameter.opts}

    assert {option.partition("=")[0] for option in options} <= known
    for service in ("orchestrator", "operator"):
        (variable,) = SERVICES[service]["environment"]
        assert variable in {parameter.envvar for parameter in command.params}
        assert [service, SERVICES[service]["environment"][variable], "ro"] in mounts(service)


def test_orchestrator_is_watched_where_it_answers() -> None:
    stage = DOCKERFILE.partition(" AS orchestrator\n")[2].partition("\nFROM ")[0]

    assert f"http://127.0.0.1:{DEFAULT_PORT}/healthz" in stage
    assert not any(
        option.startswith(("--no-metrics", "--metrics-port")) for option in SERVICES["orchestrator"]["command"]
    )


def test_prometheus_scrapes_the_orchestrator_and_reads_the_rules_that_are_mounted() -> None:
    config = YAML(typ="safe").load(ROOT / "grafana" / "prometheus.yml")
    targets = {target for _, target, *_ in mounts("prometheus")}
    (job,) = config["scrape_configs"]

    assert job["static_configs"] == [{"targets": [f"orchestrator:{DEFAULT_PORT}"]}]
    assert f'up{{job="{job["job_name"]}"}}' in (ROOT / "grafana" / "alerts.yml").read_text()
    assert set(config["rule_files"]) <= targets
    assert SERVICES["prometheus"]["command"][0].partition("=")[2] in targets
    assert "--metrics-host=0.0.0.0" in SERVICES["orchestrator"]["command"]


def test_grafana_is_given_its_data_source_and_the_dashboard() -> None:
    load = YAML(typ="safe").load
    folder = ROOT / "grafana" / "provisioning"
    (source,) = load(folder / "datasources" / "prometheus.yml")["datasources"]
    (provider,) = load(folder / "dashboards" / "tidegate.yml")["providers"]
    targets = {target: source for source, target, *_ in mounts("grafana")}

    assert source["url"] == "http://prometheus:9090"
    assert source["type"] == "prometheus"
    dashboard = f"{provider['options']['path']}/tidegate.json"
    assert (ROOT / targets[dashboard]).is_file()
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard
    assert all(isinstance(value, str) for value in SERVICES["grafana"]["environment"].values())


def test_metrics_are_an_offer() -> None:
    assert [name for name, entry in SERVICES.items() if entry.get("profiles") == ["metrics"]] == [
        "prometheus",
        "grafana",
    ]


def test_agents_are_started_with_options_they_have() -> None:
    command, *options = SERVICES["edge-01"]["command"]

    told = subprocess.run(
        [sys.executable, "-m", "device_client", command, "--help"], check=True, capture_output=True, text=True
    ).stdout

    assert all(option in told for option in options if option.startswith("--"))


def test_only_this_machine_is_served() -> None:
    ports = [port for entry in SERVICES.values() for port in entry.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_each_of_twenty_agents_sees_its_own_secrets_only() -> None:
    agents = [service for service in SERVICES if service.startswith("edge-")]
    assert len(agents) == 20
    for agent in agents:
        assert mounts(agent) == [[agent, "/etc/tidegate", "ro"], [f"{agent}-slots", "/var/lib/tidegate-agent"]]
        assert [agent, f"/agents/{agent}"] in mounts("setup")
    assert "$(seq -f /agents/edge-%02g 20)" in DOCKERFILE, "the volumes get their owner from there"


def test_nobody_but_setup_sees_the_authority_and_the_orchestrator_has_no_release_key() -> None:
    seen = {service: {source for source, *_ in mounts(service)} for service in SERVICES}

    assert [service for service in SERVICES if "fleet" in seen[service]] == ["setup"]
    assert [service for service in SERVICES if "signing" in seen[service]] == ["setup", "operator"]
    assert not seen["mosquitto"] & {"state", "signing", "orchestrator", "operator"}


def test_images_are_built_from_files_that_are_there_and_sent() -> None:
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)

    assert all((ROOT / path).exists() for path in sent)
    assert {"pyproject.toml", "requirements.lock", "README.md", "broker-config", "examples"} <= set(sent)
    for package in ("schemas", "orchestrator", "device_client", "embedded_broker", "simulator"):
        assert package in sent


def set_up(root: Path, agents: int = 2) -> None:
    for _, target, *_ in mounts("setup"):
        if not target.endswith(".py") and int(target.partition("edge-")[2] or 0) <= agents:
            (root / target[1:]).mkdir(parents=True, mode=0o700, exist_ok=True)
    command = [sys.executable, str(ROOT / "broker-config" / "compose_setup.py"), "--root", str(root)]
    subprocess.run(command, check=True, capture_output=True)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_setup_changes_nothing_the_second_time_but_lets_new_devices_in(tmp_path: Path) -> None:
    set_up(tmp_path)
    first = contents(tmp_path)
    set_up(tmp_path)
    assert contents(tmp_path) == first

    set_up(tmp_path, agents=3)

    third = contents(tmp_path)
    changed = {name for name in first if third[name] != first[name]}
    assert {name for name in third if name.startswith("agents/edge-03/")}
    assert not [name for name in changed if name.endswith((".key", ".crt", ".toml", ".pub", ".yaml", ".conf"))]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("volumes")
    set_up(root)
    return root


def test_setup_gives_each_container_what_it_needs_and_no_more(volumes: Path) -> None:
    def names(folder: str) -> list[str]:
        return sorted(str(each.relative_to(volumes / folder)) for each in (volumes / folder).rglob("*.*"))

    certificate = ["broker.url", "ca.crt", "client.crt", "client.key"]
    assert names("orchestrator") == names("operator") == certificate
    assert names("agents/edge-01") == ["agent.toml", *certificate]
    assert names("signing") == ["release.key", "release.pub"]
    assert names("state/keys") == ["command.key", "command.pub", "release.pub"]
    assert not [name for name in names("broker") if "ca.key" in name]
    secret = [path for path in volumes.rglob("*") if path.suffix in {".key", ".toml"} or path.name == "passwords"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in secret)
    for user in ("orchestrator", "operator"):
        assert (volumes / user / "broker.url").read_text() == "mqtts://mosquitto:8884"


def test_agents_settings_fit_their_containers(volumes: Path) -> None:
    agent = tomllib.loads((volumes / "agents" / "edge-01" / "agent.toml").read_text())

    Settings.model_validate(agent)
    assert agent["device"] == "edge-01"
    assert agent["broker"] == "mqtts://mosquitto:8883"
    assert agent["root"] in {target for _, target, *_ in mounts("edge-01")}
    assert agent["release_keys"] == [load_public(volumes / "state" / "keys" / "release.pub").hex()]


def test_mosquitto_finds_what_its_configuration_names(volumes: Path) -> None:
    targets = {target: volumes / source for source, target, *_ in mounts("mosquitto")}

    text = (volumes / "broker" / "mosquitto.conf").read_text()

    assert SERVICES["mosquitto"]["command"][-1] == "/mosquitto/config/mosquitto.conf"
    named = re.findall(r"^(?:\w*file|persistence_location) (.+)$", text, flags=re.MULTILINE)
    assert len(named) == 11
    for path in named:
        (mount,) = (target for target in targets if path.startswith(target))
        assert mount == "/mosquitto/data" or (targets[mount] / path.removeprefix(f"{mount}/")).is_file(), path
    assert re.findall(r"^listener (.+)$", text, flags=re.MULTILINE) == ["8883", "8884", "9001"]
    published = {port.split(":")[-1] for port in SERVICES["mosquitto"]["ports"]}
    assert published == {"8884", "9001"}

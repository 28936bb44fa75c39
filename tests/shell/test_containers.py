"""docker-compose.yml and the Dockerfile name only what is there; no engine is needed to know that."""

import json
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
from orchestrator.adapters.brokers import BrokerUrl
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
    assert "TIDEGATE_BROKER" in SERVICES["orchestrator"]["entrypoint"][2]
    assert {parameter.envvar for parameter in command.commands[name].params} >= {"TIDEGATE_BROKER"}


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
    command, *options = SERVICES["edge-1"]["command"]

    told = subprocess.run(
        [sys.executable, "-m", "device_client", command, "--help"], check=True, capture_output=True, text=True
    ).stdout

    assert all(option in told for option in options if option.startswith("--"))


def test_mosquitto_reads_the_configuration_that_is_mounted() -> None:
    path = SERVICES["mosquitto"]["command"][-1]
    targets = {target: source for source, target, *_ in mounts("mosquitto")}

    text = (ROOT / targets[path]).read_text()

    for setting in ("password_file", "acl_file", "persistence_location"):
        (used,) = re.findall(rf"^{setting} (.+)$", text, flags=re.MULTILINE)
        assert any(used.startswith(target) for target in targets), setting


def test_only_this_machine_is_served() -> None:
    ports = [port for entry in SERVICES.values() for port in entry.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_each_agent_sees_its_own_secrets_only() -> None:
    agents = [service for service in SERVICES if service.startswith("edge-")]
    for agent in agents:
        assert {source for source, *_ in mounts(agent)} == {agent, f"{agent}-slots"}
        assert [agent, f"/agents/{agent}"] in mounts("setup")
        assert f"/agents/{agent}" in DOCKERFILE, "the volume gets its owner from there"


def test_images_are_built_from_files_that_are_there_and_sent() -> None:
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)

    assert all((ROOT / path).exists() for path in sent)
    assert {"pyproject.toml", "requirements.lock", "README.md", "broker-config", "examples"} <= set(sent)
    for package in ("schemas", "orchestrator", "device_client", "embedded_broker", "simulator"):
        assert package in sent


def test_setup_gives_each_container_what_it_needs_and_changes_nothing_the_second_time(tmp_path: Path) -> None:
    for folder in ("var/lib/tidegate", "access", "agents/edge-1", "agents/edge-2"):
        (tmp_path / folder).mkdir(parents=True, mode=0o700)
    command = [sys.executable, str(ROOT / "broker-config" / "compose_setup.py"), "--root", str(tmp_path)]

    subprocess.run(command, check=True, capture_output=True)
    secrets = ["access/credentials.json", "access/orchestrator.url", "agents/edge-1/agent.toml"]
    first = [(tmp_path / path).read_text() for path in secrets]
    subprocess.run(command, check=True, capture_output=True)

    assert [(tmp_path / path).read_text() for path in secrets] == first
    passwords = json.loads(first[0])
    assert BrokerUrl.parse(first[1]) == BrokerUrl(
        "mosquitto", 1884, username="orchestrator", password=passwords["orchestrator"]
    )
    agent = tomllib.loads(first[2])
    Settings.model_validate(agent)
    assert BrokerUrl.parse(agent["broker"]) == BrokerUrl("mosquitto", 1883, username="edge-1")
    assert (tmp_path / "agents" / "edge-1" / "password").read_text() == passwords["edge-1"]
    agent_mounts = {target for _, target, *_ in mounts("edge-1")}
    assert {agent["root"], str(Path(agent["password_file"]).parent)} == agent_mounts
    assert agent["release_keys"] == [load_public(tmp_path / "var/lib/tidegate/keys/release.pub").hex()]
    assert all(stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o600 for path in secrets)
    assert sorted(path.name for path in (tmp_path / "agents" / "edge-1").iterdir()) == ["agent.toml", "password"]

"""A site with real agents, each in its namespace, and the centre with the orchestrator, its registry and a broker."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.adapters.access import create_access
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.brokers import Broker
from orchestrator.adapters.keys import load_private, load_public
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release
from tests.device.device_world import COMMAND, QUICK_APPLICATION, AgentProcess, make_tree
from tests.end_to_end.site_fleet import SITE, WELL
from tests.end_to_end.stage import Stage, furnish
from tests.site.network import BROKER, REGISTRY, Links, address, inside, site

VERSION: Final = "1.0.0"
RELEASE: Final = f"app-{VERSION}"
LYING_CANARY: Final = "lying-canary"
SOURCES: Final = {"peers": ["peers", "registry"], LYING_CANARY: ["peers", "registry"], "registry": ["registry"]}
"""What the policy says, by the name of the scenario."""
_PEER_PORT: Final = 8090
_START_SECONDS: Final = 60


def policy(scenario: str) -> dict[str, Any]:
    """Return a rollout to the canary and then to all others at once, with short soaks."""
    canaries = 1 if scenario == LYING_CANARY else 2
    return {
        "distribution": {"sources": SOURCES[scenario]},
        "rollout": {
            "canary": {"min_devices": canaries, "max_devices": canaries, "immediate_minutes": 0,
                       "short_term_minutes": 0.2, "soak_minutes": 0.1, "require_human_approval_after": False,
                       "phases": {"short_term": WELL, "soak": WELL}},
            "waves": [{"name": "wave-1", "percentage": 100, "soak_minutes": 0.1}],
            "global": {"deploy_timeout_minutes": 60, "health_check_interval_seconds": 5},
        },
        "rolling_update": {"max_unavailable": 50, "min_available": 50, "min_ready_seconds": 1},
        "health_gates": {"canary_gate": WELL, "wave_gate": WELL},
        "rollback_triggers": {"threshold": [{"name": "endpoint_down", "condition": "error_rate > 50%", "window": "1m",
                                             "scope": "single_device", "action": "rollback_device"}]},
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """What a site is made of.

    Attributes:
        devices: How many.
        artifact_bytes: Of the release.
        slow: So many of them have slow links.
        links: What the others carry.
        is_canary_the_liar: Whether the only one that has it before the wave gives something else; one of two otherwise.
    """

    devices: int
    artifact_bytes: int
    slow: int
    links: Links
    is_canary_the_liar: bool = False

    @property
    def names(self) -> list[str]:
        """Return the devices, in the order in which they are taken: the canary first."""
        return [f"pi-{number:02d}" for number in range(1, self.devices + 1)]

    @property
    def liar(self) -> str:
        """Return who gives others something else."""
        return self.names[0 if self.is_canary_the_liar else 1]

    @property
    def slow_names(self) -> list[str]:
        """Return who has a slow link, among them one that goes first in the wave."""
        return self.names[2 : 2 + self.slow]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that runs."""

    shape: Shape
    stage: Stage
    built: BuiltRelease
    agents: dict[str, AgentProcess]


@contextmanager
def scene(shape: Shape, folder: Path) -> Iterator[Scene]:
    """Build the site and start everything in it."""
    with ExitStack() as stack:
        stack.enter_context(site(shape.names, shape.slow_names, shape.links))
        broker = stack.enter_context(_broker(folder, shape.names))
        stage = furnish(stack, folder, broker)
        built = _published(stage, shape.artifact_bytes)
        stage.start("--registry-host", REGISTRY)
        yield Scene(shape, stage, built, stack.enter_context(_agents(stage, shape)))


@contextmanager
def _broker(folder: Path, devices: Sequence[str]) -> Iterator[Broker]:
    """Run the embedded broker where the site reaches it."""
    access = create_access(folder, operators=("alice",), devices=devices)
    command = [
        *(sys.executable, "-m", "embedded_broker", "--host", BROKER, "--port", "0", "--exit-with-parent"),
        *("--database", str(folder / "broker.db"), "--acl", str(access.acl_file)),
        *("--passwords", str(access.password_file), "--queued-max", "100000"),
    ]
    with (
        (folder / "broker.log").open("ab") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            assert process.stdout is not None
            readable, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
            assert readable, "the broker does not start"
            port = json.loads(process.stdout.readline())["listening"]["mqtt"]
            password = access.passwords["orchestrator"]
            yield Broker(BrokerUrl(BROKER, port, username="orchestrator", password=password), port, access=access)
        finally:
            process.kill()


def _published(stage: Stage, size_bytes: int) -> BuiltRelease:
    """Publish a release that nothing makes smaller."""
    tree = make_tree(stage.folder, VERSION, application=QUICK_APPLICATION)
    (tree / "models" / "model.bin").write_bytes(os.urandom(size_bytes))
    key = load_private(stage.folder / "keys" / "release.key")
    built = build_release(tree, release=RELEASE, version=VERSION, release_counter=100, command=COMMAND, key=key)
    ReleaseStore(stage.folder / "releases").publish(built)
    return built


@contextmanager
def _agents(stage: Stage, shape: Shape) -> Iterator[dict[str, AgentProcess]]:
    """Run an agent in each namespace; one of them has its neighbours ask a liar in its place."""
    made: dict[str, AgentProcess] = {}
    with ExitStack() as stack:
        for number, name in enumerate(shape.names):
            (stage.folder / name).mkdir()
            host = "127.0.0.1" if name == shape.liar else address(number)
            peers = {"host": host, "port": _PEER_PORT, "url": f"http://{address(number)}:{_PEER_PORT}"}
            url = stage.broker.url_for(name)
            agent = AgentProcess(
                stage.folder / name, f"mqtt://{url.username}:{url.password}@{url.host}:{url.port}",
                device=name, group="lab", site=SITE, sample_interval_seconds=5.0, peers=peers,
                release_keys=[load_public(stage.folder / "keys" / "release.pub").hex()],
                command_keys=[load_public(stage.folder / "keys" / "command.pub").hex()],
            )  # fmt: skip
            agent.command = [*inside(name), *agent.command]
            agent.start()
            stack.callback(agent.close)
            made[name] = agent
            if name == shape.liar:
                stack.enter_context(_liar(agent.root, name, address(number)))
        yield made


@contextmanager
def _liar(root: Path, name: str, host: str) -> Iterator[None]:
    command = [*inside(name), sys.executable, "-m", "tests.site.liar", str(root), host, str(_PEER_PORT)]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()

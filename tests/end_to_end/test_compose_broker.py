"""The broker of docker-compose.yml: a mosquitto on what ``setup`` writes lets its devices in, each as itself alone."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.tls import TlsFiles
from schemas.topics import TOPIC_ROOT
from tests.device.device_world import free_port, until
from tests.end_to_end.certified import CertifiedBroker, is_let_in, serving
from tests.shell.waiting_client import NOT_AUTHORIZED, Client

pytestmark = pytest.mark.mosquitto

ROOT = Path(__file__).parents[2]
OWN, OTHER = (f"{TOPIC_ROOT}/device/edge-{number:02d}" for number in (7, 8))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What docker-compose.yml mounts, after ``setup``."""
    root = tmp_path_factory.mktemp("compose")
    compose = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    script, *mounts = (volume.split(":")[:2] for volume in compose["services"]["setup"]["volumes"])
    for _, target in mounts:
        (root / target[1:]).mkdir(parents=True, mode=0o700)
    subprocess.run([sys.executable, str(ROOT / script[0]), "--root", str(root)], check=True, capture_output=True)
    return root


@pytest.fixture(scope="module")
def broker(volumes: Path) -> Iterator[CertifiedBroker]:
    """That configuration, with the paths and ports of this machine."""
    ports = {"8883": free_port(), "8884": free_port(), "9001": free_port()}
    (volumes / "data").mkdir()
    conf = volumes / "broker" / "mosquitto.conf"
    text = re.sub(
        r"^listener (\d+)$", lambda found: f"listener {ports[found[1]]}", conf.read_text(), flags=re.MULTILINE
    )
    text = text.replace("/mosquitto/config/", f"{volumes}/broker/").replace("/mosquitto/data/", f"{volumes}/data/")
    conf.write_text(text)
    with serving(volumes / "fleet" / "access", conf, (ports["8883"], ports["8884"])) as made:
        yield made


def files(folder: Path) -> TlsFiles:
    return TlsFiles(folder / "ca.crt", folder / "client.crt", folder / "client.key")


@contextmanager
def connected(broker: CertifiedBroker, name: str, *, is_device: bool = False) -> Iterator[Client]:
    folder = broker.folder.parents[1] / ("agents" if is_device else "") / name
    with Client(broker.address(files(folder), is_device=is_device), client_id=f"test-{name}") as client:
        yield client


def test_a_device_speaks_and_hears_as_itself_and_as_nobody_else(broker: CertifiedBroker) -> None:
    with (
        connected(broker, "orchestrator") as orchestrator,
        connected(broker, "edge-07", is_device=True) as device,
    ):
        orchestrator.subscribe([f"{TOPIC_ROOT}/device/+/reported"])
        device.subscribe([f"{OWN}/desired", f"{OTHER}/desired"])

        assert device.publish(f"{OTHER}/reported") == NOT_AUTHORIZED
        assert device.publish(f"{OWN}/desired") == NOT_AUTHORIZED
        assert device.publish(f"{OWN}/reported") == 0
        assert orchestrator.hear(until=f"{OWN}/reported") == {f"{OWN}/reported"}

        assert orchestrator.publish(f"{OTHER}/desired") != NOT_AUTHORIZED
        assert orchestrator.publish(f"{OWN}/desired") != NOT_AUTHORIZED
        assert device.hear(until=f"{OWN}/desired") == {f"{OWN}/desired"}


def test_all_twenty_devices_are_let_in(broker: CertifiedBroker) -> None:
    agents = sorted(path.name for path in (broker.folder.parents[1] / "agents").iterdir())

    assert len(agents) == 20
    for name in agents:
        with connected(broker, name, is_device=True) as device:
            assert device.publish(f"{TOPIC_ROOT}/device/{name}/reported") != NOT_AUTHORIZED


async def see_refused(broker: CertifiedBroker, url: BrokerUrl) -> None:
    """See that the broker refuses a certificate; who gave up before it had looked tries again."""
    before = broker.log().count("OpenSSL Error")
    for _ in range(5):
        assert not await is_let_in(url)
        with suppress(AssertionError):
            until(lambda: broker.log().count("OpenSSL Error") > before, 5.0)
            return
    pytest.fail(f"the broker has refused nothing: {broker.log()[-2000:]}")


async def test_no_device_is_let_in_where_people_are_and_nobody_without_a_certificate(broker: CertifiedBroker) -> None:
    agent = files(broker.folder.parents[1] / "agents" / "edge-07")

    await see_refused(broker, broker.address(agent))
    await see_refused(broker, broker.address(TlsFiles(agent.ca_file), is_device=True))
    assert await is_let_in(broker.address(agent, is_device=True))

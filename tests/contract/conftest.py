"""The broker under test, three times."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.contract_brokers import ContractBroker, EmbeddedBroker, MosquittoBroker, SimulatedBroker


def _start(name: str, folder: Path) -> ContractBroker:
    match name:
        case "simulated":
            return SimulatedBroker()
        case "embedded":
            return EmbeddedBroker(folder)
        case _:
            return MosquittoBroker(folder)


@pytest.fixture(
    name="started_broker",
    scope="session",
    params=["simulated", "embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)],
)
def _started_broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ContractBroker]:
    """One broker for all tests of a run: each test keeps to topics and client ids of its own."""
    started = _start(request.param, tmp_path_factory.mktemp(request.param))
    yield started
    started.stop()


@pytest.fixture
def broker(started_broker: ContractBroker) -> Iterator[ContractBroker]:
    """The broker, and afterwards no connection of the test is left."""
    yield started_broker
    started_broker.drop_all()


@pytest.fixture
def mine(request: pytest.FixtureRequest) -> str:
    """A prefix for topics and client ids that no other test uses."""
    return re.sub(r"\W+", "-", str(request.node.name))

"""What every broker promises about wills."""

import pytest

from embedded_broker.packets import Properties, Publish, Version, Will
from tests.contract.contract_brokers import STAY, ContractBroker, connect

BOTH = pytest.mark.parametrize("version", list(Version), ids=["v311", "v5"])


@BOTH
def test_will_is_published_and_retained_when_the_connection_is_lost(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    observer = connect(broker, mine + "o", version)
    observer.subscribe(mine, 1)
    client = connect(broker, mine, version, will=Will(mine, b"offline", 1, retain=True))
    client.drop()
    assert observer.expect(Publish).payload == b"offline"
    late = connect(broker, mine + "l", version)
    late.subscribe(mine, 1)
    assert [(one.payload, one.retain) for one in late.messages()] == [(b"offline", True)]


@BOTH
def test_will_is_discarded_when_the_client_says_goodbye(broker: ContractBroker, mine: str, version: Version) -> None:
    observer = connect(broker, mine + "o", version)
    observer.subscribe(mine, 1)
    connect(broker, mine, version, will=Will(mine, b"offline")).disconnect()
    assert observer.payloads() == []


def test_will_is_published_when_the_client_leaves_and_asks_for_it(broker: ContractBroker, mine: str) -> None:
    observer = connect(broker, mine + "o")
    observer.subscribe(mine, 1)
    connect(broker, mine, will=Will(mine, b"offline")).disconnect(reason=0x04)
    assert observer.payloads() == [b"offline"]


def test_will_waits_for_its_delay(broker: ContractBroker, mine: str) -> None:
    observer = connect(broker, mine + "o")
    observer.subscribe(mine, 1)
    will = Will(mine, b"offline", properties=Properties(will_delay_seconds=1))
    connect(broker, mine, clean_start=False, properties=Properties(session_expiry_seconds=60), will=will).drop()
    assert observer.payloads() == []
    assert observer.expect(Publish).payload == b"offline"


def test_delayed_will_is_discarded_when_the_client_is_back_in_time(broker: ContractBroker, mine: str) -> None:
    observer = connect(broker, mine + "o")
    observer.subscribe(mine, 1)
    will = Will(mine, b"offline", properties=Properties(will_delay_seconds=1))
    connect(broker, mine, clean_start=False, properties=Properties(session_expiry_seconds=60), will=will).drop()
    connect(broker, mine, clean_start=False, properties=Properties(session_expiry_seconds=60))
    broker.wait(2.1)
    assert observer.payloads() == []


@BOTH
def test_will_of_a_connection_that_is_taken_over_is_published(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    observer = connect(broker, mine + "o", version)
    observer.subscribe(mine, 1)
    first = connect(broker, mine, version, clean_start=False, will=Will(mine, b"offline"), properties=STAY)
    connect(broker, mine, version, clean_start=False, properties=STAY)
    first.expect_closed()
    found = observer.payloads()
    if broker.name == "mosquitto":
        assert found == []
    else:
        assert found == [b"offline"]
    connect(broker, mine + "c", version, will=Will(mine, b"clean"))
    connect(broker, mine + "c", version)
    assert observer.payloads() == [b"clean"]

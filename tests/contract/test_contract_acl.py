"""What every broker promises about access: one ACL file, one password file, the same answers."""

import pytest

from embedded_broker.packets import Connect, Publish, Version, Will
from tests.contract.contract_brokers import PASSWORD, STAY, ContractBroker, connect
from tests.contract.contract_client import Client

BOTH = pytest.mark.parametrize("version", list(Version), ids=["v311", "v5"])


def _delivered(broker: ContractBroker, mine: str, user: str, topic: str, version: Version) -> tuple[int, bool]:
    """The reason a publish ends with, and whether an admin sees the message."""
    observer = connect(broker, mine + "o", version)
    observer.subscribe(topic)
    reason = connect(broker, mine, version, user=user).publish(topic, b"x")
    found = observer.payloads()
    return reason, bool(found)


@BOTH
@pytest.mark.parametrize(
    ("user", "topic", "is_allowed"),
    [
        ("guest", "acl/inbox", True),
        ("guest", "acl/inbox/deeper", False),
        ("guest", "acl/public/x", False),
        ("guest", "acl/both/x", True),
        ("guest", "acl/both/secret", False),
        ("guest", "acl/of/guest/state", True),
        ("guest", "acl/of/other/state", False),
        ("guest", "acl/nowhere", False),
    ],
)
def test_publish_follows_the_acl(
    broker: ContractBroker, mine: str, version: Version, user: str, topic: str, *, is_allowed: bool
) -> None:
    reason, arrived = _delivered(broker, mine, user, topic, version)
    assert arrived is is_allowed
    if version is Version.V311 or is_allowed:
        assert reason == 0  # MQTT 3.1.1 acknowledges what it refuses
    else:
        assert reason == 0x87


def test_user_name_that_reaches_over_a_level_fits_no_pattern(broker: ContractBroker, mine: str) -> None:
    reason, arrived = _delivered(broker, mine, "a/b", "acl/of/a/b/state", Version.V5)
    if broker.name == "mosquitto":
        assert (reason, arrived) == (0, True)  # user "a/b" writes below user "a"
    else:
        assert (reason, arrived) == (0x87, False)


@BOTH
def test_subscription_is_granted_and_only_allowed_messages_come(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    admin, guest = connect(broker, mine + "a", version), connect(broker, mine, version, user="guest")
    admin.publish(f"acl/closed/{mine}", b"retained and denied", retain=True)
    admin.publish(f"acl/public/{mine}", b"retained", retain=True)
    assert guest.subscribe("acl/#", 1) == 1
    found = [one for one in guest.messages() if one.topic.endswith(mine)]
    assert [one.payload for one in found] == [b"retained"]
    for topic in (f"acl/closed/{mine}", "acl/both/secret", f"acl/public/{mine}", "acl/for/other", "acl/for/guest"):
        admin.publish(topic, topic.encode())
    assert guest.payloads() == [f"acl/public/{mine}".encode(), b"acl/for/guest"]


@BOTH
def test_will_follows_the_acl(broker: ContractBroker, mine: str, version: Version) -> None:
    observer = connect(broker, mine + "o", version)
    observer.subscribe("acl/of/#")
    forged = connect(broker, mine + "1", version, user="guest", will=Will("acl/of/other/state", b"forged"))
    own = connect(broker, mine + "2", version, user="guest", will=Will("acl/of/guest/state", b"own"))
    forged.drop()
    own.drop()
    assert observer.expect(Publish).payload == b"own"
    assert observer.payloads() == []


@BOTH
@pytest.mark.parametrize("user", ["guest", "stranger"])
def test_wrong_password_is_refused(broker: ContractBroker, mine: str, version: Version, user: str) -> None:
    client = Client(broker.open(version), Connect(mine, version, user=user, password=PASSWORD + b"!"))
    reasons = {"simulated": 0, "embedded": 0x86, "mosquitto": 0x87}  # the core leaves passwords to its server
    assert client.connack.reason == reasons[broker.name]
    assert broker.name == "simulated" or client.expect_closed() == []


@BOTH
def test_connection_is_not_ended_by_another_user_with_its_client_id(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    admin = connect(broker, mine, version)
    connect(broker, mine, version, user="guest")
    if broker.name == "mosquitto":
        assert admin.expect_closed() == []  # the reason for a listener with use_username_as_clientid
    else:
        admin.subscribe(mine)
        admin.publish(mine, b"x")
        assert admin.payloads() == [b"x"]


def test_session_of_one_user_is_kept_from_another(broker: ContractBroker, mine: str) -> None:
    admin = connect(broker, mine + "a")
    connect(broker, mine, clean_start=False, properties=STAY).subscribe(f"acl/public/{mine}", 1)
    guest = connect(broker, mine, clean_start=False, user="guest", properties=STAY)
    admin.publish(f"acl/public/{mine}", b"x")
    found = (guest.connack.session_present, guest.payloads())
    if broker.name == "mosquitto":
        assert found == (True, [b"x"])
    else:
        assert found == (False, [])

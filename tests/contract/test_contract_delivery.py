"""What every broker promises about subscriptions, retained messages and the content of what it delivers."""

import pytest

from embedded_broker.packets import Properties, Pubcomp, Publish, Pubrec, Pubrel, Version
from tests.contract.contract_brokers import INFLIGHT_MAX, QUEUED_MAX, ContractBroker, connect

BOTH = pytest.mark.parametrize("version", list(Version), ids=["v311", "v5"])


@BOTH
@pytest.mark.parametrize("hop", [(0, 2, 0), (1, 0, 0), (1, 2, 1), (2, 1, 1), (2, 2, 2)], ids=str)
def test_message_arrives_once_with_the_lower_qos(
    broker: ContractBroker, mine: str, version: Version, hop: tuple[int, int, int]
) -> None:
    sent, wanted, delivered = hop
    reader, writer = connect(broker, mine + "r", version), connect(broker, mine + "w", version)
    assert reader.subscribe(f"{mine}/+", wanted) == wanted
    writer.publish(f"{mine}/a", b"hello", sent)
    writer.drain()
    [message] = reader.messages()
    assert (message.topic, message.payload, message.qos, message.retain) == (f"{mine}/a", b"hello", delivered, False)


@BOTH
def test_retained_message_is_sent_to_a_new_subscriber_until_it_is_cleared(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    client = connect(broker, mine, version)
    client.publish(f"{mine}/a", b"1", retain=True)
    client.publish(f"{mine}/a", b"2", retain=True)
    client.publish(f"{mine}/b/c", b"3", 0, retain=True)
    client.subscribe(f"{mine}/#", 1)
    found = {(one.payload, one.retain) for one in client.messages()}
    assert found == {(b"2", True), (b"3", True)}
    client.publish(f"{mine}/a", b"", retain=True)
    assert client.payloads() == [b""]  # the clearing is itself a message
    client.subscribe(f"{mine}/a", 1)
    assert client.payloads() == []


@BOTH
def test_retain_flag_is_cleared_when_a_subscription_existed(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    client = connect(broker, mine, version)
    client.subscribe(mine)
    client.publish(mine, b"x", retain=True)
    assert [one.retain for one in client.messages()] == [False]


def test_retain_as_published_keeps_the_flag_when_asked_for(broker: ContractBroker, mine: str) -> None:
    client = connect(broker, mine)
    client.subscribe(mine, retain_as_published=1)
    client.publish(mine, b"x", retain=True)
    client.publish(mine, b"y")
    assert [one.retain for one in client.messages()] == [True, False]


@pytest.mark.parametrize(("handling", "counts"), [(0, [1, 1]), (1, [1, 0]), (2, [0, 0])])
def test_retain_handling_decides_who_gets_retained_messages(
    broker: ContractBroker, mine: str, handling: int, counts: list[int]
) -> None:
    client = connect(broker, mine)
    client.publish(mine, b"x", retain=True)
    found = []
    for _ in range(2):
        client.subscribe(mine, 1, retain_handling=handling)
        found.append(len(client.messages()))
    assert found == counts


@BOTH
def test_subscription_that_is_made_again_brings_what_is_retained_again(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    client = connect(broker, mine, version)
    client.publish(mine, b"order", retain=True)
    for _ in range(2):
        client.subscribe(mine, 1)
        assert client.payloads() == [b"order"]


@BOTH
def test_leading_wildcard_does_not_see_dollar_topics(broker: ContractBroker, mine: str, version: Version) -> None:
    client = connect(broker, mine, version)
    client.subscribe(f"+/{mine}/#")
    client.publish(f"$own/{mine}/a", b"hidden")
    client.publish(f"open/{mine}/a", b"seen")
    assert client.payloads() == [b"seen"]
    client.subscribe(f"$own/{mine}/#")
    client.publish(f"$own/{mine}/a", b"named")
    assert client.payloads() == [b"named"]


@BOTH
def test_hash_matches_its_parent_and_plus_an_empty_level(broker: ContractBroker, mine: str, version: Version) -> None:
    client = connect(broker, mine, version)
    client.subscribe(f"{mine}/a/#")
    client.subscribe(f"{mine}/b/+")
    for topic in ("a", "a/", "a/b/c", "b", "b/", "b/x", "b/x/y"):
        client.publish(f"{mine}/{topic}", topic.encode())
    assert client.payloads() == [b"a", b"a/", b"a/b/c", b"b/", b"b/x"]


@BOTH
def test_unsubscribe_ends_delivery(broker: ContractBroker, mine: str, version: Version) -> None:
    client = connect(broker, mine, version)
    client.subscribe(mine)
    client.unsubscribe(mine)
    client.publish(mine, b"x")
    assert client.payloads() == []


def test_overlapping_subscriptions_deliver_once_or_once_each(broker: ContractBroker, mine: str) -> None:
    client = connect(broker, mine)
    client.subscribe(f"{mine}/#", 0, identifier=1)
    client.subscribe(f"{mine}/a", 1, identifier=2)
    client.publish(f"{mine}/a", b"x")
    found = [(one.qos, sorted(one.properties.subscription_identifiers)) for one in client.messages()]
    if broker.name == "mosquitto":
        assert sorted(found) == [(0, [1]), (1, [2])]
    else:
        assert found == [(1, [1, 2])]


def test_no_local_keeps_a_clients_own_messages_away(broker: ContractBroker, mine: str) -> None:
    client, other = connect(broker, mine), connect(broker, mine + "o")
    client.subscribe(mine, no_local=1)
    client.publish(mine, b"own")
    other.publish(mine, b"other")
    assert client.payloads() == [b"other"]


@pytest.mark.parametrize("retain", [False, True])
def test_properties_of_a_message_are_forwarded(broker: ContractBroker, mine: str, *, retain: bool) -> None:
    properties = Properties(
        payload_format=1,
        content_type="application/json",
        response_topic="reply/here",
        correlation_data=b"\x00\x01",
        user_properties=(("b", "2"), ("a", "1"), ("b", "3")),
    )
    client = connect(broker, mine)
    if not retain:
        client.subscribe(mine, 1)
    client.publish(mine, b"{}", retain=retain, properties=properties)
    if retain:
        client.subscribe(mine, 1)
    assert [one.properties for one in client.messages()] == [properties]


def test_topic_alias_of_the_client_stands_for_the_topic(broker: ContractBroker, mine: str) -> None:
    client = connect(broker, mine)
    assert (client.connack.properties.topic_alias_maximum or 0) >= 1
    client.subscribe(mine)
    client.publish(mine, b"1", properties=Properties(topic_alias=1))
    client.publish("", b"2", properties=Properties(topic_alias=1))
    assert [(one.topic, one.payload) for one in client.messages()] == [(mine, b"1"), (mine, b"2")]


def test_publisher_is_told_when_nobody_listens(broker: ContractBroker, mine: str) -> None:
    client = connect(broker, mine)
    assert client.publish(mine, b"x") == 0x10
    client.subscribe(mine)
    assert client.publish(mine, b"x") == 0


def test_messages_keep_their_order_when_qos_is_equal(broker: ContractBroker, mine: str) -> None:
    reader, writer = connect(broker, mine + "r"), connect(broker, mine + "w")
    reader.subscribe(mine, 1)
    for number in range(15):
        writer.send(Publish(mine, b"%d" % number, 1, packet_id=number + 1))
    writer.drain()
    assert reader.payloads() == [b"%d" % number for number in range(15)]


@BOTH
def test_shared_subscription_is_refused_or_works(broker: ContractBroker, mine: str, version: Version) -> None:
    client = connect(broker, mine, version)
    reason = client.subscribe(f"$share/group/{mine}", 1)
    client.publish(mine, b"x")
    found = client.payloads()
    if broker.name == "mosquitto":
        assert (reason, found) == (1, [b"x"])
        return
    assert (reason, found) == (0x9E if version is Version.V5 else 0x80, [])
    if version is Version.V5:
        assert client.connack.properties.shared_available == 0


def test_retained_messages_beyond_the_queue_are_lost_to_a_reader_that_answers_late(
    broker: ContractBroker, mine: str
) -> None:
    client = connect(broker, mine)
    count = INFLIGHT_MAX + QUEUED_MAX + 5
    for number in range(count):
        client.publish(f"{mine}/{number}", b"x", retain=True)
    client.subscribe(f"{mine}/+", 1)
    assert len(client.messages()) == INFLIGHT_MAX + QUEUED_MAX
    client.subscribe(f"{mine}/+", 0)
    assert len(client.messages()) == count


@BOTH
def test_qos_2_message_is_delivered_at_once_or_when_it_is_released(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    reader, writer = connect(broker, mine + "r", version), connect(broker, mine, version)
    reader.subscribe(mine, 2)
    writer.send(Publish(mine, b"x", 2, packet_id=1))
    writer.expect(Pubrec)
    assert reader.payloads() == ([] if broker.name == "mosquitto" else [b"x"])
    writer.send(Pubrel(1))
    writer.expect(Pubcomp)
    assert reader.payloads() == ([b"x"] if broker.name == "mosquitto" else [])

"""What every broker promises about sessions: queues, redelivery, take-over, expiry."""

import pytest

from embedded_broker.packets import (
    Disconnect,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Version,
    Will,
)
from tests.contract.contract_brokers import INFLIGHT_MAX, QUEUED_MAX, STAY, ContractBroker, connect

BOTH = pytest.mark.parametrize("version", list(Version), ids=["v311", "v5"])


@BOTH
def test_absent_client_gets_queued_messages_in_order_when_it_returns(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    reader = connect(broker, mine, version, clean_start=False, properties=STAY)
    assert not reader.connack.session_present
    reader.subscribe(mine, 2)
    reader.disconnect()
    writer = connect(broker, mine + "w", version)
    for payload, qos in ((b"1", 1), (b"lost", 0), (b"2", 2), (b"3", 1)):
        writer.publish(mine, payload, qos)
    writer.drain()
    reader = connect(broker, mine, version, clean_start=False, properties=STAY)
    assert reader.connack.session_present
    assert [(one.payload, one.qos, one.dup) for one in reader.messages()] == [
        (b"1", 1, False),
        (b"2", 2, False),
        (b"3", 1, False),
    ]


@BOTH
def test_clean_start_ends_the_session_that_was_there(broker: ContractBroker, mine: str, version: Version) -> None:
    reader = connect(broker, mine, version, clean_start=False, properties=STAY)
    reader.subscribe(mine, 1)
    reader.disconnect()
    reader = connect(broker, mine, version, clean_start=True)
    assert not reader.connack.session_present
    reader.publish(mine, b"x")
    assert reader.payloads() == []


@BOTH
def test_unanswered_messages_are_repeated_with_dup_and_the_same_ids_in_order(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    reader = connect(broker, mine, version, clean_start=False, properties=STAY)
    reader.subscribe(mine, 2)
    writer = connect(broker, mine + "w", version)
    for payload, qos in ((b"1", 1), (b"2", 2), (b"3", 1), (b"4", 2)):
        writer.publish(mine, payload, qos)
    first = [one for one in reader.drain() if isinstance(one, Publish)]
    assert [one.dup for one in first] == [False] * 4
    reader.send(Puback(first[2].packet_id))
    reader.drain()
    reader.drop()
    reader = connect(broker, mine, version, clean_start=False, properties=STAY)
    again = [(one.payload, one.qos, one.packet_id, one.dup) for one in reader.messages()]
    assert again == [(one.payload, one.qos, one.packet_id, True) for one in first if one.payload != b"3"]


@BOTH
def test_qos_2_message_is_delivered_once_when_the_sender_repeats_it(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    reader = connect(broker, mine + "r", version)
    reader.subscribe(mine, 2)
    writer = connect(broker, mine, version, clean_start=False, properties=STAY)
    message = Publish(mine, b"once", 2, packet_id=7)
    writer.send(message)
    writer.expect(Pubrec)
    writer.drop()
    writer = connect(broker, mine, version, clean_start=False, properties=STAY)
    writer.send(Publish(mine, b"once", 2, dup=True, packet_id=7))
    assert writer.expect(Pubrec).packet_id == 7
    for _ in range(2):
        writer.send(Pubrel(7))
        assert writer.expect(Pubcomp).packet_id == 7
    assert reader.payloads() == [b"once"]
    writer.send(Publish(mine, b"next", 2, packet_id=7))
    writer.expect(Pubrec)
    writer.send(Pubrel(7))
    writer.expect(Pubcomp)
    assert reader.payloads() == [b"next"]


@BOTH
def test_qos_2_release_is_repeated_and_not_the_message_when_the_reader_had_received_it(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    reader = connect(broker, mine, version, clean_start=False, properties=STAY)
    reader.subscribe(mine, 2)
    connect(broker, mine + "w", version).publish(mine, b"x", 2)
    message = reader.expect(Publish)
    reader.send(Pubrec(message.packet_id))
    reader.expect(Pubrel)
    reader.drop()
    reader = connect(broker, mine, version, clean_start=False, properties=STAY)
    assert reader.drain() == [Pubrel(message.packet_id)]
    reader.send(Pubcomp(message.packet_id))
    reader.drop()
    reader = connect(broker, mine, version, clean_start=False, properties=STAY)
    assert reader.drain() == []


@BOTH
def test_second_connection_takes_the_client_id_over(broker: ContractBroker, mine: str, version: Version) -> None:
    first = connect(broker, mine, version, clean_start=False, properties=STAY)
    first.subscribe(mine, 1)
    second = connect(broker, mine, version, clean_start=False, properties=STAY)
    assert second.connack.session_present
    told = first.expect_closed()
    is_told = version is Version.V5 and broker.name != "mosquitto"
    assert told == ([Disconnect(0x8E)] if is_told else [])
    second.publish(mine, b"x")
    assert second.payloads() == [b"x"]


@BOTH
def test_full_queue_drops_the_newest_message(broker: ContractBroker, mine: str, version: Version) -> None:
    reader = connect(broker, mine, version, clean_start=False, properties=STAY)
    reader.subscribe(mine, 1)
    reader.disconnect()
    writer = connect(broker, mine + "w", version)
    for number in range(QUEUED_MAX + 5):
        assert writer.publish(mine, b"%d" % number) == 0  # the publisher is not told
    reader = connect(broker, mine, version, clean_start=False, properties=STAY)
    assert reader.payloads() == [b"%d" % number for number in range(QUEUED_MAX)]


@BOTH
def test_reader_that_answers_nothing_gets_a_window_then_a_queue_then_losses(
    broker: ContractBroker, mine: str, version: Version
) -> None:
    reader, writer = connect(broker, mine, version), connect(broker, mine + "w", version)
    reader.subscribe(mine, 1)
    for number in range(INFLIGHT_MAX + QUEUED_MAX + 5):
        writer.publish(mine, b"%d" % number)
    first = [one for one in reader.drain() if isinstance(one, Publish)]
    assert [one.payload for one in first] == [b"%d" % number for number in range(INFLIGHT_MAX)]
    for one in first:
        reader.send(Puback(one.packet_id))
    assert reader.payloads() == [b"%d" % number for number in range(INFLIGHT_MAX, INFLIGHT_MAX + QUEUED_MAX)]


def test_receive_maximum_of_the_client_bounds_what_is_on_its_way(broker: ContractBroker, mine: str) -> None:
    reader, writer = connect(broker, mine, properties=Properties(receive_maximum=2)), connect(broker, mine + "w")
    reader.subscribe(mine, 2)
    for number in range(5):
        writer.publish(mine, b"%d" % number, 2)
    first = [one for one in reader.drain() if isinstance(one, Publish)]
    assert [one.payload for one in first] == [b"0", b"1"]
    reader.send(Pubrec(first[0].packet_id))
    assert reader.drain() == [Pubrel(first[0].packet_id)]
    reader.send(Pubcomp(first[0].packet_id))
    then = [one.payload for one in reader.drain() if isinstance(one, Publish)]
    assert then == ([b"2", b"3"] if broker.name == "mosquitto" else [b"2"])  # 2 are allowed, mosquitto makes it 3


def test_session_ends_when_its_expiry_has_passed(broker: ContractBroker, mine: str) -> None:
    observer = connect(broker, mine + "o")
    observer.subscribe(mine + "will")
    # The will is delayed beyond the session's end, so its arrival shows that the session has ended.
    will = Will(mine + "will", b"ended", properties=Properties(will_delay_seconds=60))
    client = connect(broker, mine, clean_start=False, properties=Properties(session_expiry_seconds=1), will=will)
    client.subscribe(mine, 1)
    client.drop()
    assert observer.expect(Publish).payload == b"ended"
    assert not connect(broker, mine, clean_start=False).connack.session_present


def test_session_ends_at_once_when_disconnect_says_so(broker: ContractBroker, mine: str) -> None:
    client = connect(broker, mine, clean_start=False, properties=STAY)
    client.disconnect(properties=Properties(session_expiry_seconds=0))
    assert not connect(broker, mine, clean_start=False).connack.session_present


def test_message_is_not_delivered_when_its_expiry_has_passed(broker: ContractBroker, mine: str) -> None:
    reader = connect(broker, mine, clean_start=False, properties=STAY)
    reader.subscribe(mine, 1)
    reader.disconnect()
    writer = connect(broker, mine + "w")
    short, long = Properties(message_expiry_seconds=1), Properties(message_expiry_seconds=60)
    for payload, properties in ((b"short", short), (b"long", long)):
        writer.publish(mine, payload, properties=properties)
        writer.publish(f"{mine}/{payload.decode()}", payload, retain=True, properties=properties)
    broker.wait(2.1)
    reader = connect(broker, mine, clean_start=False, properties=STAY)
    reader.subscribe(mine + "/+", 1)
    found = reader.messages()
    assert [one.payload for one in found] == [b"long", b"long"]
    assert all(1 <= (one.properties.message_expiry_seconds or 0) <= 59 for one in found)


@BOTH
def test_broker_assigns_a_client_id_when_none_is_given(broker: ContractBroker, version: Version) -> None:
    first, second = connect(broker, "", version), connect(broker, "", version)
    ids = [one.connack.properties.assigned_client_id for one in (first, second)]
    if version is Version.V5:
        assert all(ids)
        assert len(set(ids)) == 2
    assert [first.payloads(), second.payloads()] == [[], []]

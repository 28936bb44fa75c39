"""The core where the contract suite cannot look: limits, protocol errors, time, restarts, determinism."""

import random
from dataclasses import replace

import pytest

from embedded_broker.core import Broker
from embedded_broker.outputs import SubscriptionSaved
from embedded_broker.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Version,
    Will,
)
from embedded_broker.reasons import Reason
from embedded_broker.state import EMPTY_STATE, Access, BrokerConfig, BrokerState
from tests.broker.broker_script import STAY, Script


def test_connack_announces_the_limits() -> None:
    script = Script(BrokerConfig(receive_max=7, topic_alias_max=3, packet_size_max_bytes=999))
    expected = Properties(receive_maximum=7, topic_alias_maximum=3, packet_size_maximum_bytes=999, shared_available=0)
    assert script.connect(1) == [Connack(properties=expected)]
    assert script.connect(2, version=Version.V311) == [Connack()]


def test_connection_is_closed_when_it_is_silent_for_one_and_a_half_keep_alives() -> None:
    script = Script()
    script.connect(1, keep_alive_seconds=10, will=Will("w", b"gone"))
    script.connect(2, version=Version.V311)
    script.subscribe(2, "w")
    script.take(2)
    script.pass_time(14)
    assert script.send(1, Pingreq()) == [Pingresp()]
    script.pass_time(14.9)
    assert script.closed == {}
    script.pass_time(0.2)
    assert script.take(1) == [Disconnect(Reason.KEEP_ALIVE_TIMEOUT)]
    assert script.closed == {1: Reason.KEEP_ALIVE_TIMEOUT}
    assert script.payloads(2) == [b"gone"]
    assert script.core.next_deadline() is None


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (Connect("again"), Reason.PROTOCOL_ERROR),
        (Connack(), Reason.PROTOCOL_ERROR),
        (Suback(1, (0,)), Reason.PROTOCOL_ERROR),
        (Pingresp(), Reason.PROTOCOL_ERROR),
        (Auth(), Reason.PROTOCOL_ERROR),
        (Publish("a/+", b""), Reason.TOPIC_NAME_INVALID),
        (Publish("", b""), Reason.TOPIC_NAME_INVALID),
        (Publish("a/" * 200, b""), Reason.TOPIC_NAME_INVALID),
        (Publish("", b"", properties=Properties(topic_alias=1)), Reason.PROTOCOL_ERROR),
        (Publish("a", b"", properties=Properties(topic_alias=0)), Reason.TOPIC_ALIAS_INVALID),
        (Publish("a", b"", properties=Properties(topic_alias=101)), Reason.TOPIC_ALIAS_INVALID),
        (Publish("a", b"", properties=Properties(subscription_identifiers=(1,))), Reason.PROTOCOL_ERROR),
        (Disconnect(properties=Properties(session_expiry_seconds=5)), Reason.PROTOCOL_ERROR),
    ],
)
def test_protocol_error_closes_the_connection_and_says_why(packet: Packet, reason: Reason) -> None:
    script = Script()
    script.connect(1)
    assert script.send(1, packet) == [Disconnect(reason)]
    assert script.closed == {1: reason}
    assert script.send(1, Pingreq()) == []  # the core knows it no more


def test_old_client_is_closed_without_a_packet_it_does_not_know() -> None:
    script = Script()
    script.connect(1, version=Version.V311)
    assert script.send(1, Publish("#", b"")) == []
    assert script.closed == {1: Reason.TOPIC_NAME_INVALID}


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (Connect("", Version.V311, clean_start=False), Reason.CLIENT_IDENTIFIER_NOT_VALID),
        (Connect("a", properties=Properties(authentication_method="x")), Reason.BAD_AUTHENTICATION_METHOD),
        (Connect("a", will=Will("a/#", b"")), Reason.TOPIC_NAME_INVALID),
    ],
)
def test_connect_is_refused_and_leaves_nothing(packet: Connect, reason: Reason) -> None:
    script = Script()
    script._take(script.core.connect(1, packet, 0.0))
    assert script.take(1) == [Connack(reason=reason)]
    assert script.closed == {1: reason}
    assert script.core.snapshot() == EMPTY_STATE


def test_sessions_are_limited_and_the_known_ones_may_return() -> None:
    script = Script(BrokerConfig(sessions_max=1))
    script.connect(1, "a", clean_start=False, properties=STAY)
    assert script.connect(2, "b") == [Connack(reason=Reason.QUOTA_EXCEEDED)]
    [connack] = script.connect(3, "a", clean_start=False, properties=STAY)
    assert isinstance(connack, Connack)
    assert connack.session_present


def test_subscriptions_are_limited_and_may_be_replaced() -> None:
    script = Script(BrokerConfig(subscriptions_max=1, levels_max=2))
    script.connect(1)
    wanted = (Subscription("a"), Subscription("b"), Subscription("a", 1), Subscription("a/b/c"), Subscription("a#"))
    expected = (0, Reason.QUOTA_EXCEEDED, 1, Reason.TOPIC_FILTER_INVALID, Reason.TOPIC_FILTER_INVALID)
    assert script.send(1, Subscribe(5, wanted)) == [Suback(5, expected)]


def test_filter_that_stands_in_a_packet_many_times_is_read_for_once() -> None:
    asked: list[str] = []

    def authorize(_user: str | None, _client_id: str, access: Access, topic: str) -> bool:
        if access is Access.READ:
            asked.append(topic)
        return True

    script = Script(authorize=authorize)
    script.connect(1)
    for number in range(10):
        script.publish(1, f"t/{number}", b"x", retain=True)
    many = tuple(Subscription("#", number % 3) for number in range(60_001))
    suback, *retained = script.send(1, Subscribe(5, many))
    assert suback == Suback(5, tuple(one.qos for one in many))
    assert len(retained) == len(asked) == 10


def test_last_options_of_a_filter_in_a_packet_are_those_that_count() -> None:
    script = Script(BrokerConfig(is_durable=True))
    script.connect(1, clean_start=False, properties=STAY)
    script.publish(1, "a", b"old", retain=True)
    wanted = (Subscription("a", 2), Subscription("b"), Subscription("a", 1, retain_handling=2))
    assert script.send(1, Subscribe(5, wanted, Properties(subscription_identifiers=(7,)))) == [Suback(5, (2, 0, 1))]
    [saved] = script.core.snapshot().sessions
    expected = (replace(wanted[2], identifier=7), replace(wanted[1], identifier=7))
    assert saved.subscriptions == expected
    assert [one.subscription for one in script.changes if isinstance(one, SubscriptionSaved)] == list(expected)


def test_packet_with_more_filters_than_a_session_may_have_reads_for_no_more_than_those() -> None:
    script = Script(BrokerConfig(subscriptions_max=3))
    script.connect(1)
    script.publish(1, "a", b"x", retain=True)
    many = tuple(map(Subscription, ("#", "+/#", "+", "a", "a/#")))
    suback, *retained = script.send(1, Subscribe(5, many))
    assert isinstance(suback, Suback)
    assert suback.reasons == (0, 0, 0, Reason.QUOTA_EXCEEDED, Reason.QUOTA_EXCEEDED)
    assert len(retained) == 3


def test_retained_messages_are_limited_and_may_be_replaced_and_cleared() -> None:
    script = Script(BrokerConfig(retained_max=1))
    script.connect(1)
    reasons = []
    for topic, payload in (("a", b"1"), ("b", b"1"), ("a", b"2"), ("a", b""), ("b", b"2")):
        script.publish(1, topic, payload, 1, retain=True)
        reasons += [one.reason for one in script.take(1) if isinstance(one, Puback)]
    fine = Reason.NO_MATCHING_SUBSCRIBERS
    assert reasons == [fine, Reason.QUOTA_EXCEEDED, fine, fine, fine]
    assert [one.packet.payload for one in script.core.snapshot().retained] == [b"2"]


def test_client_is_closed_when_it_opens_more_qos_2_messages_than_allowed() -> None:
    script = Script(BrokerConfig(receive_max=2))
    script.connect(1)
    for packet_id in (1, 2):
        assert script.send(1, Publish("a", b"", 2, packet_id=packet_id)) == [
            Pubrec(packet_id, Reason.NO_MATCHING_SUBSCRIBERS)
        ]
    assert script.send(1, Pubrel(1)) == [Pubcomp(1)]
    script.send(1, Publish("a", b"", 2, packet_id=3))
    assert script.send(1, Publish("a", b"", 2, packet_id=4)) == [Disconnect(Reason.RECEIVE_MAXIMUM_EXCEEDED)]


def test_refused_qos_2_message_leaves_its_packet_id_free() -> None:
    script = Script(authorize=lambda _user, _client, access, topic: access is Access.READ or topic == "open")
    script.connect(1)
    script.subscribe(1, "open")
    assert script.send(1, Publish("closed", b"", 2, packet_id=1)) == [Pubrec(1, Reason.NOT_AUTHORIZED)]
    found = script.send(1, Publish("open", b"x", 2, packet_id=1))
    assert found == [Publish("open", b"x"), Pubrec(1)]
    assert script.send(1, Pubrel(2)) == [Pubcomp(2, Reason.PACKET_IDENTIFIER_NOT_FOUND)]


def test_message_too_large_for_a_client_is_dropped_and_its_place_is_free() -> None:
    script = Script()
    script.connect(1, properties=Properties(packet_size_maximum_bytes=50, receive_maximum=1))
    script.subscribe(1, "a", 1)
    script.connect(2)
    for payload in (b"x" * 100, b"small", b"y" * 100, b"also small"):
        script.publish(2, "a", payload, 1)
    [message] = [one for one in script.take(1) if isinstance(one, Publish)]
    assert message.payload == b"small"
    [following] = script.send(1, Puback(message.packet_id))
    assert isinstance(following, Publish)
    assert following.payload == b"also small"
    assert script.core.dropped_count == 2
    script.lose(1)  # the session ends, the count stays
    assert script.core.dropped_count == 2


def test_smaller_window_on_return_holds_back_what_had_been_sent() -> None:
    script = Script()
    script.connect(1, "r", clean_start=False, properties=replace(STAY, receive_maximum=3))
    script.subscribe(1, "a", 1)
    script.connect(2)
    for payload in (b"1", b"2", b"3", b"4"):
        script.publish(2, "a", payload, 1)
    first = [one for one in script.take(1) if isinstance(one, Publish)]
    script.lose(1)
    again = script.connect(3, "r", clean_start=False, properties=replace(STAY, receive_maximum=1))[1:]
    assert again == [first[0]._replace(dup=True)]
    assert script.send(3, Puback(first[0].packet_id)) == [first[1]._replace(dup=True)]
    assert script.send(3, Puback(first[1].packet_id)) == [first[2]._replace(dup=True)]
    assert [
        (one.payload, one.dup) for one in script.send(3, Puback(first[2].packet_id)) if isinstance(one, Publish)
    ] == [(b"4", False)]


def test_expired_messages_make_room_in_a_full_queue() -> None:
    script = Script(BrokerConfig(queued_max=2))
    script.connect(1, "r", clean_start=False, properties=STAY)
    script.subscribe(1, "a", 1)
    script.lose(1)
    script.connect(2)
    expiry = Properties(message_expiry_seconds=5)
    for number in range(3):
        script.send(2, Publish("a", b"old %d" % number, 1, packet_id=1, properties=expiry))
    script.pass_time(6)
    script.publish(2, "a", b"new", 1)
    script.connect(3, "r", clean_start=False, properties=STAY)
    script.take(1)
    assert script.core.dropped_count == 1
    assert [one.message.packet.payload for one in script.core.snapshot().sessions[0].outgoing] == [b"new"]


def test_session_is_not_handed_to_another_user() -> None:
    script = Script()
    script.connect(1, "r", clean_start=False, user="ann", properties=STAY)
    script.subscribe(1, "a", 1)
    script.lose(1)
    script.connect(2)
    script.publish(2, "a", b"for ann", 1)
    [connack, *rest] = script.connect(3, "r", clean_start=False, user="bob", properties=STAY)
    assert isinstance(connack, Connack)
    assert not connack.session_present
    assert rest == []
    script.publish(2, "a", b"for ann", 1)
    assert script.take(3) == []
    [connack, *kept] = script.connect(4, "r", clean_start=False, user="ann", properties=STAY)
    assert isinstance(connack, Connack)
    assert connack.session_present
    assert [one.payload for one in kept if isinstance(one, Publish)] == [b"for ann"] * 2


@pytest.mark.parametrize("version", list(Version))
@pytest.mark.parametrize("clean_start", [True, False])
def test_nobody_ends_the_connection_of_another_user_by_its_client_id(version: Version, *, clean_start: bool) -> None:
    script = Script()
    script.connect(1, "tidegate-orchestrator", user="orchestrator", will=Will("w", b"gone"))
    script.subscribe(1, "#")
    script.take(1)
    thief = script.connect(2, "tidegate-orchestrator", version, clean_start=clean_start, user="cam-0001")
    assert [one.reason for one in thief if isinstance(one, Connack)] == [Reason.SUCCESS]
    assert (script.closed, script.take(1)) == ({}, [])
    script.publish(2, "a", b"still there")
    assert script.payloads(1) == [b"still there"]
    assert script.take(2) == []


def test_nobody_keeps_another_user_out_who_comes_later_with_the_same_client_id() -> None:
    script = Script()
    script.connect(1, "tidegate-orchestrator", clean_start=False, user="cam-0001", properties=STAY)
    script.connect(2, "tidegate-orchestrator", clean_start=False, user="orchestrator", properties=STAY)
    assert script.closed == {}
    script.subscribe(2, "a", 1)
    script.lose(1)
    script.lose(2)
    script.pass_time(200)
    assert script.core.snapshot() == EMPTY_STATE


def test_whoever_gives_no_user_is_the_same_nobody_and_takes_over_from_himself() -> None:
    script = Script()
    script.connect(1, "r", clean_start=False, properties=STAY)
    [connack] = script.connect(2, "r", clean_start=False, properties=STAY)
    assert isinstance(connack, Connack)
    assert connack.session_present
    assert script.closed == {1: Reason.SESSION_TAKEN_OVER}


def test_no_local_keeps_only_ones_own_messages_away_and_not_those_of_a_namesake() -> None:
    script = Script()
    script.connect(1, "r", user="ann")
    script.send(1, Subscribe(1, (Subscription("a", no_local=True),)))
    script.connect(2, "r", user="bob")
    script.publish(1, "a", b"own")
    script.publish(2, "a", b"bob's")
    assert script.payloads(1) == [b"bob's"]


def test_sessions_of_one_user_are_limited_and_all_others_may_come() -> None:
    script = Script(BrokerConfig(sessions_per_user_max=2))
    for number in (1, 2):
        script.connect(number, user="ann")
    assert script.connect(3, user="ann") == [Connack(reason=Reason.QUOTA_EXCEEDED)]
    assert script.connect(4, "c1", user="ann") != [Connack(reason=Reason.QUOTA_EXCEEDED)], "a known one may return"
    for number, user in ((5, "bob"), (6, None), (7, None), (8, None)):
        script.connect(number, user=user)
    script.lose(2)
    script.connect(9, user="ann")
    assert script.closed == {1: Reason.SESSION_TAKEN_OVER, 3: Reason.QUOTA_EXCEEDED}


def test_sessions_of_a_user_count_after_a_restart_as_well() -> None:
    script = Script(BrokerConfig(sessions_per_user_max=1))
    script.connect(1, "a", clean_start=False, user="ann", properties=STAY)
    script.core = Broker.restore(script.config, script.core.snapshot(), script.now)
    assert script.connect(2, "b", user="ann") == [Connack(reason=Reason.QUOTA_EXCEEDED)]


def test_stray_answers_change_nothing() -> None:
    script = Script()
    script.connect(1)
    script.subscribe(1, "a", 2)
    script.connect(2)
    script.publish(2, "a", b"x", 2)
    [message] = [one for one in script.take(1) if isinstance(one, Publish)]
    packet_id = message.packet_id
    assert script.send(1, Puback(packet_id)) == []
    assert script.send(1, Pubcomp(packet_id)) == []
    assert script.send(1, Pubrec(77)) == [Pubrel(77, Reason.PACKET_IDENTIFIER_NOT_FOUND)]
    assert script.send(1, Pubrec(packet_id)) == [Pubrel(packet_id)]
    assert script.send(1, Pubrec(packet_id)) == [Pubrel(packet_id)]
    assert script.send(1, Pubcomp(packet_id)) == []


def test_session_that_expires_before_its_will_is_due_publishes_it_once() -> None:
    script = Script()
    script.connect(1)
    script.subscribe(1, "w")
    will = Will("w", b"gone", properties=Properties(will_delay_seconds=3))
    script.connect(2, clean_start=False, will=will, properties=Properties(session_expiry_seconds=3))
    script.take(1)
    script.lose(2)
    script.pass_time(10)
    assert script.payloads(1) == [b"gone"]
    assert script.core.snapshot() == EMPTY_STATE


def test_will_of_an_earlier_connection_is_forgotten_when_the_client_returned_without_one() -> None:
    script = Script()
    script.connect(1)
    script.subscribe(1, "w")
    will = Will("w", b"gone", properties=Properties(will_delay_seconds=3))
    script.connect(2, "c", clean_start=False, will=will, properties=STAY)
    script.lose(2)
    script.connect(3, "c", clean_start=False, properties=STAY)
    script.lose(3)
    script.pass_time(50)
    assert script.payloads(1) == []


def test_stop_closes_all_and_publishes_wills_that_wait() -> None:
    script = Script()
    script.connect(1, will=Will("w1", b"now", retain=True))
    will = Will("w2", b"later", retain=True, properties=Properties(will_delay_seconds=50))
    script.connect(2, clean_start=False, will=will, properties=STAY)
    script.lose(2)
    script._take(script.core.stop(script.now))
    assert script.take(1) == [Disconnect(Reason.SERVER_SHUTTING_DOWN)]
    assert [one.packet.payload for one in script.core.snapshot().retained] == [b"now", b"later"]


def _busy_state() -> tuple[Script, BrokerState]:
    script = Script()
    script.connect(1, "r", clean_start=False, properties=STAY)
    script.subscribe(1, "a/#", 2)
    script.connect(2, "w", version=Version.V311, clean_start=False)
    script.connect(3, "gone")
    script.publish(2, "a/1", b"sent", 1, retain=True)
    script.publish(2, "a/2", b"sent too", 2)
    script.lose(1)
    script.publish(2, "a/3", b"queued", 1)
    return script, script.core.snapshot()


def test_restored_broker_goes_on_where_the_snapshot_was_taken() -> None:
    script, state = _busy_state()
    script.core = Broker.restore(script.config, state, script.now)
    assert script.core.snapshot() == state
    [_, *found] = script.connect(5, "r", clean_start=False, properties=STAY)
    assert [(one.payload, one.dup) for one in found if isinstance(one, Publish)] == [
        (b"sent", True),
        (b"sent too", True),
        (b"queued", False),
    ]
    script.connect(6, "w", version=Version.V311, clean_start=False)
    assert script.send(6, Publish("a/2", b"sent too", 2, dup=True, packet_id=9)) == [Pubrec(9)]
    assert script.payloads(5) == []


@pytest.mark.parametrize("sessions_kept", [True, False])
@pytest.mark.parametrize("retained", ["kept", "lost", "rewound"])
def test_restart_may_lose_sessions_and_lose_or_rewind_retained_messages(retained: str, *, sessions_kept: bool) -> None:
    older, _ = _busy_state()
    script, state = _busy_state()
    script.connect(7)
    script.publish(7, "a/1", b"newer", retain=True)
    state = script.core.snapshot()
    chosen = {"kept": state.retained, "lost": (), "rewound": older.core.snapshot().retained}[retained]
    state = BrokerState(state.sessions if sessions_kept else (), chosen)
    script.core = Broker.restore(script.config, state, script.now)
    [connack, *_] = script.connect(8, "r", clean_start=False, properties=STAY)
    assert isinstance(connack, Connack)
    assert connack.session_present is sessions_kept
    script.connect(9, "look")
    found = [one.payload for one in script.subscribe(9, "a/1") if isinstance(one, Publish)]
    assert found == {"kept": [b"newer"], "lost": [], "rewound": [b"sent"]}[retained]


def test_restored_session_expires_from_the_restart_if_it_was_connected() -> None:
    script = Script()
    script.connect(1, "on", clean_start=False, properties=STAY)
    script.connect(2, "off", clean_start=False, properties=STAY)
    script.lose(2)
    script.now = 50.0
    script.core = Broker.restore(script.config, script.core.snapshot(), script.now)
    script.pass_time(51)
    assert [one.key.client_id for one in script.core.snapshot().sessions] == ["on"]
    script.pass_time(50)
    assert script.core.snapshot() == EMPTY_STATE


NAMED = {"a": (None, "a"), "b": (None, "b"), "c": ("ann", "a"), "d": ("bob", "a")}
"""User and client id of each client of a random run."""


def random_run(script: Script, seed: int, steps: int) -> None:
    """Do random but legal things with four clients, three of which have one client id."""
    dice = random.Random(seed)
    connection = 0
    live: dict[str, int] = {}
    for _ in range(steps):
        script.now += dice.random() * 3
        script._take(script.core.tick(script.now))
        live = {name: number for name, number in live.items() if number not in script.closed}
        name = dice.choice("abcd")
        if name not in live:
            connection += 1
            expiry = dice.choice([Properties(), Properties(session_expiry_seconds=dice.choice([2, 60, 2**32 - 1]))])
            will = Will(f"t/{name}", b"will", 1, properties=Properties(will_delay_seconds=dice.choice([0, 3])))
            clean_start = dice.random() < 0.2
            user, client_id = NAMED[name]
            script.connect(connection, client_id, clean_start=clean_start, user=user, will=will, properties=expiry)
            live[name] = connection
            continue
        number = live[name]
        match dice.randrange(8):
            case 0:
                script.lose(number)
                del live[name]
            case 1 | 2:
                options = Subscription(f"t/{dice.choice('abcd+#')}", dice.randrange(3), no_local=dice.random() < 0.3)
                identifiers = Properties(subscription_identifiers=(dice.randrange(1, 9),))
                script._take(script.core.receive(number, Subscribe(1, (options,), identifiers), script.now))
            case 3 | 4 | 5:
                expiry = Properties(message_expiry_seconds=dice.choice([1, 50]), content_type="x")
                qos = dice.randrange(3)
                message = Publish(
                    f"t/{dice.choice('abcd')}",
                    dice.choice([b"", b"1", b"2"]),
                    qos,
                    retain=dice.random() < 0.4,
                    packet_id=dice.randrange(1, 5) if qos else 0,
                    properties=dice.choice([Properties(), expiry]),
                )
                script._take(script.core.receive(number, message, script.now))
            case _:
                for packet in script.take(number):
                    answer: Packet | None = None
                    match packet:
                        case Publish(qos=1):
                            answer = Puback(packet.packet_id)
                        case Publish(qos=2):
                            answer = Pubrec(packet.packet_id)
                        case Pubrel():
                            answer = Pubcomp(packet.packet_id)
                        case Pubrec():
                            answer = Pubrel(packet.packet_id)
                        case _:
                            continue
                    script._take(script.core.receive(number, answer, script.now))


@pytest.mark.parametrize("seed", range(5))
def test_same_calls_give_the_same_outputs(seed: int) -> None:
    first, second = Script(BrokerConfig(is_durable=True)), Script(BrokerConfig(is_durable=True))
    random_run(first, seed, 300)
    random_run(second, seed, 300)
    assert (first.sent, first.closed, first.changes) == (second.sent, second.closed, second.changes)
    assert first.core.snapshot() == second.core.snapshot()
    assert first.changes

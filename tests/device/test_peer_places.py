"""Whom a device gives to while more ask than it can serve."""

from device_client.adapters.peer_places import GUESTS_MAX, KEPT_SECONDS, ONCE_EACH_SECONDS, Places, Welcome

GUESTS = [f"10.0.0.{number}" for number in range(1, GUESTS_MAX + 1)]


def full(connections_max: int = 16) -> Places:
    """Return the places of a device whose guests have a connection each."""
    places = Places(connections_max)
    assert [places.take(address, 0.0) for address in GUESTS] == [Welcome.GUEST] * GUESTS_MAX
    return places


def test_guests_have_all_connections_but_those_for_others() -> None:
    places = full()

    assert [places.take(GUESTS[0], 0.0) for _ in range(20)].count(Welcome.GUEST) == 14 - GUESTS_MAX


def test_others_are_given_once_each_while_there_are_guests() -> None:
    places = full()

    assert places.take("10.0.1.1", 0.0) is Welcome.ONCE
    places.leave("10.0.1.1", Welcome.ONCE, 0.1)
    assert places.take("10.0.1.1", 0.2) is Welcome.BUSY
    assert places.take("10.0.1.2", 0.2) is Welcome.ONCE
    assert places.take("10.0.1.1", ONCE_EACH_SECONDS) is Welcome.ONCE


def test_others_share_an_eighth_of_the_connections_and_none_of_a_few() -> None:
    places = full()
    assert [places.take(f"10.0.1.{number}", 0.0) for number in range(3)] == [Welcome.ONCE, Welcome.ONCE, Welcome.BUSY]
    assert full(7).take("10.0.1.1", 0.0) is Welcome.BUSY


def test_place_is_kept_between_two_connections_and_then_given_to_another() -> None:
    places = full()
    places.leave(GUESTS[0], Welcome.GUEST, 5.0)

    assert places.take("10.0.1.1", 5.0 + KEPT_SECONDS / 2) is Welcome.ONCE
    assert places.take(GUESTS[0], 5.0 + KEPT_SECONDS / 2) is Welcome.GUEST
    places.leave(GUESTS[0], Welcome.GUEST, 9.0)
    assert places.take("10.0.1.1", 9.0 + KEPT_SECONDS) is Welcome.GUEST
    assert places.take(GUESTS[0], 9.0 + KEPT_SECONDS) is Welcome.ONCE


def test_devices_behind_one_address_are_one_guest() -> None:
    places = Places(2)

    assert [places.take("10.0.0.1", 0.0) for _ in range(3)] == [Welcome.GUEST, Welcome.GUEST, Welcome.BUSY]


def test_many_that_come_once_are_not_remembered_without_end() -> None:
    places = full()
    for number in range(5000):
        if (welcome := places.take(f"stranger-{number}", 1.0)) is Welcome.ONCE:
            places.leave(f"stranger-{number}", welcome, 1.0)

    assert len(places._given_at) <= 1024
    assert places.take("10.0.1.1", 1.0 + ONCE_EACH_SECONDS) is Welcome.ONCE
    assert len(places._given_at) == 1

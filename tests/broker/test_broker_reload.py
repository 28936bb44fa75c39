"""SIGHUP reads passwords and access rules again, as it does for mosquitto."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded_broker.packets import Publish
from embedded_broker.passwords import hash_password
from embedded_broker.reasons import Reason
from tests.broker.broker_process import ServerProcess, serving_process
from tests.contract.contract_client import Client

LINES = {user: hash_password(user, b"right") for user in ("ann", "bob", "eve")}
OPEN = "user ann\ntopic news/#\nuser bob\ntopic news/#\n"


class Served:
    """A broker with both files."""

    def __init__(self, folder: Path) -> None:
        self.passwords, self.acl = folder / "passwords", folder / "acl"
        self.write(OPEN, "ann", "bob")
        self.server: ServerProcess
        self.clients: list[Client] = []

    def write(self, acl: str, *users: str, more: str = "") -> None:
        self.acl.write_text(acl, encoding="utf-8")
        self.passwords.write_text("".join(f"{LINES[user]}\n" for user in users) + more, encoding="utf-8")

    def come(self, user: str, client_id: str = "") -> Client:
        self.clients.append(self.server.connect(client_id or user, user=user, password=b"right"))
        return self.clients[-1]

    def leave(self) -> None:
        while self.clients:
            self.clients.pop().channel.drop()


def hang_up(server: ServerProcess) -> str:
    """Send SIGHUP and return what the broker says about it."""
    assert isinstance(server.process, subprocess.Popen)
    assert server.process.stderr is not None
    server.process.send_signal(signal.SIGHUP)
    while b"SIGHUP" not in (line := server.process.stderr.readline()):
        assert line, "the broker ended"
    return line.decode().strip()


def heard(client: Client, by: Client, text: bytes) -> list[bytes]:
    """Publish as one client and return what the other has heard then."""
    by.publish("news/x", text, qos=1)
    return [each.payload for each in client.drain() if isinstance(each, Publish)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("reload"))
    with serving_process("--passwords", made.passwords, "--acl", made.acl) as server:
        made.server = server
        yield made


@pytest.fixture
def fresh(served: Served) -> Iterator[Served]:
    """Both files as they were, and in force."""
    served.write(OPEN, "ann", "bob")
    hang_up(served.server)
    yield served
    served.leave()


def test_rules_hold_for_connections_and_subscriptions_that_are_there(fresh: Served) -> None:
    ann, bob = fresh.come("ann"), fresh.come("bob")
    bob.subscribe("news/#")
    assert heard(bob, ann, b"before") == [b"before"]

    fresh.write("user ann\ntopic news/#\n", "ann", "bob")
    assert "0 connections ended" in hang_up(fresh.server)

    assert heard(bob, ann, b"after") == []


def test_users_come_and_go_and_a_password_that_is_gone_ends_its_connections(fresh: Served) -> None:
    ann, bob = fresh.come("ann"), fresh.come("bob")
    assert fresh.come("eve").connack.reason == Reason.BAD_USER_NAME_OR_PASSWORD

    fresh.write(OPEN, "ann", "eve")
    assert "1 connections ended" in hang_up(fresh.server)

    bob.expect_closed()
    assert ann.drain() == []
    assert fresh.come("bob", "again").connack.reason == Reason.BAD_USER_NAME_OR_PASSWORD
    assert fresh.come("eve").connack.reason == Reason.SUCCESS


def test_a_password_that_is_another_ends_its_connections(fresh: Served) -> None:
    ann = fresh.come("ann")

    fresh.write(OPEN, "bob", more=hash_password("ann", b"another") + "\n")
    hang_up(fresh.server)

    ann.expect_closed()


@pytest.mark.parametrize(
    ("acl", "more", "place"),
    [
        ("user ann\nnonsense here\n", "", "acl:2: 'nonsense here': a line is 'user NAME'"),
        ("", "ann:secret\n", "passwords:2: not 'user:$7$iterations$salt$hash'"),
    ],
)
def test_a_wrong_file_keeps_both_as_they_were_and_names_its_line(
    fresh: Served, acl: str, more: str, place: str
) -> None:
    ann = fresh.come("ann")
    ann.subscribe("news/#")

    fresh.write(acl, "bob", more=more)
    said = hang_up(fresh.server)

    assert said.startswith("ERROR")
    assert place in said
    assert said.endswith("passwords and access rules are what they were")
    assert heard(ann, ann, b"still") == [b"still"]
    assert fresh.come("ann", "second").connack.reason == Reason.SUCCESS


def test_a_file_that_is_gone_keeps_what_is_in_force(fresh: Served) -> None:
    fresh.acl.unlink()

    assert "cannot be read" in hang_up(fresh.server)
    assert fresh.come("ann").connack.reason == Reason.SUCCESS


def test_without_files_it_changes_nothing_and_the_broker_goes_on() -> None:
    with serving_process() as server:
        client = server.connect("c")

        assert "no password file and no access list" in hang_up(server)

        assert client.drain() == []
        client.channel.drop()
        assert server.stop() == 0

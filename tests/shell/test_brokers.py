import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.access import AccessError, create_access, find_broker_config
from orchestrator.adapters.broker_url import BrokerUnavailableError, BrokerUrl, BrokerUrlError
from orchestrator.adapters.brokers import Broker, open_broker, start_embedded, start_mosquitto
from schemas.access import RIGHTS, Right, Role, access_list
from schemas.topics import RULES, Kind

KINDS = ["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)]
START: dict[str, Callable[..., Any]] = {"embedded": start_embedded, "mosquitto": start_mosquitto}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt://broker", BrokerUrl("broker", 1883)),
        ("mqtts://broker", BrokerUrl("broker", 8883, is_tls=True)),
        ("mqtt://alice:p%40ss%2F@10.0.0.1:1884/", BrokerUrl("10.0.0.1", 1884, username="alice", password="p@ss/")),
        ("mqtt://[::1]:1883", BrokerUrl("::1", 1883)),
        ("MQTT://a@Broker", BrokerUrl("broker", 1883, username="a")),
    ],
)
def test_broker_url_is_read(text: str, expected: BrokerUrl) -> None:
    assert BrokerUrl.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "broker", "broker:1883", "http://broker", "ws://broker:9001", "mqtt://", "mqtt://:1883", "mqtt://b:0",
        "mqtt://b:99999", "mqtt://b:x", "mqtt://b/topic", "mqtt://b?x=1", "mqtt://b#f", "mqtt://[::1",
    ],
)  # fmt: skip
def test_broker_url_is_refused_with_an_example_when_it_is_something_else(text: str) -> None:
    with pytest.raises(BrokerUrlError, match=r"write mqtt://host:1883 or mqtts://host:8883"):
        BrokerUrl.parse(text)


@pytest.mark.parametrize("text", ["mqtt://alice:hunter2@b/x", "http://alice:hunter2@b", "mqtt://alice:hunter2@b:x"])
def test_password_is_in_no_refusal(text: str) -> None:
    with pytest.raises(BrokerUrlError) as refused:
        BrokerUrl.parse(text)

    assert "hunter2" not in str(refused.value)


def test_password_is_neither_in_the_text_nor_in_the_repr() -> None:
    url = BrokerUrl.parse("mqtts://alice:hunter2@[::1]")

    assert str(url) == "mqtts://alice@[::1]:8883"
    assert "hunter2" not in repr(url) + repr(Broker(url, 8883))


def test_named_broker_is_the_only_one_tried_when_nobody_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        pytest.raises(
            BrokerUnavailableError, match=f"no broker answers at mqtt://127.0.0.1:{port}: .*correct --broker"
        ),
        open_broker(f"mqtt://127.0.0.1:{port}", tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_named_broker_is_used_with_the_credentials_that_were_given(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtt://alice:pw@127.0.0.1:{server.getsockname()[1]}"
        with open_broker(url, tmp_path) as broker:
            assert broker.url_for("pi-1", is_device=True) == BrokerUrl.parse(url)


def test_missing_mosquitto_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(BrokerUnavailableError, match="apt install mosquitto"), start_mosquitto(tmp_path):
        pass


def test_taken_port_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(BrokerUnavailableError, match=f"If port {port} is taken, use the broker that is there"),
            start_embedded(tmp_path, port=port),
        ):
            pass


@pytest.mark.mosquitto
def test_broken_access_list_is_shown_when_mosquitto_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / "mosquitto.conf").write_text((find_broker_config() / "mosquitto.conf").read_text())
    monkeypatch.setattr("orchestrator.adapters.brokers.find_broker_config", lambda: config)
    monkeypatch.setattr("orchestrator.adapters.access.access_list", lambda *_: "nonsense")

    with (
        pytest.raises(BrokerUnavailableError, match=r"mosquitto did not start: .*broker\.log"),
        start_mosquitto(tmp_path / "own"),
    ):
        pass


# ---- Users ----------------------------------------------------------------------------------------------------------


def test_secrets_are_for_their_owner_only_and_kept_when_made_again(tmp_path: Path) -> None:
    first = create_access(tmp_path / "b", operators=["alice"], devices=["pi-1", "pi-2"])
    again = create_access(tmp_path / "b", operators=["alice", "bob"], devices=["pi-1"])

    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "b").iterdir()} == {0o600}
    assert again.passwords["alice"] == first.passwords["alice"]
    assert set(again.passwords) == {"orchestrator", "evaluator", "viewer", "pieces", "alice", "bob", "pi-1"}
    assert len(set(again.passwords.values())) == 7
    assert not any(password in repr(again) + again.password_file.read_text() for password in again.passwords.values())


@pytest.mark.parametrize(
    ("operators", "devices", "reason"),
    [
        (["a/b"], [], "no name for a user"),
        ([], ["pi:1"], "no name for a user"),
        ([], ["+"], "no name for a user"),
        (["orchestrator"], [], "named like a role"),
        ([], ["viewer"], "named like a role"),
        (["alice"], ["alice"], "two users are named 'alice'"),
    ],
)
def test_users_are_refused_when_one_could_pass_for_another(
    tmp_path: Path, operators: list[str], devices: list[str], reason: str
) -> None:
    with pytest.raises(AccessError, match=reason):
        create_access(tmp_path, operators=operators, devices=devices)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_damaged_credentials_are_refused_with_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "credentials.json").write_text(text)

    with pytest.raises(AccessError, match=r"credentials\.json: damaged; remove it"):
        create_access(tmp_path, operators=[], devices=[])


def test_the_access_list_that_is_shipped_is_the_one_that_is_made() -> None:
    assert (find_broker_config() / "acl").read_text() == access_list()


def test_nobody_may_publish_a_kind_of_message_but_its_sender_and_the_orchestrator_commands_to_clear_them() -> None:
    writers = {
        kind: {role for role, rights in RIGHTS.items() if any(may_write(right, kind) for right in rights)}
        for kind in Kind
    }

    senders = {kind: {Role(RULES[kind].sender)} for kind in Kind}
    assert writers == senders | {Kind.COMMAND: {Role.OPERATOR, Role.ORCHESTRATOR}}


def may_write(right: Right, kind: Kind) -> bool:
    return "write" in right.may and any(
        what is kind if isinstance(what, Kind) else RULES[kind].pattern.startswith(f"{what}/") for what in right.what
    )


def test_access_list_holds_the_operator_block_once_for_each_operator() -> None:
    acl = access_list(["alice", "bob"])

    assert "user operator\n" not in acl
    assert "/operator/" not in acl.partition("user orchestrator")[2]
    for name in ("alice", "bob"):
        assert acl.count(f"user {name}\n") == 1
        assert f"topic write fleet/v1/ops/{name}/cmd/+\n" in acl
        assert f"topic deny fleet/v1/device/{name}/#\n" in acl
        assert f"topic deny fleet/v1/health/+/{name}\n" in acl
    assert acl.count("user orchestrator\n") == acl.count("user viewer\n") == 1


def test_each_line_of_the_access_list_and_each_setting_has_its_reason_above_it() -> None:
    for name in ("acl", "mosquitto.conf"):
        sections = (find_broker_config() / name).read_text().split("\n\n")
        assert all(section.lstrip("\n").startswith(("#", "user ")) for section in sections)
    patterns = [line for line in (find_broker_config() / "acl").read_text().splitlines() if not line.startswith("#")]
    assert not any("ops/" in line for line in patterns if line.startswith("pattern")), "devices would command too"


# ---- Processes ------------------------------------------------------------------------------------------------------


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_broker_ends_with_the_block_also_when_it_fails(tmp_path: Path, kind: str) -> None:
    ports: list[int] = []

    def fail() -> None:
        with START[kind](tmp_path) as broker:
            ports.extend((broker.url.port, broker.device_port))
            assert all(map(is_listening, ports))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert not any(map(is_listening, ports))


_PARENT = """
import signal, sys, time
from pathlib import Path
from orchestrator.adapters.brokers import start_embedded, start_mosquitto
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
with globals()[sys.argv[1]](Path(sys.argv[2])) as broker:
    print(broker.url.port, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_broker_ends_when_its_parent_is_killed(tmp_path: Path, kind: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, f"start_{kind}", tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert is_listening(port)
        os.kill(parent.pid, number)

    wait_until(lambda: not is_listening(port))

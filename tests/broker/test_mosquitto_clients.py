"""Debian's mosquitto_pub, mosquitto_sub and mosquitto_rr work against the server with their default flags."""

import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.broker.broker_process import ServerProcess, serving_process

pytestmark = pytest.mark.mosquitto
VERSIONS = pytest.mark.parametrize("version", [[], ["-V", "5"]], ids=["v311", "v5"])


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_process() as started:
        yield started


def _run(server: ServerProcess, program: str, *options: str) -> str:
    done = subprocess.run(
        [program, "-p", str(server.port), *options], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), options
    return done.stdout


def _start(server: ServerProcess, program: str, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([program, "-p", str(server.port), *options], stdout=subprocess.PIPE, text=True)


def _await_subscriber(server: ServerProcess, topic: str) -> None:
    """Publish markers until somebody subscribed: MQTT 5 tells a publisher when nobody listens."""
    client = server.connect("probe")
    deadline = time.monotonic() + 10
    while client.publish(topic, b"marker") == 0x10:
        assert time.monotonic() < deadline, f"nobody subscribed to {topic}"
        time.sleep(0.01)
    client.drop()


@VERSIONS
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_message_goes_from_mosquitto_pub_to_mosquitto_sub(server: ServerProcess, version: list[str], qos: str) -> None:
    topic = f"live/{qos}/{len(version)}"
    with _start(server, "mosquitto_sub", *version, "-t", f"{topic}/#", "-q", qos, "-v", "-W", "15") as reader:
        assert reader.stdout is not None
        _await_subscriber(server, f"{topic}/probe")
        _run(server, "mosquitto_pub", *version, "-t", f"{topic}/a", "-q", qos, "-m", "hello wörld")
        lines = iter(reader.stdout.readline, "")
        assert next(line for line in lines if "probe" not in line) == f"{topic}/a hello wörld\n"
        reader.terminate()


@VERSIONS
def test_retained_message_is_found_and_cleared(server: ServerProcess, version: list[str]) -> None:
    topic = f"retained/{len(version)}"
    _run(server, "mosquitto_pub", *version, "-t", topic, "-r", "-m", "state")
    found = _run(server, "mosquitto_sub", *version, "-t", topic, "-C", "1", "-W", "10", "-F", "%r %p")
    assert found == "1 state\n"
    _run(server, "mosquitto_pub", *version, "-t", topic, "-r", "-n")
    client = server.connect("look")
    client.subscribe(topic)
    assert client.messages() == []
    client.drop()


@VERSIONS
def test_session_keeps_messages_for_mosquitto_sub(server: ServerProcess, version: list[str]) -> None:
    stay = [*version, "-c", "-i", f"stay{len(version)}", "-q", "1", "-t", f"stay/{len(version)}"]
    if version:
        stay += ["-x", "1000"]
    _run(server, "mosquitto_sub", *stay, "-E")
    for number in range(3):
        _run(server, "mosquitto_pub", *version, "-q", "1", "-t", f"stay/{len(version)}", "-m", str(number))
    assert _run(server, "mosquitto_sub", *stay, "-C", "3", "-W", "10") == "0\n1\n2\n"


@VERSIONS
def test_will_of_a_killed_mosquitto_sub_is_published(server: ServerProcess, version: list[str]) -> None:
    topic = f"will/{len(version)}"
    client = server.connect(topic)
    client.subscribe(f"{topic}/gone", 1)
    will = ["--will-topic", f"{topic}/gone", "--will-payload", "gone", "--will-qos", "1"]
    with _start(server, "mosquitto_sub", *version, "-t", f"{topic}/probe", *will) as victim:
        _await_subscriber(server, f"{topic}/probe")
        victim.kill()
    deadline = time.monotonic() + 10
    while not (found := client.payloads()):
        assert time.monotonic() < deadline
    assert found == [b"gone"]
    client.drop()


def test_request_finds_its_response(server: ServerProcess) -> None:
    client = server.connect("service")
    client.subscribe("service/ask")
    request = ["-V", "5", "-t", "service/ask", "-e", "service/answer", "-m", "question", "-W", "10"]
    with _start(server, "mosquitto_rr", *request) as asking:
        deadline = time.monotonic() + 10
        while not (found := client.messages()):
            assert time.monotonic() < deadline
        properties = found[0].properties
        assert properties.response_topic == "service/answer"
        client.publish("service/answer", b"answer")
        assert asking.communicate(timeout=10)[0] == "answer\n"
    client.drop()


def test_properties_reach_mosquitto_sub(server: ServerProcess) -> None:
    publish = ["-V", "5", "-t", "properties", "-r", "-m", "{}", "-D", "publish", "user-property", "key", "value"]
    expiry = ["-D", "publish", "message-expiry-interval", "1000", "-D", "publish", "content-type", "text/json"]
    _run(server, "mosquitto_pub", *publish, *expiry)
    found = _run(server, "mosquitto_sub", "-V", "5", "-t", "properties", "-C", "1", "-W", "10", "-F", "%C %P %E")
    assert found.split() == ["text/json", "key:value", "1000"]


def test_topic_alias_and_many_lines_work(server: ServerProcess) -> None:
    client = server.connect("lines")
    client.subscribe("lines", 1)
    done = subprocess.run(
        ["mosquitto_pub", "-V", "5", "-p", str(server.port), "-t", "lines", "-l", "-q", "1", "-D", "publish",
         "topic-alias", "3"],
        input="1\n2\n3\n", capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert client.payloads() == [b"1", b"2", b"3"]
    client.drop()

"""Passwords, private keys and tokens stay where they belong: in nothing that people, programs or the bus can see."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.adapters.keys import load_private, load_public
from orchestrator.adapters.registry import RegistryError, check_registry_url
from orchestrator.adapters.releases import build_release
from schemas.codec import encode
from schemas.topics import TOPIC_ROOT
from tests.device.device_world import AgentProcess, order_for, until
from tests.end_to_end.stage import Stage, environment_of, make_stage
from tests.shell.waiting_client import Client, connected

TOKEN = "canary-token-4711"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        made = make_stage(stack, tmp_path, ["pi-1"])
        made.start()
        yield made


def secrets_of(stage: Stage) -> dict[str, bytes]:
    """Everything that nobody may see, by what it is."""
    passwords = json.loads((stage.folder / "credentials.json").read_text())
    keys: dict[str, bytes] = {}
    for name in ("release", "command"):
        path = stage.folder / "keys" / f"{name}.key"
        raw = load_private(path).private_bytes_raw()
        keys |= {f"{name} raw": raw, f"{name} hex": raw.hex().encode(), f"{name} file": path.read_bytes().split()[-2]}
    return {name: value.encode() for name, value in passwords.items()} | keys | {"token": TOKEN.encode()}


def leaks(secrets: dict[str, bytes], seen: dict[str, bytes]) -> list[tuple[str, str]]:
    return [(name, place) for name, secret in secrets.items() for place, content in seen.items() if secret in content]


def arguments() -> bytes:
    """The command lines of all processes that this one may look at, but its own."""
    found = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if path.parent.name != str(os.getpid()):
            try:
                found += path.read_bytes()
            except OSError:
                continue
    return found


def type_command(url: BrokerUrl, *words: str) -> bytes:
    result = CliRunner().invoke(app, list(words), env=environment_of(url))
    return result.output.encode() + repr(result.exception).encode()


def agent_of(stage: Stage) -> AgentProcess:
    folder = stage.folder / "pi-1"
    folder.mkdir()
    url = stage.broker.url_for("pi-1", is_device=True)
    (folder / "password").touch(mode=0o600)
    (folder / "password").write_text(url.password or "")
    return AgentProcess(
        folder, f"mqtt://pi-1@{url.host}:{url.port}", password_file="password", log_level="debug",
        release_keys=[load_public(stage.folder / "keys" / "release.pub").hex()],
        command_keys=[load_public(stage.folder / "keys" / "command.pub").hex()],
    )  # fmt: skip


def order_with_a_token(stage: Stage) -> bytes:
    """An order whose addresses hold a password and a token, of a server that is not there."""
    key = load_private(stage.folder / "keys" / "release.key")
    built = build_release(
        stage.folder / "trees" / "1.2.0", release="lab-9", version="9", release_counter=9, command=["true"], key=key
    )
    desired = order_for(built, 1, f"http://fetch:{TOKEN}@127.0.0.1:9")
    assert desired.manifest is not None
    manifest = desired.manifest.model_copy(update={"urls": (f"{desired.manifest.urls[0]}?signature={TOKEN}",)})
    return encode(desired.model_copy(update={"manifest": manifest}))


def hear_everything(stage: Stage, listener: Client, agent: AgentProcess) -> bytes:
    """Let the agent fail to fetch, and return all that was said; but not the order, where the token stands."""
    order = f"{TOPIC_ROOT}/device/pi-1/desired"
    heard = b""
    agent.start()
    with connected(stage.broker, "orchestrator", client_id="orders") as orders:
        orders.publish(order, order_with_a_token(stage), retain=True)
        while b"download_failed" not in heard:
            topic, payload = listener.received.get(timeout=30)
            heard += topic.encode() + payload if topic != order else b""
    return heard


def test_no_secret_is_seen_in_logs_arguments_messages_reports_or_the_journal(stage: Stage) -> None:
    secrets, agent = secrets_of(stage), agent_of(stage)
    assert leaks(secrets, {"the file they are in": (stage.folder / "credentials.json").read_bytes()})
    alice = stage.operator()
    wrong = BrokerUrl(alice.host, alice.port, username="alice", password=secrets["pi-1"].decode())
    away = BrokerUrl("127.0.0.1", 9, username="alice", password=alice.password)
    try:
        with connected(stage.broker, "orchestrator", client_id="listener") as listener:
            listener.subscribe(["#"])
            seen = {"the bus": hear_everything(stage, listener, agent)}
        for place, url in (("an answer", alice), ("a wrong password", wrong), ("a broker that is away", away)):
            seen[place] = type_command(url, "list")
        seen["an address that is none"] = type_command(alice, "list", "--broker", f"mqtt://alice:{TOKEN}@host:99999")
        seen["arguments"] = arguments()
        until(lambda: b"download_failed" in agent.log.read_bytes())
    finally:
        agent.close()
    stage.stop()
    for path in [
        *stage.folder.glob("*.log"),
        agent.log,
        *stage.folder.glob("journal.db*"),
        *stage.folder.glob("state*"),
    ]:
        if path.is_file():
            seen[path.name] = path.read_bytes()
    for words in (("audit", "show"), ("report",)):
        seen[" ".join(words)] = type_command(alice, *words, "--folder", str(stage.folder))
    record = {path.name: path.read_bytes() for path in (agent.root / "state").rglob("*") if path.is_file()}
    del secrets["token"]  # an order that was accepted is kept as it is
    assert {"orchestrator.log", "broker.log", "agent.log", "journal.db"} <= set(seen)
    assert leaks({**secrets, "token": TOKEN.encode()}, seen) == []
    assert leaks(secrets, record) == []


@pytest.mark.parametrize(
    "url", [f"http://u:{TOKEN}@registry", f"https://registry/x?key={TOKEN}", "ftp://r", "http://["]
)
def test_address_that_the_fleet_is_told_holds_no_secret(url: str) -> None:
    with pytest.raises(RegistryError, match="write http://host:port") as caught:
        check_registry_url(url)

    assert TOKEN not in str(caught.value)


def test_key_files_are_for_their_owner_only(stage: Stage) -> None:
    private = [*(stage.folder / "keys").glob("*.key"), stage.folder / "credentials.json", stage.folder / "passwords"]
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}

"""``tidegate-agent status`` tells whose word counts on the device, and what is wrong with that."""

import subprocess
import sys
from pathlib import Path

import pytest

from device_client.adapters.trust import ROOTS, TrustRoot
from device_client.settings import Settings, load_settings, trust_of
from device_client.status import status_of, status_text
from schemas.codec import encode
from schemas.dsse import key_id
from schemas.times import parse_timestamp
from tests.core.trust_roots import document, make_root, public, role, signed

EXPIRES = "2028-01-31T00:00:00Z"
BEFORE, AFTER = parse_timestamp(EXPIRES) - 1, parse_timestamp(EXPIRES) + 1
FIRST = make_root()
SECOND = make_root(
    2,
    release=role("release-a", "release-b", threshold=2),
    revoked=("app-1.1.0",),
    release_counter_min=5,
    expires=EXPIRES,
)
CHAIN = encode(document(1, *(signed(each, "root-a", "root-b") for each in (FIRST, SECOND))))
PLAIN = """
device = "pi-1"
device_type = "pi"
arch = "aarch64"
region = "north"
group = "vision"
root = "root"
port = 8080
standby_port = 8081
broker = "mqtt://broker.local"
"""


def ids(*names: str) -> list[str]:
    return [key_id(bytes.fromhex(public(name))) for name in names]


def settings_of(folder: Path, more: str = 'trust_root = "first.json"') -> Settings:
    (folder / "first.json").write_bytes(signed(FIRST, "root-a", "root-b"))
    (folder / "agent.toml").write_text(PLAIN + more)
    (folder / "root" / "state").mkdir(parents=True, exist_ok=True)
    return load_settings(folder / "agent.toml")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a device that has followed its root to the second one."""
    made = settings_of(tmp_path)
    trust = trust_of(made, tmp_path / "root" / "state")
    assert isinstance(trust, TrustRoot)
    trust.learn(CHAIN)
    return made


def test_the_root_in_force_is_told_and_not_the_one_of_the_settings(settings: Settings) -> None:
    status = status_of(settings, BEFORE)

    assert status["trust"] == {
        "source": "root",
        "version": 2,
        "release_keys": ids("release-a", "release-b"),
        "release_threshold": 2,
        "command_keys": ids("command"),
        "revoked": ["app-1.1.0"],
        "release_counter_min": 5,
        "expires": EXPIRES,
        "expired": False,
        "problem": "",
    }
    text = status_text(status)
    assert f"trust     root 2, until {EXPIRES}\n" in text
    assert "revoked   app-1.1.0, every counter below 5\n" in text
    assert f"releases  signed by 2 of {', '.join(ids('release-a', 'release-b'))}\n" in text
    assert f"grants    signed by {ids('command')[0]}\n" in text
    assert "PROBLEM" not in text


def test_a_root_that_has_expired_is_a_problem(settings: Settings) -> None:
    status = status_of(settings, AFTER)

    assert status["trust"]["expired"] is True
    assert f"PROBLEM   root 2 expired on {EXPIRES}" in status_text(status)
    assert "nothing new is activated until a newer root comes" in status["trust"]["problem"]


def test_a_clock_that_was_never_set_tells_nothing_about_expiry(settings: Settings) -> None:
    status = status_of(settings, 100.0)

    assert status["trust"]["expired"] is None
    assert "clock was never set" in status_text(status)


def test_a_damaged_chain_is_a_problem_that_names_file_and_what_follows(settings: Settings, tmp_path: Path) -> None:
    kept = tmp_path / "root" / "state" / ROOTS
    kept.write_bytes(kept.read_bytes()[:-5])

    trust = status_of(settings, BEFORE)["trust"]

    assert trust["version"] == 1
    assert trust["problem"].startswith(f"{kept} is damaged (")
    assert "root 1 of the settings is in force, until newer ones come with the next connect" in trust["problem"]


def test_a_pinned_root_that_is_missing_leaves_the_rest_to_be_shown(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "first.json").unlink()

    status = status_of(settings, BEFORE)

    assert status["phase"] == "idle"
    assert "nothing can be verified: key 'trust_root'" in status["trust"]["problem"]
    assert "PROBLEM" in status_text(status)


def test_keys_of_the_settings_are_told_by_their_ids(tmp_path: Path) -> None:
    keys = f'release_keys = ["{public("release-a")}"]\ncommand_keys = ["{public("command")}"]\n'

    status = status_of(settings_of(tmp_path, keys), BEFORE)

    assert status["trust"]["source"] == "settings"
    assert (status["trust"]["release_keys"], status["trust"]["command_keys"]) == (ids("release-a"), ids("command"))
    assert "trust     the keys in its settings\n" in status_text(status)


@pytest.mark.usefixtures("settings")
def test_the_command_prints_it_for_people(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "device_client", "status", "--text", "--config", str(tmp_path / "agent.toml")]

    text = subprocess.check_output(command, text=True)

    assert text.startswith("device    pi-1\nphase     idle, generation 0\n")
    assert "trust     root 2" in text

"""What people have written by hand into a broker's folder is kept, or ``broker-config`` refuses and says what to do."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.adapters.access import hash_passwords
from tests.cli.requests_made import request
from tests.cli.test_broker_config import files, made, run

HOLD = "topic write fleet/v1/all/hold\n"
HOME = "user homeassistant\ntopic readwrite homeassistant/#\n"
FORMS = [(), ("--tls", "--host", "localhost")]
TLS = FORMS[1]


def acl(folder: Path) -> Path:
    return folder / "broker" / "acl"


def block(folder: Path, user: str) -> str:
    """Return the lines of one user."""
    return acl(folder).read_text().partition(f"user {user}\n")[2].partition("\nuser ")[0]


def take_the_brake_away(folder: Path, user: str) -> None:
    mine = block(folder, user)
    acl(folder).write_text(acl(folder).read_text().replace(mine, mine.replace(HOLD, "")))


def forget_what_was_written(folder: Path) -> None:
    """Make it a folder of a version that did not note it."""
    (folder / "written.json").unlink()


@pytest.mark.parametrize("is_noted", [True, False])
@pytest.mark.parametrize(
    ("form", "change"),
    [
        ((), ("--add-device", "pi-2")), ((), ("--revoke", "pi-1")), ((), ("--rewrite",)), ((), ("--add-operator", "c")),
        (TLS, ("--add-device", "pi-2")), (TLS, ("--revoke", "pi-1")), (TLS, ("--renew-server", "--renew", "alice")),
        (TLS, ("--sign", "pi-2.csr")), (TLS, ("--renew", "alice", "--revoke", "pi-1")),
    ],
)  # fmt: skip
def test_a_right_that_was_taken_out_or_added_by_hand_is_not_written_over(
    tmp_path: Path, form: tuple[str, ...], change: tuple[str, ...], is_noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = made(tmp_path / "access", "--operator", "bob", *form)
    request(tmp_path, "pi-2", "pi-2")
    take_the_brake_away(folder, "bob")
    with acl(folder).open("a") as file:
        file.write(f"\n{HOME}")
    if not is_noted:
        forget_what_was_written(folder)
    before = files(folder)

    refused = run(folder, *change)

    assert refused.exit_code == 1, refused.output
    for said in (
        "added: user homeassistant: topic readwrite homeassistant/#",
        "taken out: user bob: topic write fleet/v1/all/hold",
        f"{folder}/acl.local",
        "--without-brake",
    ):
        assert said in refused.output
    assert files(folder) == before


@pytest.mark.parametrize("form", FORMS)
def test_what_the_refusal_advises_keeps_the_rights_through_every_change_that_follows(
    tmp_path: Path, form: tuple[str, ...]
) -> None:
    folder = made(tmp_path / "access", "--operator", "bob", "--operator", "homeassistant", *form)
    take_the_brake_away(folder, "bob")
    with acl(folder).open("a") as file:
        file.write(f"\n{HOME}")
    (folder / "acl.local").write_text(HOME)
    acl(folder).unlink()

    assert run(folder, "--without-brake", "bob", "--add-device", "pi-2").exit_code == 0
    for change in (("--add-device", "pi-3"), ("--add-operator", "carol"), ("--revoke", "pi-1"), ("--rewrite",)):
        assert run(folder, *change).exit_code == 0
        assert HOLD not in block(folder, "bob")
        assert HOLD in block(folder, "alice")
        assert acl(folder).read_text().endswith(HOME)
    assert HOLD in block(folder, "carol")

    assert run(folder, "--with-brake", "bob").exit_code == 0
    assert HOLD in block(folder, "bob")


def test_what_was_moved_to_where_it_belongs_no_longer_differs(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--operator", "bob")
    take_the_brake_away(folder, "bob")
    with acl(folder).open("a") as file:
        file.write(f"\n{HOME}")
    (folder / "acl.local").write_text(HOME)

    result = run(folder, "--without-brake", "bob")

    assert result.exit_code == 0, result.output
    assert HOLD not in block(folder, "bob")


def test_a_person_is_let_in_without_the_brake_from_the_first_moment(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--operator", "bob", "--without-brake", "bob")
    assert (HOLD in block(folder, "alice"), HOLD in block(folder, "bob")) == (True, False)

    assert run(folder, "--add-operator", "carol", "--without-brake", "carol").exit_code == 0
    assert HOLD not in block(folder, "carol")

    assert run(folder, "--revoke", "bob").exit_code == 0
    assert json.loads((folder / "users.json").read_text())["without_brake"] == ["carol"]


def test_what_another_version_has_written_is_written_anew_without_a_word(tmp_path: Path) -> None:
    folder = made(tmp_path / "access")
    record = json.loads((folder / "written.json").read_text())
    older = acl(folder).read_text().replace("topic write fleet/v1/ops/+/cmd/+\n", "")
    acl(folder).write_text(older)
    (folder / "written.json").write_text(json.dumps(record | {"acl": [sha256_of(acl(folder))]}))

    result = run(folder, "--add-device", "pi-2")

    assert result.exit_code == 0, result.output
    assert "topic write fleet/v1/ops/+/cmd/+\n" in acl(folder).read_text()


def sha256_of(path: Path) -> str:
    return subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True, timeout=20).stdout.split()[0]


@pytest.mark.parametrize("last", ["acl", "passwords", "users.json"])
def test_a_change_that_was_interrupted_is_no_change_by_hand(
    tmp_path: Path, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, replace = made(tmp_path / "access"), Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if Path(target).name == last:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        assert run(folder, "--add-operator", "bob").exit_code != 0

    assert run(folder, "--add-device", "pi-9").exit_code == 0, "another change than the one that was interrupted"
    assert run(folder, "--add-operator", "bob").exit_code == 0
    assert HOLD in block(folder, "bob")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("topic read secret/#\n", "acl.local: a `topic` line belongs below the user whose it is"),
        ("user x\ntopic read a\nallow all\n", "acl.local:3: 'allow all' is no line of an access list"),
        ("user x\ntopic wirte a\n", "acl.local:2: 'topic wirte a' is no line of an access list"),
        ("user\n", "acl.local:1: 'user' is no line of an access list"),
        ("user x\ntopic read\n", "acl.local:2: 'topic read' is no line of an access list"),
    ],
)
def test_rights_of_their_own_that_a_broker_would_refuse_or_give_to_somebody_else_are_named(
    tmp_path: Path, text: str, why: str
) -> None:
    folder = made(tmp_path / "access")
    (folder / "acl.local").write_text(text)
    before = files(folder)

    refused = run(folder, "--add-device", "pi-2")

    assert (refused.exit_code, why in refused.output) == (1, True), refused.output
    assert files(folder) == before


def test_init_said_again_for_a_new_device_writes_over_nothing_either(tmp_path: Path) -> None:
    def init(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["init", str(tmp_path / "fleet"), *arguments])

    assert init("--operator", "bob", "--device", "pi-1").exit_code == 0
    folder, inventory = tmp_path / "fleet" / "access", tmp_path / "fleet" / "inventory.csv"
    take_the_brake_away(folder, "bob")
    inventory.write_text(f"{inventory.read_text()}pi-2,generic,here,default\n")
    before = files(tmp_path / "fleet")

    refused = init()

    assert (refused.exit_code, "taken out: user bob: topic write fleet/v1/all/hold" in refused.output) == (1, True)
    assert files(tmp_path / "fleet") == before
    assert run(folder, "--without-brake", "bob").exit_code == 0
    assert init().exit_code == 0
    assert (HOLD in block(folder, "bob"), (folder / "clients" / "pi-2").is_dir()) == (False, True)


def test_rights_of_their_own_may_be_there_before_the_folder(tmp_path: Path) -> None:
    (tmp_path / "access").mkdir()
    (tmp_path / "access" / "acl.local").write_text(HOME)

    assert acl(made(tmp_path / "access")).read_text().endswith(HOME)


# ---- Passwords ------------------------------------------------------------------------------------------------------


def lines(folder: Path) -> dict[str, str]:
    text = (folder / "broker" / "passwords").read_text()
    return {line.partition(":")[0]: f"{line}\n" for line in text.splitlines()}


CHANGES: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "added: carol": lambda kept: kept | {"carol": hash_passwords({"carol": "x"})},
    "taken out: alice": lambda kept: {name: line for name, line in kept.items() if name != "alice"},
    "another password: alice": lambda kept: kept | {"alice": hash_passwords({"alice": "hers"})},
}


@pytest.mark.parametrize("is_noted", [True, False])
@pytest.mark.parametrize("what", CHANGES)
def test_a_password_that_was_changed_by_hand_is_not_written_over(tmp_path: Path, what: str, is_noted: bool) -> None:
    folder = made(tmp_path / "access")
    (folder / "broker" / "passwords").write_text("".join(CHANGES[what](lines(folder)).values()))
    if not is_noted:
        forget_what_was_written(folder)
    before = files(folder)

    refused = run(folder, "--add-device", "pi-2")

    assert (refused.exit_code, f"({what})" in refused.output) == (1, True), refused.output
    assert "credentials.json" in refused.output
    assert files(folder) == before

    (folder / "broker" / "passwords").unlink()
    assert run(folder, "--add-device", "pi-2").exit_code == 0, "as the refusal says"


def test_passwords_that_nobody_has_changed_are_known_also_in_a_folder_of_the_version_before(tmp_path: Path) -> None:
    folder = made(tmp_path / "access")
    forget_what_was_written(folder)

    assert run(folder, "--add-device", "pi-2").exit_code == 0


def test_a_password_of_ones_own_choice_comes_from_the_credentials(tmp_path: Path) -> None:
    folder = made(tmp_path / "access")
    chosen = json.loads((folder / "credentials.json").read_text()) | {"alice": "her own"}
    (folder / "credentials.json").write_text(json.dumps(chosen))
    before = lines(folder)["alice"]

    assert run(folder, "--rewrite").exit_code == 0

    assert lines(folder)["alice"] != before
    assert json.loads((folder / "credentials.json").read_text())["alice"] == "her own"


def test_passwords_of_others_on_the_same_broker_stay(tmp_path: Path) -> None:
    folder, other = made(tmp_path / "access"), hash_passwords({"zigbee": "x"})
    (folder / "passwords.local").write_text(other)
    assert run(folder, "--rewrite").exit_code == 0
    forget_what_was_written(folder)

    assert run(folder, "--add-device", "pi-2").exit_code == 0
    assert lines(folder)["zigbee"] == other

    refused = run(folder, "--add-operator", "zigbee")
    assert (refused.exit_code, "'zigbee' has a password already" in refused.output) == (1, True)

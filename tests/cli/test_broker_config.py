"""``tidegate broker-config``: what it writes, what it refuses, and what it says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.adapters.access import find_broker_config
from schemas.access import access_list
from tests.cli.requests_made import Key, request


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["broker-config", str(folder), *arguments])


def made(folder: Path, *arguments: str) -> Path:
    result = run(folder, "--operator", "alice", "--device", "pi-1", *arguments)
    assert result.exit_code == 0, result.output
    return folder


def settings(folder: Path) -> list[str]:
    lines = (folder / "broker" / "mosquitto.conf").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def shipped(name: str) -> list[str]:
    lines = (find_broker_config() / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_passwords_come_with_the_shipped_settings_and_the_paths_of_the_folder(tmp_path: Path) -> None:
    folder = made(tmp_path / "access")

    expected = [line.replace("/mosquitto/config/", f"{folder}/broker/") for line in shipped("mosquitto.conf")]
    expected = [line.replace("/mosquitto/data/", f"{folder}/broker/data/") for line in expected]
    assert settings(folder) == expected
    assert (folder / "broker" / "acl").read_text() == access_list(["alice"])
    passwords = json.loads((folder / "credentials.json").read_text())
    assert set(passwords) == {"orchestrator", "evaluator", "viewer", "pieces", "alice", "pi-1"}
    assert {line.split(":")[0] for line in (folder / "broker" / "passwords").read_text().splitlines()} == set(passwords)
    assert not list(folder.glob("broker/*credentials*")), "the broker needs hashes only"


def test_certificates_come_without_passwords(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "broker.example", "--host", "10.0.0.7")

    assert not any("password" in line for line in settings(folder))
    assert [line for line in settings(folder) if line.startswith("listener")] == ["listener 8883", "listener 8884"]
    assert settings(folder).count("require_certificate true") == 2
    named = certificate(folder / "broker" / "server.crt").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert named.value.get_values_for_type(x509.DNSName) == ["broker.example"]
    assert [str(each) for each in named.value.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    tools, devices = (certificate(folder / "broker" / f"{name}.crt") for name in ("ca", "devices-ca"))
    certificate(folder / "clients" / "alice" / "client.crt").verify_directly_issued_by(tools)
    certificate(folder / "clients" / "pi-1" / "client.crt").verify_directly_issued_by(devices)
    assert not list((folder / "broker").glob("*ca.key"))


def test_browsers_get_a_port_with_peoples_passwords_beside_the_certificates(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "broker.example", "--browser-port", "9443")

    assert set(json.loads((folder / "credentials.json").read_text())) == {"viewer", "alice"}, "devices have none"
    assert settings(folder)[-4:] == [
        "listener 9443",
        "protocol websockets",
        f"certfile {folder}/broker/server.crt",
        f"keyfile {folder}/broker/server.key",
    ]
    assert f"password_file {folder}/broker/passwords" in settings(folder)
    assert settings(folder).count("require_certificate true") == 2


def test_each_user_is_told_the_brokers_address_and_a_new_one_too(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "old.example")
    assert (folder / "clients" / "pi-1" / "broker.url").read_text() == "mqtts://old.example:8883"

    assert run(folder, "--renew-server", "--host", "fe80::7").exit_code == 0

    assert (folder / "clients" / "pi-1" / "broker.url").read_text() == "mqtts://[fe80::7]:8883"
    assert (folder / "clients" / "alice" / "broker.url").read_text() == "mqtts://[fe80::7]:8884"


def test_what_is_written_for_2_1_uses_its_plugins_and_says_nothing_else_differently(tmp_path: Path) -> None:
    new, old = made(tmp_path / "new", "--mosquitto", "2.1", "--plugins", "/opt/lib"), made(tmp_path / "old")

    here = [line.replace("/new/", "/old/") for line in settings(new)]
    assert [line for line in here if line not in settings(old)] == [
        "global_plugin /opt/lib/mosquitto_password_file.so",
        f"plugin_opt_password_file {old}/broker/passwords",
        "global_plugin /opt/lib/mosquitto_acl_file.so",
        f"plugin_opt_acl_file {old}/broker/acl",
    ]
    assert [line for line in settings(old) if line not in here] == [
        f"password_file {old}/broker/passwords",
        f"acl_file {old}/broker/acl",
    ]


def test_paths_and_ports_are_those_of_the_brokers_machine(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--place", "/etc/mosquitto/fleet", "--device-port", "21", "--tools-port", "22")

    assert "acl_file /etc/mosquitto/fleet/acl" in settings(folder)
    assert not any(str(tmp_path) in line for line in settings(folder))
    assert [line for line in settings(folder) if line.startswith("listener")][:2] == ["listener 21", "listener 22"]


def test_devices_come_from_an_inventory(tmp_path: Path) -> None:
    inventory = tmp_path / "fleet.csv"
    inventory.write_text("device,region\ncam-1,eu\ncam-2,eu\n")

    folder = made(tmp_path / "access", "--devices-file", str(inventory))

    assert json.loads((folder / "users.json").read_text())["devices"] == ["pi-1", "cam-1", "cam-2"]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", [(), ("--tls", "--host", "localhost")])
def test_nothing_is_overwritten(tmp_path: Path, form: tuple[str, ...]) -> None:
    folder = made(tmp_path / "access", *form)
    before = files(folder)

    refused = run(folder, "--operator", "bob", *form)

    assert refused.exit_code == 1
    assert "is there already" in refused.output
    assert "--add-device" in refused.output
    assert files(folder) == before


@pytest.mark.parametrize("form", [(), ("--tls", "--host", "localhost")])
def test_who_is_added_later_is_let_in_and_everybody_else_keeps_what_they_have(
    tmp_path: Path, form: tuple[str, ...]
) -> None:
    folder = made(tmp_path / "access", *form)
    (folder / "broker" / "mosquitto.conf").write_text("# its owner has changed it")
    before = files(folder)

    result = run(folder, "--add-device", "pi-2", "--add-operator", "bob")

    assert result.exit_code == 0, result.output
    assert (folder / "broker" / "acl").read_text() == access_list(["alice", "bob"])
    after = files(folder)
    secrets = [name for name in before if name.startswith(("clients/", "authority/", "broker/server", "broker/mosq"))]
    assert all(after[name] == before[name] for name in secrets)
    if form:
        assert {name for name in after if "/pi-2/" in name} == {
            f"clients/pi-2/{name}" for name in ("broker.url", "ca.crt", "client.crt", "client.key")
        }
    else:
        old, new = (json.loads(each["credentials.json"]) for each in (before, after))
        assert new == {**old, "pi-2": new["pi-2"], "bob": new["bob"]}


def test_who_is_revoked_stands_in_the_list_with_every_certificate_of_the_name(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "localhost")
    run(folder, "--renew", "pi-1")
    known = [certificate(path).serial_number for path in (folder / "clients" / "pi-1").glob("*.crt")]

    result = run(folder, "--revoke", "pi-1")

    revoked = x509.load_pem_x509_crl((folder / "broker" / "devices-ca.crl").read_bytes())
    authority = certificate(folder / "broker" / "devices-ca.crt")
    assert len(list(revoked)) == 2
    assert {each.serial_number for each in revoked} < set(known)
    assert authority.serial_number not in {each.serial_number for each in revoked}
    assert revoked.next_update_utc == authority.not_valid_after_utc, "one that runs out locks everybody out"
    assert "stays open until it is cut" in result.output
    assert not (folder / "clients" / "pi-1").exists()
    assert list(x509.load_pem_x509_crl((folder / "broker" / "ca.crl").read_bytes())) == []

    assert run(folder, "--add-device", "pi-1").exit_code == 0, "the name is free for another device"
    assert len(list(x509.load_pem_x509_crl((folder / "broker" / "devices-ca.crl").read_bytes()))) == 2


def test_a_device_keeps_its_key_and_gets_a_certificate_for_it(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "localhost")
    own = ec.generate_private_key(ec.SECP256R1())

    result = run(folder, "--sign", str(request(tmp_path, "pi-2", "pi-2", own)))

    assert result.exit_code == 0, result.output
    assert "# its own, which it has made" in result.output
    client = folder / "clients" / "pi-2"
    assert sorted(path.name for path in client.iterdir()) == ["broker.url", "ca.crt", "client.crt"]
    signed, authority = certificate(client / "client.crt"), certificate(folder / "broker" / "devices-ca.crt")
    signed.verify_directly_issued_by(authority)
    assert signed.public_key() == own.public_key()
    assert signed.subject == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pi-2")])
    assert json.loads((folder / "users.json").read_text())["devices"] == ["pi-1", "pi-2"]
    purposes = signed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_what_is_asked_for_beside_name_and_key_is_not_given(tmp_path: Path) -> None:
    folder, own = made(tmp_path / "access", "--tls", "--host", "localhost"), ec.generate_private_key(ec.SECP256R1())
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pi-2")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(own, hashes.SHA256())
    )
    (tmp_path / "pi-2.csr").write_bytes(greedy.public_bytes(Encoding.PEM))

    assert run(folder, "--sign", str(tmp_path / "pi-2.csr")).exit_code == 0

    signed = certificate(folder / "clients" / "pi-2" / "client.crt")
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_device_that_signs_anew_keeps_its_key_and_both_certificates_are_revoked_with_it(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "localhost")
    assert run(folder, "--sign", str(request(tmp_path, "pi-1", "pi-1"))).exit_code == 0
    assert not (folder / "clients" / "pi-1" / "client.key").exists()

    refused = run(folder, "--renew", "pi-1")
    assert (refused.exit_code, "use --sign" in refused.output) == (1, True)
    assert run(folder, "--revoke", "pi-1").exit_code == 0

    assert len(list(x509.load_pem_x509_crl((folder / "broker" / "devices-ca.crl").read_bytes()))) == 2


@pytest.mark.parametrize(
    ("file", "name", "key", "why"),
    [
        ("pi-2", "pi-1", None, "asks for 'pi-1'; a request of 'pi-2' must name it"),
        ("orchestrator", "orchestrator", None, "two users are named 'orchestrator'"),
        ("alice", "alice", None, "two users are named 'alice'"),
        ("pi 2", "pi 2", None, "'pi 2' is no name for a user"),
        ("pi-2", "pi-2", rsa.generate_private_key(65537, 1024), "weak or rare kind"),
        ("pi-2", "pi-2", ec.generate_private_key(ec.SECP224R1()), "weak or rare kind"),
        ("pi-2", "pi-2", ed25519.Ed25519PrivateKey.generate(), "weak or rare kind"),
    ],
)
def test_a_request_that_must_not_be_signed_changes_nothing(
    tmp_path: Path, file: str, name: str, key: Key | None, why: str
) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "localhost")
    path, before = request(tmp_path, file, name, key), files(folder)

    refused = run(folder, "--sign", str(path))

    assert (refused.exit_code, why in refused.output) == (1, True), refused.output
    assert files(folder) == before


def test_a_request_that_is_damaged_or_signed_by_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "localhost")
    path = request(tmp_path, "pi-2", "pi-2")
    raw = bytearray(x509.load_pem_x509_csr(path.read_bytes()).public_bytes(Encoding.DER))
    raw[raw.index(b"pi-2") : raw.index(b"pi-2") + 4] = b"pi-3"
    stolen = x509.load_der_x509_csr(bytes(raw)).public_bytes(Encoding.PEM)
    before = files(folder)

    for file, content, why in (
        ("pi-3.csr", stolen, "not by its own key"),
        ("pi-2.csr", path.read_bytes()[:200], "is no certificate request in PEM; make one with openssl req"),
        ("pi-2.csr", b"", "is no certificate request in PEM"),
    ):
        (tmp_path / file).write_bytes(content)
        refused = run(folder, "--sign", str(tmp_path / file))
        assert (refused.exit_code, why in refused.output) == (1, True), refused.output
    assert "No such file" in run(folder, "--sign", str(tmp_path / "none.csr")).output
    assert files(folder) == before


@pytest.mark.parametrize("how", ["--sign", "--renew"])
def test_a_device_keeps_its_certificate_where_the_authority_is_elsewhere(tmp_path: Path, how: str) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "localhost")
    (folder / "authority").rename(tmp_path / "safe")
    path, before = request(tmp_path, "pi-1", "pi-1"), files(folder)

    refused = run(folder, how, str(path) if how == "--sign" else "pi-1")

    assert (refused.exit_code, "put it back to issue certificates" in refused.output) == (1, True)
    assert files(folder) == before


def test_a_folder_with_passwords_signs_nothing(tmp_path: Path) -> None:
    refused = run(made(tmp_path / "access"), "--sign", str(request(tmp_path, "pi-2", "pi-2")))

    assert (refused.exit_code, "one with passwords" in refused.output) == (1, True)


def test_a_revocation_that_was_interrupted_is_finished_when_it_is_typed_again(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "localhost")
    users = (folder / "users.json").read_bytes()
    run(folder, "--revoke", "pi-1")
    (folder / "users.json").write_bytes(users)

    assert run(folder, "--revoke", "pi-1").exit_code == 0

    assert json.loads((folder / "users.json").read_text())["devices"] == []


def test_a_folder_without_its_authority_says_what_is_missing(tmp_path: Path) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "localhost")
    (folder / "authority").rename(tmp_path / "safe")

    refused = run(folder, "--add-device", "pi-2")

    assert (refused.exit_code, "devices-ca.key: No such file" in refused.output) == (1, True)
    assert "put it back" in refused.output


def is_a_pair(folder: Path) -> bool:
    key = load_pem_private_key((folder / "broker" / "server.key").read_bytes(), None)
    return key.public_key() == certificate(folder / "broker" / "server.crt").public_key()


def test_broker_keeps_its_certificate_where_the_authority_is_elsewhere_and_gets_another_when_it_is_back(
    tmp_path: Path,
) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "old.example")
    (folder / "authority").rename(tmp_path / "safe")
    before = files(folder)

    refused = run(folder, "--renew-server", "--host", "new.example")

    assert (refused.exit_code, "put it back to issue certificates" in refused.output) == (1, True)
    assert files(folder) == before

    (tmp_path / "safe").rename(folder / "authority")
    assert run(folder, "--renew-server", "--host", "new.example").exit_code == 0
    assert is_a_pair(folder)
    assert (folder / "broker" / "server.crt").read_bytes() != before["broker/server.crt"]
    assert (folder / "clients" / "pi-1" / "broker.url").read_text() == "mqtts://new.example:8883"


@pytest.mark.parametrize("left", [(), ("server.key",), ("server.crt",)])
def test_a_broker_without_its_certificate_or_with_a_half_of_it_gets_another(
    tmp_path: Path, left: tuple[str, ...]
) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "localhost")
    for name in {"server.key", "server.crt"} - set(left):
        (folder / "broker" / name).unlink()
    (folder / "clients" / "pi-1").rename(tmp_path / "handed-out")

    result = run(folder, "--renew-server")

    assert result.exit_code == 0, result.output
    assert is_a_pair(folder)
    assert (folder / "broker" / "server.key").stat().st_mode & 0o777 == 0o600
    assert not list((folder / "broker").glob(".*"))


@pytest.mark.parametrize("moves", [0, 1])
def test_a_renewal_of_the_brokers_certificate_that_was_interrupted_is_repeated(
    tmp_path: Path, moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "localhost")
    moved: list[Path] = []
    before, replace = files(folder), Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if len(moved) == moves:
            raise KeyboardInterrupt
        moved.append(target)
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        assert run(folder, "--renew-server").exit_code != 0
    names = ("broker/server.key", "broker/server.crt")
    assert [files(folder)[name] == before[name] for name in names] == [moves == 0, True]

    assert run(folder, "--renew-server").exit_code == 0
    assert is_a_pair(folder)
    assert [files(folder)[name] == before[name] for name in names] == [False, False]


def test_password_of_somebody_who_is_revoked_is_gone(tmp_path: Path) -> None:
    folder = made(tmp_path / "access")

    assert run(folder, "--revoke", "alice").exit_code == 0

    assert "alice" not in (folder / "broker" / "passwords").read_text()
    assert "user alice" not in (folder / "broker" / "acl").read_text()


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_a_configuration_that_would_forget_the_brake_of_who_is_revoked_is_named(tmp_path: Path, version: str) -> None:
    folder = made(tmp_path / "access", "--operator", "bob", "--mosquitto", version)
    assert "check_retain_source false" in settings(folder)
    assert "check_retain_source" not in run(folder, "--revoke", "bob").output
    conf = folder / "broker" / "mosquitto.conf"
    conf.write_text(conf.read_text().replace("\ncheck_retain_source false", ""))  # the default is true

    said = run(folder, "--revoke", "alice").output

    assert f"Write `check_retain_source false` into {conf} before" in said
    assert "if alice pulled it" in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--tls",), "add --host NAME"),
        (("--operator", "a/b"), "'a/b' is no name for a user"),
        (("--device", "pi-1\x00"), "no name for a user"),
        (("--device", "orchestrator"), "named like a role"),
        (("--revoke", "alice"), "make the folder first"),
        (("--add-device", "pi-1"), "make the folder first"),
        (("--tls", "--host", "bröker"), "no name of a host"),
        (("--host", "broker\nallow_anonymous true"), "no name of a host"),
        (("--place", "/etc/x\nallow_anonymous true"), "cannot stand in mosquitto's configuration"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...], why: str
) -> None:
    refused = run(tmp_path / "access", *arguments)

    assert refused.exit_code == 1
    assert why in refused.output
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--revoke", "nobody"), "'nobody' is no operator"),
        (("--revoke", "orchestrator"), "'orchestrator' is no operator"),
        (("--renew", "../../etc"), "has no certificate here"),
        (("--add-device", "pi-1"), "two users are named 'pi-1'"),
        (("--add-device", "pi-9", "--operator", "bob"), "added with --add-device"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    folder = made(tmp_path / "access", "--tls", "--host", "localhost")
    before = files(folder)

    refused = run(folder, *arguments)

    assert (refused.exit_code, why in refused.output) == (1, True), refused.output
    assert files(folder) == before


@pytest.mark.parametrize("arguments", [("--operator", "alice"), ("--add-device", "pi-9")])
def test_a_reader_of_its_words_that_has_gone_is_no_trouble_with_the_folder(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    folder = tmp_path / "access" if "--operator" in arguments else made(tmp_path / "access")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "orchestrator", "broker-config", str(folder), *arguments]

    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=60, check=False)

    assert "make it readable and writable" not in done.stderr, done.stderr
    assert "error:" not in done.stderr
    assert arguments[1] in (folder / "users.json").read_text()


def test_next_steps_name_files_that_are_there(tmp_path: Path) -> None:
    result = run(tmp_path / "a", "--operator", "alice", "--device", "pi-1", "--tls", "--host", "localhost")

    named = re.findall(rf"{tmp_path}\S*", result.output)
    assert len(named) >= 6
    assert [path for path in named if not Path(path.rstrip(",:")).exists()] == []
    assert 'broker = "mqtts://localhost:8883"' in result.output
    assert f"export TIDEGATE_CLIENT={tmp_path}/a/clients/alice" in result.output

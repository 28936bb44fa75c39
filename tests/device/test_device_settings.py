import subprocess
import sys
from pathlib import Path

import pytest

from device_client.adapters.tls import Tls
from device_client.settings import SettingsError, broker_of, load_settings, trust_of
from tests.core.trust_roots import make_root, signed
from tests.device.device_world import AgentProcess

KEY = "ab" * 32
GOOD = f"""
device = "pi-1"
device_type = "pi"
arch = "aarch64"
region = "north"
group = "vision"
root = "root"
port = 8080
standby_port = 8081
broker = "mqtt://pi-1:p%40ss@broker.local:1884"
release_keys = ["{KEY}"]
command_keys = ["{KEY}"]
"""


def load(tmp_path: Path, text: str) -> object:
    (tmp_path / "agent.toml").write_text(text)
    return load_settings(tmp_path / "agent.toml")


def test_settings_are_read_and_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(GOOD)

    settings = load_settings(tmp_path / "agent.toml")

    assert settings.root == str(tmp_path / "root")
    assert settings.release_keys == (bytes.fromhex(KEY),)
    broker = broker_of(settings)
    assert (broker.host, broker.port, broker.user, broker.password) == ("broker.local", 1884, "pi-1", "p@ss")


def test_password_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file\n")
    text = GOOD.replace("pi-1:p%40ss@", "") + 'password_file = "secret"\n'
    (tmp_path / "agent.toml").write_text(text)

    broker = broker_of(load_settings(tmp_path / "agent.toml"))

    assert (broker.user, broker.password) == ("pi-1", "from-file"), "the device is the user"


def test_tls_takes_its_port_and_its_files(tmp_path: Path) -> None:
    text = GOOD.replace("mqtt://pi-1:p%40ss@broker.local:1884", "mqtts://broker.local")
    (tmp_path / "agent.toml").write_text(
        text + 'ca_file = "ca.crt"\ncertificate_file = "pi.crt"\nprivate_key_file = "pi.key"\n'
    )

    broker = broker_of(load_settings(tmp_path / "agent.toml"))

    assert (broker.port, broker.user) == (8883, None)
    assert broker.tls == Tls(*(str(tmp_path / name) for name in ("ca.crt", "pi.crt", "pi.key")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("port = 8080", "prot = 8080"), "key 'prot' is unknown; did you mean 'port'?"),
        (
            ("port = 8080", "port = 8080\nredirects = ['s3.example']"),
            "key 'redirects.0': Value error, this is no server's address; write https://host",
        ),
        (("port = 8080\n", ""), "key 'port' is missing; add it"),
        (("port = 8080", 'port = "8080"'), "key 'port': "),
        (("port = 8080", "port = 8081"), "port and standby_port must differ"),
        (('device = "pi-1"', 'device = "pi/1"'), "key 'device': "),
        (('device = "pi-1"', 'device = "pi-1\\n"'), "key 'device': "),
        (("mqtt://", "http://"), "key 'broker': "),
        ((":1884", ":x"), "key 'broker': "),
        ((f'release_keys = ["{KEY}"]', 'release_keys = ["abc"]'), "64 hex digits"),
        ((f'release_keys = ["{KEY}"]', "release_keys = []"), "key 'release_keys': "),
        (
            (f'release_keys = ["{KEY}"]\n', ""),
            "nobody's releases count; give trust_root, or release_keys and command_keys",
        ),
        ((f'command_keys = ["{KEY}"]\n', ""), "nobody's grants count; give command_keys"),
        (("port = 8080", 'port = 8080\ntrust_root = "root.json"'), "remove release_keys, command_keys"),
        (("port = 8080", 'port = 8080\ngpg_keyring = "keys.gpg"'), "gpg_keyring and gpg_fingerprints belong together"),
        (
            ("port = 8080", f'port = 8080\ngpg_keyring = "k"\ngpg_fingerprints = ["{"A" * 40}"]'),
            "two ways to say the same",
        ),
        (("port = 8080", 'port = 8080\ngpg_fingerprints = ["ABCD"]'), "key 'gpg_fingerprints.0': "),
        (('region = "north"', 'region = "north"\ntopic_root = "fleet/+"'), "key 'topic_root': "),
        (('region = "north"', 'region = "north"\npassword_file = "missing"'), "key 'password_file': "),
        (('region = "north"', 'region = "north"\nca_file = "ca"'), "write mqtts://"),
        (('region = "north"', 'region = "north"\ncertificate_file = "c"'), "belong together"),
        (('region = "north"', "region = north"), "no valid TOML"),
        (("[end]", "[runtime]\nkind = 'lxc'"), "key 'runtime.kind': "),
        (("[end]", "[runtime]\nkid = 'docker'"), "key 'runtime.kid' is unknown; did you mean 'kind'?"),
        (("[end]", "[runtime]\noptions = ['--privileged']"), "runtime.options are for docker and podman"),
        (("[end]", "[runtime]\nkind = 'systemd'\n[limits]\ntasks = 5"), "they stand in the unit; move them there"),
        (("[end]", "[runtime]\nkind = 'podman'\n[limits]\ncgroup = '/x'"), "limits.cgroup is for runtime.kind process"),
        (("[end]", "[limits]\nmemory_bytes = 0"), "key 'limits.memory_bytes': "),
        (
            ("\nrelease_keys", "\nrouter = {template = 't', reload = ['r'], public_port = 8081}\nrelease_keys"),
            "router.public_port must differ from port and standby_port",
        ),
        (
            ("\nrelease_keys", "\nrouter = {template = 't', reload = [], public_port = 80}\nrelease_keys"),
            "key 'router.reload': ",
        ),
        (
            ("\nrelease_keys", "\nrouter = {template = 't', relaod = ['r'], public_port = 80}\nrelease_keys"),
            "key 'router.relaod' is unknown; did you mean 'reload'?",
        ),
        (("\nrelease_keys", "\ndrain = {grace_seconds = 1.0}\nrelease_keys"), "give either path or command"),
        (
            ("\nrelease_keys", "\nhooks = {before_swich = ['h']}\nrelease_keys"),
            "key 'hooks.before_swich' is unknown; did you mean 'before_switch'?",
        ),
        (("\nrelease_keys", "\ntransports = []\nrelease_keys"), "key 'transports': "),
        (("\nrelease_keys", "\ntransports = ['ftp']\nrelease_keys"), "key 'transports.0': "),
        (
            (
                "\nrelease_keys",
                "\nsite = 's'\ntransports = ['mqtt']\npeers = {host = '10.0.0.1', port = 8090}\nrelease_keys",
            ),
            "peers are given over HTTP; add http to transports, or remove peers",
        ),
        (("\nrelease_keys", "\nwindow = {start = '2:00', end = '05:00'}\nrelease_keys"), "key 'window.start': "),
        (("\nrelease_keys", "\nwindow = {start = '02:00', end = '02:00'}\nrelease_keys"), "starts and ends at 02:00"),
        (
            ("\nrelease_keys", "\ntime_zone = 'Oslo'\nwindow = {start = '02:00', end = '03:00'}\nrelease_keys"),
            "no time zone 'Oslo'",
        ),
    ],
)
def test_settings_are_refused_with_file_key_and_remedy(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, (GOOD + "[end]").replace(*change).replace("[end]", ""))

    assert str(tmp_path / "agent.toml") in str(caught.value)
    assert message in str(caught.value)
    assert "p%40ss" not in str(caught.value)
    assert "p@ss" not in str(caught.value)


def with_root(tmp_path: Path, envelope: bytes | None) -> str:
    if envelope is not None:
        (tmp_path / "root.json").write_bytes(envelope)
    return GOOD.replace(f'release_keys = ["{KEY}"]\ncommand_keys = ["{KEY}"]', 'trust_root = "root.json"')


def test_trust_root_stands_for_all_keys(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(with_root(tmp_path, signed(make_root(), "root-a", "root-b")))

    assert trust_of(load_settings(tmp_path / "agent.toml"), tmp_path).root == make_root()


@pytest.mark.parametrize(
    ("envelope", "message"),
    [
        (None, "root.json: No such file or directory; copy the orchestrator's keys/roots/1.root.json there"),
        (b"{}", "root.json: no root: no signed envelope: "),
        (signed(make_root(), "root-a"), "signed by 1 trusted keys, 2 are needed; take a root that is signed"),
    ],
)
def test_trust_root_that_is_none_is_refused_with_file_key_and_remedy(
    tmp_path: Path, envelope: bytes | None, message: str
) -> None:
    with pytest.raises(SettingsError, match=r"agent\.toml: key 'trust_root': ") as caught:
        load(tmp_path, with_root(tmp_path, envelope))

    assert message in str(caught.value)


def test_fingerprints_are_read_as_gpg_prints_them(tmp_path: Path) -> None:
    printed = "0123 4567 89AB CDEF 0123  4567 89ab cdef 0123 4567"
    text = GOOD.replace(f'release_keys = ["{KEY}"]', f'gpg_keyring = "keys.gpg"\ngpg_fingerprints = ["{printed}"]')
    (tmp_path / "agent.toml").write_text(text)

    settings = load_settings(tmp_path / "agent.toml")

    assert settings.gpg_keyring == str(tmp_path / "keys.gpg")
    assert settings.gpg_fingerprints == ("0123456789ABCDEF0123456789ABCDEF01234567",)


def test_agent_that_cannot_enforce_a_required_limit_does_not_start(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "mqtt://127.0.0.1:1", limits={"memory_bytes": 2**27, "tasks": 9, "required": True})

    agent.start()

    assert agent.process is not None
    assert agent.process.wait(20) == 2
    said = agent.log.read_text()
    assert "key 'limits.required': memory_bytes, tasks cannot be enforced on processes here" in said
    assert "name a control group with [limits] cgroup" in said


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("run", "--config", "missing.toml"), 2), ((), 2), (("dance",), 2), (("--help",), 0)],
)
def test_command_line_ends_with_its_code(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "device_client", *arguments], capture_output=True, text=True, check=False
    )

    assert ended.returncode == code
    assert "Traceback" not in ended.stderr


def test_folder_of_media_starts_at_the_file_and_absolute_ones_stay(tmp_path: Path) -> None:
    for folder, path in (("stick/tidegate", f"{tmp_path}/stick/tidegate"), ("/media/*/tidegate", "/media/*/tidegate")):
        (tmp_path / "agent.toml").write_text(f'{GOOD}\n[media]\nfolder = "{folder}"\n')

        media = load_settings(tmp_path / "agent.toml").media

        assert media is not None
        assert (media.folder, media.wait_seconds) == (path, 600.0)


def test_misspelt_key_of_media_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'folder'"):
        load(tmp_path, f'{GOOD}\n[media]\nfolders = "/media"\n')

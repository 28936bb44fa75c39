"""What each page takes for granted. A page that is not named here starts in an empty folder."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from orchestrator.adapters.keys import create_keys
from orchestrator.notifications.signature import sign
from tests.docs.operating_scene import operating
from tests.docs.pages import ROOT, block
from tests.docs.plant import DEVICES, Plant, address, listens, make_tree, until_normal, write_quick_policy
from tests.docs.reader import Reader
from tests.docs.tutorial_scenes import by_hand, first_rollout, own_broker, own_device, report
from tests.notifications.receiver import receiving
from tests.shell.s3_server import s3_server


def artifacts(reader: Reader) -> None:
    make_tree(reader.folder / "tree", "1.2.0")
    plant = Plant(reader, devices=["pi-0042", "pi-0043"])
    first = plant.publish("1.0.0", 1)
    plant.start()
    plant.run_agents(first)
    write_quick_policy(plant.folder / "policies" / "careful.yaml")
    reader.replace["tidegate start "] = "tidegate start --rollout r-042 --time-scale 60 "
    reader.before["tidegate start"] = lambda: until_normal(reader, "vision-2.4.1")
    reader.loosely = True


def beside_a_broker(reader: Reader) -> Plant:
    plant = Plant(reader)
    reader.environment["TIDEGATE_BROKER"] = address(plant.broker.url_for("orchestrator"))
    reader.replace["18080"] = str(next(reader.ports))
    return plant


def lint(reader: Reader) -> None:
    plant = Plant(reader, devices=DEVICES)
    plant.publish("1.1.0", 2)
    plant.start()
    plant.live()
    until_normal(reader, "sensor-app-1.1.0")
    shutil.copyfile(ROOT / "examples" / "policies" / "careful.yaml", reader.folder / "rollout.yaml")


def discovery(reader: Reader) -> None:
    port, access = str(next(reader.ports)), reader.folder / "access"

    def write() -> None:
        """Write the rights that the page says."""
        (access / "acl.local").write_text(block("docs/home-assistant.md", "text"))

    def let_in() -> None:
        """Start a broker with them."""
        found = json.loads((access / "credentials.json").read_text())
        reader.replace["discovery:PASSWORD@127.0.0.1:1884"] = f"discovery:{found['discovery']}@127.0.0.1:{port}"
        files = "--acl access/broker/acl --passwords access/broker/passwords"
        reader.start(f"exec tidegate broker --port {port} {files}")
        reader.until(lambda: listens(int(port)), "the broker listens")

    reader.before |= {"tidegate broker-config access --rewrite": write, "export": let_in}
    reader.serving = ("tidegate home-assistant --user",)


def metrics(reader: Reader) -> None:
    beside_a_broker(reader)
    port = str(next(reader.ports))
    reader.replace |= {"9464": port, "--folder fleet": f"--folder fleet --metrics-port {port}"}


def consent(reader: Reader) -> None:
    plant = Plant(reader, devices=["pi-0042"])
    first = plant.publish("1.0.0", 1)
    plant.publish("1.2.0", 2)
    plant.start()
    (device,) = plant.run_agents(first, settings="needs_consent = true\n")
    (reader.folder / "agent.toml").symlink_to(device.config_path)
    plant.begin("sensor-app-1.2.0", "r-001")
    reader.before["tidegate-agent status"] = lambda: reader.until(
        lambda: "consent_missing" in status(reader), "the device waits for consent"
    )
    reader.loosely = True


def status(reader: Reader) -> str:
    command = [sys.executable, "-m", "device_client", "status", "--config", "agent.toml"]
    ended = subprocess.run(
        command, cwd=reader.folder, env=reader.environment, capture_output=True, text=True, check=False
    )
    return ended.stdout


def mosquitto(reader: Reader) -> None:
    plant = Plant(reader, devices=DEVICES)
    plant.publish("1.2.0", 2)
    plant.start()
    plant.live()
    write_quick_policy(plant.folder / "policies" / "careful.yaml")
    start = {"release": "sensor-app-1.2.0", "policy": "careful", "rollout": "r-042", "time_scale": 60}
    (reader.folder / "start.json").write_text(json.dumps(start))
    url = plant.broker.url_for("alice")
    reader.replace |= {
        "18883": str(url.port),
        "PASSWORD": str(url.password),
        r"mosquitto_sub (?=\$LOGIN)": "mosquitto_sub -W 1 ",
    }
    until_normal(reader, "sensor-app-1.2.0")
    reader.before["rr approve"] = lambda: plant.until_phase("r-042", "awaiting_approval")
    reader.exits["mosquitto_sub"] = (0, 1, 27)  # its time was over; grep found nobody


def notifications(reader: Reader) -> None:
    receiver = reader.stack.enter_context(receiving())
    plant = Plant(reader, people=("notify", "alice"))
    (reader.folder / "notify.yaml").write_text(
        block("docs/notifications.md", "yaml")
        .replace("https://hooks.example/tidegate", receiver.url)
        .replace("secret_file: /run/secrets/tidegate-webhook", "secret: ${SECRET}")
    )
    reader.environment["SECRET"] = "whsec-0123456789abcdef"
    (reader.folder / "body.json").write_bytes(b"{}")
    reader.environment |= {"TIMESTAMP": "1", "SIGNATURE": sign(b"whsec-0123456789abcdef", "1", b"{}")}
    reader.environment["CHAT_URL"] = f"json://{receiver.url.removeprefix('http://')}"
    reader.replace[r"mqtt://notify:PASSWORD@127.0.0.1:1884"] = address(plant.broker.url_for("notify"))


def gnupg(reader: Reader) -> None:
    home = Path(tempfile.mkdtemp(prefix="g"))  # short: the agent's socket lies in it
    reader.environment["GNUPGHOME"] = str(home)
    reader.stack.callback(shutil.rmtree, home, ignore_errors=True)
    reader.stack.callback(subprocess.run, ["gpgconf", "--kill", "all"], env=reader.environment, check=False)
    subprocess.run(
        ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "release@example.org", "ed25519"],
        env=reader.environment, check=True, capture_output=True,
    )  # fmt: skip


def site_cache(reader: Reader) -> None:
    plant = Plant(reader)
    for counter, version in enumerate(("1.1.0", "1.2.0"), start=1):
        plant.publish(version, counter)
    plant.start()
    port = str(next(reader.ports))
    reader.replace |= {
        "https://registry.example": plant.stage.registry, "/var/lib/tidegate-cache": "cached", "10.7.0.5": "127.0.0.1",
        r"\b8080\b": port, "vision-app-2.4.0": "sensor-app-1.2.0", "vision-app-2.3.0": "sensor-app-1.1.0",
    }  # fmt: skip
    (plant.folder / "sites.yaml").write_text(reader.read(block("docs/site-cache.md", "yaml")))
    reader.replace["mqtt://pieces:PASSWORD@broker:1884"] = address(plant.broker.url_for("pieces"))
    reader.serving = ("TIDEGATE_BROKER=mqtt://pieces",)
    reader.loosely = True


def object_store(reader: Reader) -> None:
    s3 = reader.stack.enter_context(s3_server())
    make_tree(reader.folder / "tree", "1.2.0")
    create_keys(reader.folder / "fleet" / "keys")
    (reader.folder / "fleet" / "signing").symlink_to("keys")
    variables = " ".join(f"{name}={value}" for name, value in s3.environment().items())
    reader.replace |= {
        "export AWS_ACCESS_KEY_ID=.*": f"export {variables}", "https://s3.eu-north-1.amazonaws.com": s3.url,
        r"10\.1\.0\.5": "127.0.0.1", r"\b8080\b": str(next(reader.ports)),
    }  # fmt: skip
    reader.loosely = True


def terminal(reader: Reader) -> None:
    names = ["raspberrypi4-07", "jetson-08", "industrial-09", "raspberrypi4-10", "jetson-11", "industrial-12"]
    plant = Plant(reader, devices=names)
    for counter, version in enumerate(("1.1.0", "1.2.0"), start=1):
        plant.publish(version, counter)
    (reader.folder / "policies").mkdir()
    write_quick_policy(reader.folder / "policies" / "demo.yaml")
    plant.start()
    plant.live(bad=frozenset({"1.1.0"}))
    for release, rollout, phase in (("1.1.0", "r-1", "rolled_back"), ("1.2.0", "r-2", "awaiting_approval")):
        plant.begin(f"sensor-app-{release}", rollout)
        plant.until_phase(rollout, phase)
    reader.replace["--group demo"] = "--group lab"
    reader.captured = True
    reader.serving = ("tidegate watch",)


def application(reader: Reader) -> None:
    port = next(reader.ports)
    reader.replace["8080"] = str(port)
    reader.before["curl"] = lambda: reader.until(lambda: listens(port), "it listens")


def simulator(reader: Reader) -> None:
    shutil.copyfile(ROOT / "examples" / "policies" / "careful.yaml", reader.folder / "policy.yaml")
    reader.replace["policy.yaml "] = "policy.yaml --devices 20 "
    reader.exits["tidegate simulate"] = (0, 1)


def a_device(reader: Reader) -> None:
    port = next(reader.ports)
    reader.replace["18883"] = str(port)
    reader.before["python examples/minimal_device"] = lambda: reader.until(lambda: listens(port), "the broker listens")


def tools(reader: Reader) -> None:
    plant = Plant(reader, devices=["pi-0042"])
    plant.start()
    plant.live()
    reader.replace["mqtt://viewer:PASSWORD@127.0.0.1:1884"] = address(plant.broker.url_for("viewer"))
    reader.serving = ("python -u examples/consumers",)


SCENES: Final[Mapping[str, Callable[[Reader], object]]] = {
    "docs/LINT.md": lint,
    "docs/artifacts.md": artifacts,
    "docs/dashboard.md": beside_a_broker,
    "docs/device.md": consent,
    "docs/metrics.md": metrics,
    "docs/home-assistant.md": discovery,
    "docs/keys.md gpg": gnupg,
    "docs/mosquitto.md": mosquitto,
    "docs/notifications.md": notifications,
    "docs/object-store.md": object_store,
    "docs/operating.md": operating,
    "docs/site-cache.md": site_cache,
    "docs/terminal.md": terminal,
    "docs/tools.md": tools,
    "docs/trying-a-policy.md": simulator,
    "docs/writing-a-device.md": a_device,
    "docs/tutorials/drive-it-with-mosquitto-pub.md": by_hand,
    "docs/tutorials/first-rollout.md": first_rollout,
    "docs/tutorials/read-a-report.md": report,
    "docs/tutorials/write-a-device.md": own_device,
    "docs/tutorials/your-own-broker.md mosquitto": own_broker,
    "examples/application/README.md": application,
}

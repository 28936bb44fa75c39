"""What docs/operating.md takes for granted: it is the longest way, from keys to a rollout and on."""

import json
import platform
import re
import shutil
from typing import Final

from device_client.guardian.watch import GUARDIAN_LOCK
from orchestrator.demo.load import drive
from tests.docs.pages import block
from tests.docs.plant import COMMAND, beside, listens, make_tree, until_normal, write_quick_policy
from tests.docs.reader import Reader

FASTER: Final = {r"tidegate start ": "tidegate start --time-scale 60 "}
"""A minute takes a second."""


def operating(reader: Reader) -> None:
    folder, (broker, registry, metrics_port) = reader.folder, (str(next(reader.ports)) for _ in range(3))
    application = next(reader.ports)
    make_tree(folder / "tree", "1.0.0")
    reader.own("init", str(folder / "fleet"))

    def look_up_passwords() -> None:
        found = json.loads((folder / "access" / "credentials.json").read_text())
        reader.replace |= {rf"//{name}:PASSWORD@": f"//{name}:{found[name]}@" for name in found}

    def let_evaluators_in() -> None:
        """Restart the broker: once it listens again it has read its users again."""
        look_up_passwords()
        reader.end("tidegate health tail")
        reader.start(f"exec {reader.end('tidegate broker --port')}")
        reader.until(lambda: listens(int(broker)), "the broker is back")

    def read_on() -> None:
        """Fill in what the page leaves to be filled in."""
        look_up_passwords()
        stored = folder / "fleet" / "releases"
        named = json.loads((stored / "releases" / "sensor-app-1.0.0.json").read_text())["by_arch"]["noarch"]
        files = {
            "MANIFEST": stored / "manifests" / named["manifest_sha256"],
            "ARTIFACT": stored / "artifacts" / named["artifact_sha256"],
        }
        reader.replace |= {rf"\b{name}\b": str(path) for name, path in files.items()}
        text = reader.read(block("docs/operating.md", "toml"))
        for name in ("release", "command"):
            key = (folder / "fleet" / "keys" / f"{name}.pub").read_text().strip()
            text = re.sub(rf'({name}_keys = \[)"…"', rf'\1"{key}"', text)
        text = text.replace('"aarch64"', f'"{platform.machine()}"')
        (folder / "agent.toml").write_text(f"{text}sample_interval_seconds = 0.25\n")
        (folder / "password").write_text(password("pi-0042"))

    def password(user: str) -> str:
        return str(json.loads((folder / "access" / "credentials.json").read_text())[user])

    def start_another() -> None:
        """Let a second device live beside the page's: a fleet of one has nothing left to approve."""
        other = folder / "another"
        shutil.copytree(folder / "deployments", other / "deployments", symlinks=True)
        settings = (folder / "agent.toml").read_text().replace("pi-0042", "pi-0043")
        for port in re.findall(r"(?m)^\w*port = (\d+)", settings):
            settings = settings.replace(port, str(next(reader.ports)))
        (other / "agent.toml").write_text(settings)
        (other / "password").write_text(password("pi-0043"))
        reader.start("exec tidegate-agent run --config another/agent.toml")

    def build_the_next() -> None:
        make_tree(folder / "newer", "1.2.0")
        reader.own("release", "build", str(folder / "newer"), "--folder", str(folder / "fleet"), "--release",
                   "sensor-app-1.2.0", "--version", "1.2.0", "--counter", "2", "--", *COMMAND)  # fmt: skip
        write_quick_policy(folder / "fleet" / "policies" / "careful.yaml")
        beside(reader, lambda: drive([application]))
        until_normal(reader, "sensor-app-1.2.0")

    def all_is_read() -> bool:
        """Say whether evaluators read every shard."""
        return '"orchestrator_reads":"none"' in reader.own("evaluators", "--json").replace(" ", "")

    def is_asked() -> bool:
        return '"awaiting_approval"' in reader.own("get", "r-001", "--json")

    reader.replace |= {"18883": broker, "@broker:1884": f"@127.0.0.1:{broker}", "18080": registry, "9464": metrics_port,
                       "orchestrator --folder fleet": f"orchestrator --folder fleet --metrics-port {metrics_port}",
                       r"(?<=port = )8080": str(application),
                       r"(?<=port = )8081": str(next(reader.ports)), **FASTER}  # fmt: skip
    reader.before |= {
        "export TIDEGATE_BROKER=mqtt://orchestrator": read_on,
        "tidegate-agent run": start_another,
        "TIDEGATE_BROKER=mqtt://evaluator:": let_evaluators_in,
        "tidegate evaluators": lambda: reader.until(all_is_read, "the evaluators read"),
        "tidegate plan": build_the_next,
        "tidegate approve": lambda: reader.until(is_asked, "a person is asked"),
    }
    reader.serving = ("TIDEGATE_BROKER=mqtt://evaluator",)
    reader.ready["tidegate-guardian"] = (folder / "deployments" / "state" / GUARDIAN_LOCK).exists

"""What a device pays for its agent: memory and processor of one that idles, and the size of its installation.

An agent from a fresh environment, with nothing but what a device needs in it, is connected to a broker. It was ordered
a release, has fetched it in chunks, verified and installed it, and asked for and verified the grants to activate and to
commit it: what it takes for that once it keeps. Then it idles, with the example application serving at the reference's
pace (one probe and one sample in 30 s); its guardian runs beside it.

What is measured is the agent's process alone, and the guardian's by itself; the application is the device's own
business. Memory is told twice against the same bar: with all pages that are resident (RSS), and with those that other
programs use as well shared out among them (PSS), which is what the device has less of. What is in no file (anonymous)
is told beside it: it is most of what a control group, and so systemd, counts for it where somebody has read the
files before.
"""

import argparse
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ordering import install_by_order
from scene import machine, served

from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "application"
BAR_MEMORY_MB = 45.0
BAR_CPU_PERCENT = 0.5
WARM_UP_SECONDS = 5.0
DEVICE = "pi-1"
MODEL_BYTES = 16 * 1024 * 1024
"""Of the release, beside the application: what is fetched in chunks."""
_MB = 1e6
_SMALL_BYTES = 100_000


@dataclass(frozen=True)
class Footprint:
    """One run, in MB and in percent of one processor."""

    rss_mb: float
    pss_mb: float
    anonymous_mb: float
    cpu_percent: float
    guardian_rss_mb: float
    guardian_pss_mb: float
    guardian_anonymous_mb: float
    guardian_cpu_percent: float


@dataclass(frozen=True)
class Installation:
    """What a device installs.

    Attributes:
        python: Runs it.
        megabytes: Of everything in its site-packages but pip.
        packages: By name, with the size of each in MB.
    """

    python: Path
    megabytes: float
    packages: dict[str, float]


def install(folder: Path) -> Installation:
    """Install this checkout as a device does, without extras."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", str(ROOT)], check=True)
    packages = next((folder / "lib").glob("python3*/site-packages"))
    sizes = {
        entry.name: sum(file.stat().st_size for file in [entry, *entry.rglob("*")] if file.is_file())
        for entry in packages.iterdir()
        if not entry.name.startswith(("pip", "setuptools", "pkg_resources", "distutils", "_distutils"))
    }  # fmt: skip
    large = {
        name: round(size / _MB, 1)
        for name, size in sorted(sizes.items(), key=lambda each: -each[1])
        if size > _SMALL_BYTES
    }
    return Installation(python, round(sum(sizes.values()) / _MB, 1), large)


@contextmanager
def device(folder: Path, python: Path, broker_port: int) -> Iterator[tuple[int, int]]:
    """Run an agent and a guardian, with an application that was installed by order; gives their process ids."""
    key = Ed25519PrivateKey.generate()
    old, new = (_release(folder, number, version, key) for number, version in enumerate(("1.0.0", "1.2.0")))
    config, port = _provision(folder, python, broker_port, old, key)
    store = ReleaseStore(folder / "store")
    with ExitStack() as stack:
        processes = []
        for module, verb in (("device_client.guardian", ()), ("device_client", ("run",))):
            command = [str(python), "-P", "-m", module, *verb, "--config", str(config)]
            log = stack.enter_context((folder / f"{module}.log").open("wb"))
            process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
            stack.callback(process.terminate)
            processes.append(process.pid)
        _until(lambda: _answers(port))
        _until(lambda: "bus.connected" in (folder / "device_client.log").read_text())
        stored = store.publish(new)
        with served(store.folder) as registry:
            install_by_order(broker_port, DEVICE, stored, registry, key)
        yield processes[1], processes[0]


def _release(folder: Path, number: int, version: str, key: Ed25519PrivateKey) -> BuiltRelease:
    tree = folder / f"tree-{version}"
    for name in ("app", "models", "config"):
        (tree / name).mkdir(parents=True)
    shutil.copy(EXAMPLE / "app" / "serve.py", tree / "app")
    shutil.copy(EXAMPLE / "versions" / f"{version}.json", tree / "config" / "app.json")
    (tree / "models" / "model.bin").write_bytes(random.Random(version).randbytes(MODEL_BYTES))
    command = ("{python}", "-S", "-E", "app/serve.py", "--port", "{port}")
    return build_release(
        tree, release=f"app-{version}", version=version, release_counter=number, command=command, key=key
    )


def _provision(
    folder: Path, python: Path, broker_port: int, built: BuiltRelease, key: Ed25519PrivateKey
) -> tuple[Path, int]:
    (folder / "manifest").write_bytes(built.envelope)
    (folder / "artifact").write_bytes(built.artifact)
    port = _free_port()
    public = key.public_key().public_bytes_raw().hex()
    config = folder / "agent.toml"
    config.write_text(
        f'device = "{DEVICE}"\ndevice_type = "pi"\narch = "x86_64"\nregion = "north"\ngroup = "vision"\nroot = "root"\n'
        f'port = {port}\nstandby_port = {_free_port()}\nbroker = "mqtt://127.0.0.1:{broker_port}"\n'
        f'release_keys = ["{public}"]\ncommand_keys = ["{public}"]\n'
    )
    files = ["--manifest", str(folder / "manifest"), "--artifact", str(folder / "artifact")]
    subprocess.run(
        [str(python), "-P", "-m", "device_client", "provision", "--config", str(config), *files],
        check=True, stdout=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    return config, port


def measure(python: Path, seconds: float) -> Footprint:
    """Let a device idle and return what its agent and its guardian took."""
    with (
        tempfile.TemporaryDirectory() as name,
        _broker() as broker_port,
        device(Path(name), python, broker_port) as pids,
    ):
        time.sleep(WARM_UP_SECONDS)
        before, at = [_cpu_seconds(pid) for pid in pids], time.monotonic()
        time.sleep(seconds)
        after, passed = [_cpu_seconds(pid) for pid in pids], time.monotonic() - at
        cpu = [100 * (b - a) / passed for a, b in zip(before, after, strict=True)]
        memory = [_memory_mb(pid) for pid in pids]
    return Footprint(*memory[0], cpu[0], *memory[1], cpu[1])


@contextmanager
def _broker() -> Iterator[int]:
    command = [sys.executable, "-m", "embedded_broker", "--port", "0", "--exit-with-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["listening"]["mqtt"]
        finally:
            process.kill()


def _memory_mb(pid: int) -> tuple[float, float, float]:
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    sizes = {words[0]: int(words[1]) * 1024 / _MB for words in lines}
    return sizes["Rss:"], sizes["Pss:"], sizes["Anonymous:"]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
        return True
    return False


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the device did not begin to serve"
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="of idling in each run (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        installed = install(Path(name) / "device")
        runs = [measure(installed.python, options.seconds) for _ in range(options.runs)]

    def median(field: str) -> float:
        return round(statistics.median(getattr(run, field) for run in runs), 2)

    figures = {field: median(field) for field in Footprint.__annotations__}
    judged = (
        ("agent_memory_pss", figures["pss_mb"], "MB", BAR_MEMORY_MB),
        ("agent_memory_rss", figures["rss_mb"], "MB", BAR_MEMORY_MB),
        ("agent_cpu", figures["cpu_percent"], "% of a processor", BAR_CPU_PERCENT),
    )
    if options.json:
        bars = {
            name: {"figure": f, "unit": unit, "bar": bar, "ratio": round(f / bar, 2)} for name, f, unit, bar in judged
        }
        facts = {**bars, "figures": figures, "installed_mb": installed.megabytes, "packages_mb": installed.packages}
        print(json.dumps({**facts, "runs": options.runs, "seconds": options.seconds, "machine": machine()}))
        return
    print(machine())
    for name, figure, unit, bar in judged:
        print(
            f"{name.replace('_', ' ')}: median {figure} {unit} of {options.runs} runs, bar {bar}, "
            f"ratio {figure / bar:.2f}"
        )
    print(f"in no file: {figures['anonymous_mb']} MB")
    print(f"guardian: {figures['guardian_rss_mb']} MB RSS, "
          f"{figures['guardian_pss_mb']} MB PSS, {figures['guardian_cpu_percent']}% of a processor")  # fmt: skip
    print(f"installed: {installed.megabytes} MB without pip; in MB: {installed.packages}")


if __name__ == "__main__":
    main()

"""The demo's twelve devices: three types in three regions, each with its own folder, ports and agent configuration."""

import contextlib
import json
import os
import platform
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.adapters.brokers import Broker
from schemas.errors import FleetError

TYPES: Final = ("raspberrypi4", "jetson", "industrial-pc")
REGIONS: Final = ("eu-north", "us-east", "ap-south")
DEVICE_COUNT: Final = 12
_PORTS: Final = range(20_000, 32_000)


class DemoPortError(FleetError):
    """This machine has no ports left for the demo's devices."""


@dataclass(frozen=True, slots=True)
class DemoDevice:
    """One device on this machine."""

    id: str
    device_type: str
    region: str
    root: Path
    port: int
    standby_port: int

    @property
    def config_path(self) -> Path:
        """Where its agent's configuration is."""
        return self.root.parent / "agent.toml"


def make_devices(folder: Path, count: int = DEVICE_COUNT) -> list[DemoDevice]:
    """Name the devices and find each two free ports."""
    ports = free_ports(2 * count)
    devices = []
    for number in range(count):
        name = f"{TYPES[number % len(TYPES)].split('-')[0]}-{number + 1:02d}"
        devices.append(
            DemoDevice(
                id=name,
                device_type=TYPES[number % len(TYPES)],
                region=REGIONS[(number // len(TYPES)) % len(REGIONS)],
                root=folder / "devices" / name / "deployments",
                port=ports[2 * number],
                standby_port=ports[2 * number + 1],
            )
        )
    return devices


def write_config(
    device: DemoDevice,
    broker: Broker,
    *,
    topic_root: str,
    release_key: str,
    command_key: str,
    sample_interval_seconds: float,
) -> None:
    """Write the configuration of one agent; the password goes into a file of its own."""
    device.root.mkdir(parents=True, exist_ok=True)
    url = broker.url_for(device.id, is_device=True)
    secret = device.root.parent / "password"
    secret.touch(mode=0o600)
    secret.write_text(url.password or "", encoding="utf-8")
    address = f"mqtt://{device.id}@{url.host}:{url.port}" if url.password else f"mqtt://{url.host}:{url.port}"
    settings: dict[str, object] = {
        "device": device.id,
        "device_type": device.device_type,
        "arch": platform.machine(),
        "region": device.region,
        "group": "demo",
        "site": device.region,
        "root": str(device.root),
        "port": device.port,
        "standby_port": device.standby_port,
        "broker": address,
        "topic_root": topic_root,
        "release_keys": [release_key],
        "command_keys": [command_key],
        "sample_interval_seconds": sample_interval_seconds,
    }
    if url.password:
        settings["password_file"] = str(secret)
    # A JSON value of these types is also a TOML value.
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    device.config_path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def clone_image(image: DemoDevice, devices: Sequence[DemoDevice]) -> None:
    """Give every other device a copy of the first one's disk, as a factory would."""
    for device in devices:
        if device is not image:
            shutil.copytree(image.root, device.root, symlinks=True, dirs_exist_ok=True)


def free_port() -> int:
    """Return one more free port, below those of the devices' own range."""
    return free_ports(1, range(_PORTS.start - 2_000, _PORTS.start))[0]


def free_ports(count: int, within: range = _PORTS) -> list[int]:
    """Return free ports below those that the system hands out for outgoing connections, which come and go."""
    ports: list[int] = []
    first = within.start + os.getpid() * 2 * DEVICE_COUNT % len(within)
    for candidate in (*range(first, within.stop), *range(within.start, first)):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", candidate)):
            ports.append(candidate)
        if len(ports) == count:
            return ports
    raise DemoPortError(f"fewer than {count} ports are free from {within.start} to {within.stop - 1}")

"""Whoever runs applications, played: programs that know only what a device may ask and refuse everything else."""

import json
import sys
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("begun", flush=True)
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    peer, _ = listener.accept()
    peer.recv(4096)
    body = json.dumps({"status": "ok", "version": os.environ["TIDEGATE_VERSION"]}).encode()
    peer.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    peer.close()
"""
"""An application that needs nothing but what it is told."""
OVERWRITE = (
    "import ctypes; seen = open('/proc/self/stat').read().rpartition(')')[2].split(); "
    "ctypes.memset(int(seen[47]), 0, int(seen[48]) - int(seen[47]))"
)
"""A line of Python by which a program overwrites the variables that it was started with, as one that sets its title."""


class Place(Protocol):
    """A device, as far as a unit has to know it."""

    @property
    def root(self) -> Path: ...

    @property
    def port(self) -> int: ...

    @property
    def standby_port(self) -> int: ...


def install_fake(folder: Path, name: str, device: Place) -> str:
    """Put ``systemctl`` or ``docker`` into a folder, with its state beside it, and return its path."""
    state, program = folder / f"{name}.d", folder / name
    state.mkdir(exist_ok=True)
    script = Path(__file__).parent / f"fake_{name}.py"
    program.write_text(f'#!/bin/sh\nexport FAKE_{name.upper()}={state}\nexec {sys.executable} -S -E {script} "$@"\n')
    program.chmod(0o755)
    starts = [
        "/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, "-S", "-m", "device_client.application",
        "--root", str(device.root), "--port", str(device.port), "--standby-port", str(device.standby_port), "%i",
    ]  # fmt: skip
    (state / "ExecStart").write_text(json.dumps(starts))
    return str(program)

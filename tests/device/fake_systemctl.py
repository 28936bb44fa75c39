"""What ``systemctl`` does as far as a device asks it, and nothing else: whatever it does not know is refused.

A unit's state is a file; its main process is started as systemd would start it, in a session of its own.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[2]))
from device_client.adapters.proc import alive
from device_client.adapters.processes import identify, kin

HERE = Path(os.environ["FAKE_SYSTEMCTL"])
PROPERTIES = {"ActiveState", "Id", "InvocationID", "MainPID"}


def refuse(text: str) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(1)


def unit_path(name: str) -> Path:
    template, at, rest = name.partition("@")
    if not at or not rest.endswith(".service") or template != "tidegate-app":
        refuse(f"Unit {name} not found.")
    return HERE / f"{name}.json"


def state_of(name: str) -> dict[str, Any]:
    path = unit_path(name)
    state: dict[str, Any] = {"pid": 0, "id": "", "ended": "inactive"}
    state.update(json.loads(path.read_text()) if path.exists() else {})
    if state["pid"] and identify(state["pid"]) is None:
        state = {**state, "pid": 0, "ended": "failed"}
    return state


def members(main: int) -> list[int]:
    """Return whom a control group would hold: the main process and all that descends from it."""
    return [status.pid for status in kin(alive(), {main}, os.getsid(0))] if main else []


def start(name: str) -> None:
    state = state_of(name)
    if state["pid"]:
        return
    invocation = os.urandom(16).hex()
    slot = name.partition("@")[2].removesuffix(".service")
    command = [part.replace("%i", slot) for part in json.loads((HERE / "ExecStart").read_text())]
    child = subprocess.Popen(
        command, start_new_session=True, env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(HERE / "journal").open("ab"),
    )  # fmt: skip
    unit_path(name).write_text(json.dumps({"pid": child.pid, "id": invocation, "ended": "failed"}))


def stop(name: str) -> None:
    state = state_of(name)
    for number, seconds in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + seconds
        for pid in members(state["pid"]):
            os.kill(pid, number)
        while members(state["pid"]) and time.monotonic() < deadline:
            time.sleep(0.01)
    unit_path(name).write_text(json.dumps({**state, "pid": 0, "ended": "inactive"}))


def show(properties: set[str], names: list[str]) -> None:
    if properties - PROPERTIES:
        refuse(f"unknown properties {properties - PROPERTIES}")
    blocks = []
    for name in names:
        state = state_of(name)
        values = {
            "ActiveState": "active" if state["pid"] else state["ended"],
            "Id": name,
            "InvocationID": state["id"],
            "MainPID": str(state["pid"]),
        }
        blocks.append("".join(f"{key}={values[key]}\n" for key in sorted(properties)))
    print("\n".join(blocks), end="")


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] != ["--no-ask-password"]:
        refuse("it would ask for a password")
    match arguments[1:]:
        case ["start", name]:
            start(name)
        case ["stop", name]:
            stop(name)
        case ["kill", "--signal=SIGKILL", name]:
            pids = members(state_of(name)["pid"])
            if not pids:
                refuse(f"Failed to kill unit {name}: Unit {name} not loaded.")
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        case ["show", properties, "--", *names] if properties.startswith("--property=") and names:
            show(set(properties.removeprefix("--property=").split(",")), names)
        case _:
            refuse(f"Unknown command verb or option: {arguments}")


if __name__ == "__main__":
    main()

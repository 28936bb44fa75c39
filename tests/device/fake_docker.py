"""What ``docker`` does as far as a device asks it, and nothing else: an option that it does not know is refused.

Images are archives that hold a program; a container is a folder with its state and a session of processes that carry
its id in a variable, since they have no control group here.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

HERE = Path(os.environ["FAKE_DOCKER"])
RUN_OPTIONS = {
    "--name": r"[a-zA-Z0-9][a-zA-Z0-9_.-]+",
    "--pull": "never",
    "--label": r"[^=]+=.*",
    "--publish": r"127\.0\.0\.1:(\d+):\1",
    "--env": r"[A-Z_]+=.*",
    "--log-driver": "local",
    "--cap-drop": "ALL",
    "--security-opt": "no-new-privileges",
    "--memory": r"\d+",
    "--memory-swap": r"\d+",
    "--cpus": r"\d+(\.\d+)?",
    "--pids-limit": r"\d+",
    "--ulimit": r"(fsize|nofile)=\d+:\d+",
    "--user": r"[a-z0-9:]+",
    "--device": r"/dev/.+",
}


def refuse(text: str, code: int = 1) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(code)


def image_id(archive: Path) -> str:
    return f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"


def image(name: str) -> Path:
    path = HERE / "images" / name.removeprefix("sha256:")
    if not path.exists():
        refuse(f"Error: No such image: {name}")
    return path


def container(name: str) -> Path:
    for path in containers():
        if name in (path.name, json.loads((path / "config").read_text())["name"]):
            return path
    refuse(f"Error: No such container: {name}")


def containers() -> list[Path]:
    """Return them, the youngest first, as ``ps`` does."""
    return sorted((HERE / "containers").iterdir(), key=lambda path: -path.stat().st_ctime_ns)


def is_member(pid: int, identity: str) -> bool:
    place = Path("/proc") / str(pid)
    try:
        marks = (place / "environ").read_bytes().split(b"\0")
        is_dead = (place / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return False
    return f"FAKE_CONTAINER={identity}".encode() in marks and not is_dead


def main_pid(path: Path) -> int:
    """Return the first process; when it has ended the others of its container end as well, as with any engine."""
    pid = int((path / "pid").read_text())
    if pid == 0 or is_member(pid, path.name):
        return pid
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_member(int(entry.name), path.name):
            os.kill(int(entry.name), signal.SIGKILL)
    (path / "pid").write_text("0")
    return 0


def run(arguments: list[str]) -> None:
    options: dict[str, list[str]] = {}
    if "--detach" not in arguments:
        refuse("a device does not wait for its container")
    arguments.remove("--detach")
    while arguments and arguments[0].startswith("--"):
        key, equals, value = arguments.pop(0).partition("=")
        if not equals or key not in RUN_OPTIONS or re.fullmatch(RUN_OPTIONS[key], value) is None:
            refuse(f"unknown flag: {key}={value}", 125)
        options.setdefault(key, []).append(value)
    program, *rest = image(arguments[0]), *arguments[1:]
    if options.get("--pull") != ["never"]:
        refuse("it would pull")
    name = options["--name"][0]
    if any(json.loads((path / "config").read_text())["name"] == name for path in containers()):
        refuse(f'Conflict. The container name "/{name}" is already in use', 125)
    identity = os.urandom(32).hex()
    path = HERE / "containers" / identity
    path.mkdir()
    labels = dict(label.split("=", 1) for label in options.get("--label", []))
    (path / "config").write_text(
        json.dumps({"name": name, "labels": labels, "options": options, "image": program.name})
    )
    environment = dict(variable.split("=", 1) for variable in options.get("--env", []))
    child = subprocess.Popen(
        [sys.executable, "-S", "-E", str(program), *rest],
        env={"FAKE_CONTAINER": identity, **environment}, cwd="/", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=(path / "log").open("ab"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    (path / "pid").write_text(str(child.pid))
    while not is_member(child.pid, identity) and child.poll() is None:
        time.sleep(0.005)
    print(identity)


def stop(path: Path, number: signal.Signals, seconds: float) -> None:
    pid = main_pid(path)
    if pid:
        os.kill(pid, number)
    deadline = time.monotonic() + seconds
    while main_pid(path):
        if time.monotonic() >= deadline:
            os.kill(main_pid(path), signal.SIGKILL)
        time.sleep(0.01)


def inspect(form: str, path: Path) -> None:
    if form != (
        '{{index .Config.Labels "tidegate.slot"}} {{index .Config.Labels "tidegate.role"}} '
        "{{.State.Running}} {{.State.Pid}}"
    ):
        refuse(f"template parsing error: {form}")
    labels, pid = json.loads((path / "config").read_text())["labels"], main_pid(path)
    print(labels["tidegate.slot"], labels["tidegate.role"], "true" if pid else "false", pid)


def remove_image(name: str) -> None:
    """Remove an image unless a container is made of it, be it one that has ended."""
    path = image(name)
    for user in containers():
        if json.loads((user / "config").read_text())["image"] == path.name:
            state, forced = ("running", "cannot") if main_pid(user) else ("stopped", "must")
            used = f"image is being used by {state} container {user.name[:12]}"
            refuse(f"Error response from daemon: conflict: unable to delete {name} ({forced} be forced) - {used}")
    path.unlink()
    print(f"Deleted: sha256:{path.name}")


def main() -> None:
    for name in ("images", "containers"):
        (HERE / name).mkdir(exist_ok=True)
    match sys.argv[1:]:
        case ["load", "--input", archive]:
            data = Path(archive).read_bytes()
            (HERE / "images" / image_id(Path(archive)).removeprefix("sha256:")).write_bytes(data)
        case ["image", "inspect", "--format={{.Id}}", name]:
            print(image_id(image(name)))
        case ["image", "ls", "--all", "--quiet", "--no-trunc"]:
            print("".join(f"sha256:{path.name}\n" for path in (HERE / "images").iterdir()), end="")
        case ["image", "rm", name] if not name.startswith("-"):
            remove_image(name)
        case ["info", "--format={{.DockerRootDir}}"]:
            print(HERE)
        case ["run", *arguments]:
            run(arguments)
        case ["stop", "-t", seconds, name] if seconds.isdecimal():
            stop(container(name), signal.SIGTERM, float(seconds))
        case ["kill", name]:
            if not main_pid(container(name)):
                refuse(f"Error: container {name} is not running")
            stop(container(name), signal.SIGKILL, 5.0)
        case ["rm", "--force", name]:
            path = container(name)
            stop(path, signal.SIGKILL, 5.0)
            _remove(path)
        case ["logs", "--tail", "1000", name]:
            print((container(name) / "log").read_text(), end="")
        case ["ps", "--all", "--quiet", "--no-trunc", label] if label.startswith("--filter=label="):
            key, _, value = label.removeprefix("--filter=label=").partition("=")
            found = [path for path in containers() if _labels(path).get(key) == value]
            print("".join(f"{path.name}\n" for path in found), end="")
        case ["inspect", form, name]:
            inspect(form.removeprefix("--format="), container(name))
        case _:
            refuse(f"unknown command or flag: {sys.argv[1:]}", 125)


def _labels(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((path / "config").read_text())["labels"]
    return found


def _remove(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


if __name__ == "__main__":
    main()

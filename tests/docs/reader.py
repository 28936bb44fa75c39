"""A reader who types a page's command lines in their order, each in the shell that the one before has left behind."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.demo.fleet import free_ports
from tests.docs.pages import ROOT, Step
from tests.docs.shown import missing_headings, pattern_of

WAIT_SECONDS: Final = 60.0
_WIDTH: Final = "100"  # of the captures
_SERVING: Final = (
    "tidegate broker --",
    "tidegate orchestrator",
    "tidegate evaluator --",
    "tidegate cache",
    "tidegate registry",
    "tidegate pieces",
    "tidegate health tail",
    "tidegate-agent run",
    "tidegate-guardian",
)
"""What goes on until it is ended."""
_PROCESS: Final = ("tidegate broker ", "tidegate simulate ", "tidegate notify ")
"""What becomes another program, and so cannot run within this one."""
_SHELL: Final = re.compile(r"[$|&;<>(){}*\n]")
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LEAVE: Final = "\ncode=$?; { export -p; declare -f; } > .session; env -0 > .environment; exit $code"


@dataclass
class Reader:
    """Somebody with a shell in ``folder``; what he started ends with ``stack``.

    What a page takes for granted is laid before him by its scene, which also says how its words are to be read here.

    Attributes:
        environment: What his shell exports.
        replace: Patterns of what stands in commands and output, with what stands for them here (ports, passwords).
        before: What happens in his world before a command that begins so: mostly that time passes.
        ready: When a command that begins so, goes on and says nothing has begun its work.
        serving: How more commands begin that go on until they are ended.
        exits: Codes, other than 0, with which commands that begin so may end.
        loosely: Other numbers are said here than on the page.
        captured: The page shows another fleet: only headings of tables are compared.
        ports: Free ones, to be used once.
        running: What he has started.
        served: What of that goes on.
    """

    stack: ExitStack
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    replace: dict[str, str] = field(default_factory=dict)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    ready: dict[str, Callable[[], bool]] = field(default_factory=dict)
    serving: tuple[str, ...] = ()
    exits: dict[str, tuple[int, ...]] = field(default_factory=dict)
    loosely: bool = False
    captured: bool = False
    ports: Iterator[int] = field(default_factory=lambda: iter(free_ports(12)))
    running: "list[tuple[str, subprocess.Popen[bytes]]]" = field(default_factory=list)
    served: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def __post_init__(self) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        self.environment = {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": _WIDTH, "NO_COLOR": "1"}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "examples").symlink_to(ROOT / "examples")
        self.stack.callback(self.end_all)

    def read(self, text: str) -> str:
        """Return what ``text`` of the page is here."""
        for pattern, here in self.replace.items():
            text = re.sub(pattern, here, text)
        return text

    def enter(self, step: Step) -> None:
        """Type a command and look at what it says.

        Raises:
            AssertionError: It fails, or says something else than is shown.
        """
        for beginning, happens in self.before.items():
            if step.text.startswith(beginning):
                happens()
        command = self.read(step.text)
        shown = pattern_of(self.read(step.shown), loosely=self.loosely)
        if command.startswith((*_SERVING, *self.serving)) or self._is_served(command):
            said = self._serve(step, command, shown)
            shown = re.compile(shown.pattern + ".*", flags=re.DOTALL)
        else:
            said = self._run(step, command)
            assert '"status":"error"' not in said.replace(" ", "") or "error" in step.shown, f"{step}\n{said}"
        if self.captured:
            missing = missing_headings(step.shown, said)
            assert not missing, f"{step}\n{said}\nhas no heading {missing}"
        elif step.shown:
            assert shown.fullmatch(said.strip()), f"{step}\n{said}\nis not what is shown:\n{step.shown}"

    def own(self, *arguments: str, exits: tuple[int, ...] = (0,)) -> str:
        """Run ``tidegate`` beside the page, and return what it says."""
        result = CliRunner().invoke(app, list(arguments), env=self._difference())
        assert result.exit_code in exits, f"tidegate {' '.join(arguments)}\n{result.output}"
        return result.stdout

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until ``condition`` holds."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain until {what}\n{self.log()}"
            time.sleep(0.2)

    def log(self) -> str:
        """Return what the commands that go on have said, for whoever looks at a failure."""
        files = sorted(self.folder.glob(".said-*")) + sorted(self.folder.glob("**/*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in files)

    def end(self, beginning: str) -> str:
        """End what was started with a command that begins so, and return that command."""
        command, process = next(each for each in self.running if each[0].startswith(beginning))
        self.served.remove(process)
        _signal(process, signal.SIGTERM)
        process.wait(timeout=WAIT_SECONDS)
        return command

    def check_alive(self) -> None:
        """Fail if something that goes on has ended by itself with an error."""
        for command, process in self.running:
            assert process not in self.served or process.poll() in (None, 0), (
                f"$ {command}\nended with {process.returncode}\n{self.log()}"
            )

    def end_all(self) -> None:
        """End everything that goes on."""
        for _, process in reversed(self.running):
            _signal(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            _signal(process, signal.SIGKILL)
            process.wait(timeout=10)

    def _is_served(self, command: str) -> bool:
        return command.startswith("tidegate notify") and "--test" not in command

    def _run(self, step: Step, command: str) -> str:
        words = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^> ", "", command))
        is_ours = words.startswith("tidegate ") and not words.startswith(_PROCESS)
        if is_ours and not _SHELL.search(re.sub(r"'[^']*'|\s#.*$", "", words)):
            arguments = shlex.split(words, comments=True)[1:]
            result = CliRunner().invoke(app, arguments, env=self._difference())
            code, said, errors = result.exit_code, result.stdout, result.stderr
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
        else:
            process = self.start(command)
            try:
                process.wait(timeout=WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                pytest.fail(f"{step}\ndoes not end\n{self.log()}")
            self._take_over()
            code, said, errors = process.returncode, self._said(process), self._said(process, "errors")
        allowed = next((each for start, each in self.exits.items() if step.text.startswith(start)), (0,))
        assert code in allowed, f"{step}\nended with {code}\n{said}{errors}\n{self.log()}"
        return said

    def _serve(self, step: Step, command: str, shown: "re.Pattern[str]") -> str:
        if self.captured:  # in a terminal
            command = f"script -qefc {shlex.quote(command)} /dev/null"
        process = self.start(f"exec {command}" if command.startswith(("tidegate", "script")) else command)

        self.served.append(process)

        def has_begun() -> bool:
            assert process.poll() in (None, 0), f"{step}\nended with {process.returncode}\n{self.log()}"
            for beginning, is_ready in self.ready.items():
                if step.text.startswith(beginning):
                    return is_ready()
            said = self._said(process)
            if self.captured:
                return bool(said) and not missing_headings(step.shown, said)
            return bool(shown.match(said) if step.shown else said or self._said(process, "errors"))

        self.until(has_begun, f"{step} has begun")
        return self._said(process)

    def start(self, command: str) -> "subprocess.Popen[bytes]":
        """Start a command in the shell, which ends with the page."""
        number = len(self.running)
        begin = "test -f .session && . ./.session\nset -a\n"
        with (
            (self.folder / f".said-{number}").open("wb") as said,
            (self.folder / f".said-{number}-errors").open("wb") as errors,
        ):
            process = subprocess.Popen(
                ["bash", "-c", begin + command + _LEAVE], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=said, stderr=errors, start_new_session=True,
            )  # fmt: skip
        self.running.append((command.removeprefix("exec "), process))
        return process

    def _said(self, process: "subprocess.Popen[bytes]", suffix: str = "") -> str:
        number = [each for _, each in self.running].index(process)
        name = f".said-{number}-{suffix}" if suffix else f".said-{number}"
        return _ESCAPE.sub("", (self.folder / name).read_text(encoding="utf-8", errors="replace"))

    def _take_over(self) -> None:
        """Keep what the command has exported, for what runs in this process."""
        entries = (self.folder / ".environment").read_text(encoding="utf-8").split("\0")
        self.environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)

    def _difference(self) -> dict[str, str | None]:
        return {**dict.fromkeys(os.environ), **self.environment}


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)  # What a shell started with & is of its group.

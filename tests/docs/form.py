"""Whether a command line can be typed: the program, its command and its options exist."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest
import typer

from device_client.__main__ import main as agent
from device_client.guardian.__main__ import main as guardian
from embedded_broker.__main__ import main as broker
from orchestrator.__main__ import app
from simulator.__main__ import main as simulator
from tests.docs.pages import ROOT

_HELPED: Final[dict[str, Callable[[], int]]] = {
    "tidegate broker": broker,
    "tidegate simulate": simulator,
    "tidegate-agent": agent,
    "tidegate-guardian": guardian,
}
"""Programs that read their own options."""
_CALL: Final = re.compile(r"(?:^|[;&|(]\s*|sudo |do |\b[A-Z_]+=\S+ )(tidegate(?:-agent|-guardian)?|make) ([^;&|\n]*)")
_TOPIC: Final = re.compile(r"fleet/v1/[^\s'\"]+")


def check_form(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if ``text`` is no shell, or says something of ours that does not exist."""
    joined = re.sub(r"\\\n\s*", " ", text)
    shell = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True, check=False)
    assert shell.returncode == 0, shell.stderr
    for program, rest in _CALL.findall(joined):
        check_call(program, rest, monkeypatch)


def check_call(program: str, rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if ``program`` has no such command or option."""
    words = shlex.split(rest, comments=True)
    words = words[: words.index("--")] if "--" in words else words
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(words[:1]) <= set(targets), f"make has no target {words[0]}"
        return
    name = f"{program} {words[0]}" if words and f"{program} {words[0]}" in _HELPED else program
    if name in _HELPED:
        verb = [words[0]] if program == "tidegate-agent" else []
        missing = {option for option in options if option not in _help(_HELPED[name], verb, monkeypatch)}
    else:
        missing = options - _known(words)
    assert not missing, f"{program} {rest}: no option {', '.join(sorted(missing))}"


def _help(main: Callable[[], int], verb: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    said = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["program", *verb, "--help"])
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main()
    assert "usage" in said.getvalue(), f"no command {' '.join(verb)}"
    return said.getvalue()


def _known(words: list[str]) -> set[str]:
    """Return the options that may stand in this call of ``tidegate``."""
    command: Any = typer.main.get_command(app)
    known = {"--help", "-h"}
    rest = list(words)
    while True:
        takes_value = {
            o: not p.is_flag for p in command.params if hasattr(p, "is_flag") for o in (*p.opts, *p.secondary_opts)
        }
        known |= set(takes_value)
        if not hasattr(command, "commands"):
            return known
        while rest and rest[0].startswith("-"):
            option = rest.pop(0)
            if takes_value.get(option) and rest:
                rest.pop(0)
        if not rest:
            return known
        assert rest[0] in command.commands, f"there is no command `tidegate {' '.join(words)}`"
        command = command.commands[rest.pop(0)]


def topics_in(text: str) -> list[str]:
    """Return the topics and filters that a command line names."""
    return _TOPIC.findall(text)

import json
import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest
import typer

import orchestrator.cli
import orchestrator.demo
from orchestrator.__main__ import Commands
from orchestrator.cli.lazy import commands_of

BROKER = ("--broker", "mqtt://127.0.0.1:1")
RUN = """
import json, sys
from orchestrator.__main__ import main
sys.argv[0] = "tidegate"
try:
    main()
except SystemExit as left:
    print(json.dumps([left.code, sorted(sys.modules)]))
"""
THE_ENGINE = {"lark", "numpy", "orchestrator.adapters.journal", "orchestrator.core.events", "orchestrator.service"}


def test_the_table_has_every_command_that_a_module_holds() -> None:
    modules = [
        import_module(found.name)
        for package in (orchestrator.cli, orchestrator.demo)
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ]
    held = {
        (name, module.__name__)
        for module in modules
        if isinstance(getattr(module, "app", None), typer.Typer)
        for name in commands_of(module.__name__)
    }
    assert held == set(Commands.modules.items())


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        (("version",), 0),
        (("--version",), 0),
        (("list", *BROKER), 5),
        (("pause", "r-1", *BROKER), 5),
        (("devices", *BROKER), 5),
        (("health", "top", *BROKER), 5),
        (("watch", *BROKER), 5),
        (("pauze",), 2),
    ],
)
def test_asking_the_orchestrator_takes_none_of_its_engine(typed: tuple[str, ...], code: int) -> None:
    assert THE_ENGINE.isdisjoint(modules_after(typed, code))


def test_what_asks_nobody_takes_neither_mqtt_nor_messages() -> None:
    assert {"aiomqtt", "asyncio", "schemas.messages"}.isdisjoint(modules_after(("version",), 0))


def modules_after(typed: tuple[str, ...], code: int) -> set[str]:
    done = subprocess.run([sys.executable, "-c", RUN, *typed], capture_output=True, text=True, check=True)
    left, modules = json.loads(done.stdout.splitlines()[-1])
    assert left == code, done.stderr
    return set(modules)

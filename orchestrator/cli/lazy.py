"""Commands that are imported when they are called, so that nobody waits for those that he did not type."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


class LazyGroup(TyperGroup):
    """A group whose subclass says in which module each command is; its help imports them all.

    A module has an ``app``: where that has a name, it is the command, with others below it; else it holds commands.
    """

    modules: ClassVar[Mapping[str, str]]
    """By the command's name, in the order of the help."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - typer's own
        super().__init__(**settings)
        self.commands: Any = _Commands(self.modules)


class _Commands(Mapping[str, Any]):
    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - a command is of typer's own copy of click
        return commands_of(self._modules[name])[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


@cache
def commands_of(module: str) -> Mapping[str, Any]:
    """Import a module and return its commands by their names."""
    app, parent = import_module(module).app, typer.Typer()
    parent.add_typer(app, rich_help_panel=app.rich_help_panel)  # which typer forgets that the group itself names
    return typer.main.get_group(parent).commands

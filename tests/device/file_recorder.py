# ruff: noqa: ANN401 - it wraps whatever the functions of os take and give
"""Writes down what a program does to a folder, as a ``History``, by standing before Python's functions for files.

What a file holds is looked up whenever something else is done, so writes count however they are made. Nothing waits for
the disk meanwhile: what is durable is the model's business. At the end the history must give the folder as it really
is; a change that was not seen would show.
"""

import builtins
import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.device.crash_model import ROOT, Failed, History, Kind, Names, Node, Said, Synced, Written, read_image

_WRITING = os.O_WRONLY | os.O_RDWR


class Recorder:
    """Records one folder.

    Args:
        root: What lies in it now counts as durable.
        fail_at: The number of the call, from 1 on, at which the disk fails; None: never.

    Attributes:
        calls: How many there were that change something.
    """

    def __init__(self, root: Path, fail_at: int | None = None) -> None:
        self.root = root.resolve()
        self.fail_at = fail_at
        self.calls = 0
        self._thread = threading.get_ident()
        self.history = History()
        self._names: dict[int, dict[str, int]] = {ROOT: {}}
        self._writing: dict[int, int] = {}
        self._last: dict[int, tuple[bytes, int]] = {}
        self._open = os.open
        for path, node in read_image(self.root).items():
            folder, name = self._find(self.root / path) or (ROOT, path)
            inode = self._add(node)
            self.history.before.append(Names(((folder, name, inode),)))
            self._names[folder][name] = inode

    @contextmanager
    def recording(self) -> Iterator[History]:
        """Record until the end of the block, however it ends."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("mkdir", "symlink", "unlink", "remove", "rmdir", "rename", "replace", "open", "fsync"):
                patch.setattr(os, name, self._before(getattr(os, name), getattr(self, f"_{_METHODS.get(name, name)}")))
            opened = self._before(io.open, self._stream)
            patch.setattr(io, "open", opened)
            patch.setattr(builtins, "open", opened)
            try:
                yield self.history
            finally:
                self._note_writes()
                for descriptor in self._writing.values():
                    os.close(descriptor)
        assert self.history.image() == read_image(self.root), "something was done to the folder that nobody saw"

    def say(self, number: int) -> None:
        """Note that something was told to others."""
        self._note_writes()
        self.history.changes.append(Said(number))

    def _before(self, real: Callable[..., Any], seen: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() != self._thread:
                return real(*arguments, **options)
            self._note_writes()
            return seen(real, *arguments, **options)

        return wrapper

    def _do(self, is_ours: object, real: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Do it, or fail in its place."""
        if is_ours:
            self.calls += 1
            if self.calls == self.fail_at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*arguments, **options)

    def _mkdir(self, real: Any, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._do(self._find(path, dir_fd), real, path, mode, dir_fd=dir_fd)
        self._appeared(path, dir_fd)

    def _symlink(self, real: Any, target: Any, path: Any, *_: Any, dir_fd: int | None = None) -> None:
        self._do(self._find(path, dir_fd), real, target, path, dir_fd=dir_fd)
        self._appeared(path, dir_fd)

    def _vanish(self, real: Any, path: Any, *, dir_fd: int | None = None) -> None:
        place = self._find(path, dir_fd)
        self._do(place, real, path, dir_fd=dir_fd)
        if place is not None:
            self._name((*place, None))

    def _rename(self, real: Any, source: Any, target: Any) -> None:
        before, after = self._find(source), self._find(target)
        assert (before is None) == (after is None), "nothing comes into the folder or leaves it"
        self._do(before, real, source, target)
        if before is not None and after is not None:
            self._name((*before, None), (*after, self._names[before[0]][before[1]]))

    def _descriptor(self, real: Any, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = self._find(path, dir_fd)
        was_there = self._is_there(place)
        is_written = place is not None and flags & _WRITING
        descriptor: int = self._do(is_written, real, path, flags, mode, dir_fd=dir_fd)
        if is_written:
            self._opened(path, dir_fd, was_there=was_there, truncated=bool(flags & os.O_TRUNC))
        return descriptor

    def _stream(self, real: Any, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        place = None if isinstance(file, int) else self._find(file)
        was_there = self._is_there(place)
        is_written = place is not None and set(mode) & set("wax+")
        stream = self._do(is_written, real, file, mode, *arguments, **options)
        if is_written:
            self._opened(file, None, was_there=was_there, truncated="w" in mode)
        return stream

    def _fsync(self, real: Any, file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        place = self._find(path)
        if place is None and path != self.root:
            return
        inode = ROOT if place is None else self._names[place[0]][place[1]]
        try:
            self._do(path, real, file)
        except OSError:
            self.history.changes.append(Failed(inode))
            raise
        self.history.changes.append(Synced(inode))

    def _opened(self, path: Any, dir_fd: int | None, *, was_there: bool, truncated: bool) -> None:
        if not was_there:
            self._appeared(path, dir_fd)
        place = self._find(path, dir_fd)
        assert place is not None
        inode = self._names[place[0]][place[1]]
        if inode not in self._writing:
            self._writing[inode] = self._open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
        if was_there and truncated:
            self._note_writes()

    def _appeared(self, path: Any, dir_fd: int | None) -> None:
        place = self._find(path, dir_fd)
        if place is None:
            return
        status = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            node = Node(Kind.LINK, mode, os.fsencode(os.readlink(path, dir_fd=dir_fd)))
        else:
            node = Node(Kind.FOLDER if stat.S_ISDIR(status.st_mode) else Kind.FILE, mode)
        self._name((*place, self._add(node)))

    def _add(self, node: Node) -> int:
        inode = len(self.history.nodes)
        self.history.nodes.append(node)
        self._last[inode] = (node.data, node.mode)
        if node.kind is Kind.FOLDER:
            self._names[inode] = {}
        return inode

    def _name(self, *changes: tuple[int, str, int | None]) -> None:
        for folder, name, inode in changes:
            if inode is None:
                del self._names[folder][name]
            else:
                self._names[folder][name] = inode
        self.history.changes.append(Names(changes))

    def _note_writes(self) -> None:
        for inode, descriptor in self._writing.items():
            status = os.fstat(descriptor)
            found = (os.pread(descriptor, status.st_size, 0), stat.S_IMODE(status.st_mode))
            if found != self._last[inode]:
                self._last[inode] = found
                self.history.changes.append(Written(inode, *found))

    def _find(self, path: Any, dir_fd: int | None = None) -> tuple[int, str] | None:
        """Return a place by the inode of its folder and its name; None if it is not below ours."""
        base = Path.cwd() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
        whole = base / os.fsdecode(path)
        if not whole.is_relative_to(self.root) or whole == self.root:
            return None
        *parents, name = whole.relative_to(self.root).parts
        folder = ROOT
        for parent in parents:
            folder = self._names[folder][parent]
        return folder, name

    def _is_there(self, place: tuple[int, str] | None) -> bool:
        return place is not None and place[1] in self._names[place[0]]


_METHODS = {"unlink": "vanish", "remove": "vanish", "rmdir": "vanish", "replace": "rename", "open": "descriptor"}

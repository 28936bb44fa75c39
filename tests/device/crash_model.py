"""What a power cut may leave of a folder: a pure function of what was done to it.

A file system is inodes and the names that folders give them. What was done to it is a list of changes: names that came
and went, contents that were written, and what was made durable (fsync). In both models a file has, after the cut, what
it had when it was last made durable, or anything that was written since: all of it, half of it, or zeros in its place.

* ``ORDERED``: changes of names become durable in the order in which they were made, so a first part of them is there.
* ``WEAK``, all that POSIX promises: a change of names is durable once its folder is, and before that each is there or
  not, independently of the others.

Exchanging a name (rename) is one change in both, and a link has its target at once.

Source:
    Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014), for what differs between file systems.
"""

import itertools
import math
import os
import random
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

ROOT: Final = 0


class Model(Enum):
    ORDERED = "ordered"
    WEAK = "weak"


class Kind(Enum):
    FOLDER = "folder"
    FILE = "file"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Node:
    """An inode; ``data`` is what it has when it is made: of a link its target, of a file nothing."""

    kind: Kind
    mode: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Names:
    """One change of names, there as a whole or not at all: folder, name, and the inode that has it; None: nobody."""

    changes: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds from now on, and its mode."""

    inode: int
    data: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A file's contents, or a folder's names, are durable."""

    inode: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A file could not be made durable; what was written before is then called clean, and no later try brings it back.

    Source:
        Rebello et al., "Can Applications Recover from fsync Failures?" (ATC 2020).
    """

    inode: int


@dataclass(frozen=True, slots=True)
class Said:
    """Something was told to others, so it must be remembered from now on."""

    number: int


Change = Names | Written | Synced | Failed | Said
Image = Mapping[str, Node]
"""A whole folder: path to what is there."""


@dataclass
class History:
    """What was done to a folder, from a state on in which everything is durable."""

    nodes: list[Node] = field(default_factory=lambda: [Node(Kind.FOLDER, 0o755)])
    before: list[Names] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def image(self) -> Image:
        """Return the folder as it is now, as whoever has not lost power sees it."""
        contents = {change.inode: change for change in self.changes if isinstance(change, Written)}
        return self._image([change for change in self.changes if isinstance(change, Names)], contents)

    def cuts(self, length: int, model: Model, limit: int, rng: random.Random) -> Iterator[Image]:
        """Yield what a power cut after the first ``length`` changes may leave.

        Args:
            length: How much was done.
            model: What the file system promises.
            limit: About how many to yield. The latest changes are combined in every way as far as that goes, with
                older ones as they fall; what keeps or loses everything, and all but one, is always there.
            rng: Decides about the older ones.
        """
        done = self.changes[:length]
        choices = _choices(done, model)
        for chosen in _combinations([len(choice.options) for choice in choices], limit, rng):
            lost: set[int] = set()
            contents = {change.inode: change for change in done if isinstance(change, Written)}
            for choice, option in zip(choices, chosen, strict=True):
                found = choice.options[option]
                if isinstance(found, Written):
                    contents[found.inode] = found
                elif found is None:
                    contents.pop(choice.inode)
                else:
                    lost |= found
            kept = [each for at, each in enumerate(done) if isinstance(each, Names) and at not in lost]
            yield self._image(kept, contents)

    def _image(self, names: Sequence[Names], contents: Mapping[int, Written]) -> Image:
        folders: dict[int, dict[str, int]] = {}
        for names_changed in (*self.before, *names):
            for folder, name, inode in names_changed.changes:
                if inode is None:
                    folders.get(folder, {}).pop(name, None)
                else:
                    folders.setdefault(folder, {})[name] = inode

        def walk(folder: int, prefix: str) -> Iterator[tuple[str, Node]]:
            for name, inode in sorted(folders.get(folder, {}).items()):
                node, written = self.nodes[inode], contents.get(inode)
                yield prefix + name, node if written is None else Node(node.kind, written.mode, written.data)
                if node.kind is Kind.FOLDER:
                    yield from walk(inode, f"{prefix}{name}/")

        return dict(walk(ROOT, ""))


@dataclass(frozen=True, slots=True)
class _Choice:
    """What the power cut decides: which changes of names are lost, or what a file holds; the last option loses nothing.

    A file that holds None has what it had at first.
    """

    at: int
    options: tuple[frozenset[int] | Written | None, ...]
    inode: int = ROOT


def _choices(done: Sequence[Change], model: Model) -> list[_Choice]:
    """Return what is open, the latest first."""
    return sorted((*_open_names(done, model), *_open_contents(done)), key=lambda choice: -choice.at)


def _open_names(done: Sequence[Change], model: Model) -> list[_Choice]:
    synced_at = {change.inode: at for at, change in enumerate(done) if isinstance(change, Synced)}
    names = [(at, change) for at, change in enumerate(done) if isinstance(change, Names)]
    waiting = [at for at, names in names if any(at > synced_at.get(folder, -1) for folder, _, _ in names.changes)]
    if model is Model.WEAK:
        return [_Choice(at, (frozenset({at}), frozenset())) for at in waiting]
    durable = [at for at, _ in names if at not in waiting]
    waiting = [at for at in waiting if not durable or at > durable[-1]]
    options = [frozenset(waiting[count:]) for count in range(len(waiting) + 1)]
    return [_Choice(waiting[-1], tuple(options))] if waiting else []


def _open_contents(done: Sequence[Change]) -> Iterator[_Choice]:
    durable: dict[int, Written] = {}
    since: dict[int, list[tuple[int, Written]]] = {}
    failed_at: dict[int, int] = {}
    for at, change in enumerate(done):
        if isinstance(change, Names | Said):
            continue
        if isinstance(change, Written):
            since.setdefault(change.inode, []).append((at, change))
        elif isinstance(change, Failed):
            failed_at[change.inode] = at
        elif change.inode in since and since[change.inode][-1][0] > failed_at.get(change.inode, -1):
            durable[change.inode] = since.pop(change.inode)[-1][1]
    for inode, written in since.items():
        at, last = written[-1]
        half = len(last.data) // 2
        torn = (last.data[:half], last.data[:half] + bytes(len(last.data) - half))
        options: list[Written | None] = [durable.get(inode)]
        options += [each for _, each in written[-3:-1]]
        options += [Written(inode, data, last.mode) for data in torn if data != last.data]
        yield _Choice(at, (*options, last), inode)


def _combinations(counts: Sequence[int], limit: int, rng: random.Random) -> Iterator[tuple[int, ...]]:
    """Yield which option is taken of each; ``counts`` says how many there are."""
    everything = tuple(count - 1 for count in counts)
    nothing = (0,) * len(counts)
    yield everything
    combined = 0
    while combined < len(counts) and math.prod(counts[: combined + 1]) <= limit:
        combined += 1
    for latest in itertools.product(*(range(count) for count in counts[:combined])):
        yield (*latest, *(rng.randrange(count) for count in counts[combined:]))
    if combined == len(counts):
        return
    yield nothing
    for number in rng.sample(range(len(counts)), min(len(counts), limit)):
        for base, other in ((everything, nothing), (nothing, everything)):
            yield (*base[:number], other[number], *base[number + 1 :])


def read_image(folder: Path) -> Image:
    """Return what is below a real folder."""

    def walk(parent: Path, prefix: str) -> Iterator[tuple[str, Node]]:
        for entry in sorted(os.scandir(parent), key=lambda entry: entry.name):
            path, mode = Path(entry), stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
            if entry.is_symlink():
                yield prefix + entry.name, Node(Kind.LINK, 0o777, os.fsencode(path.readlink()))
            elif entry.is_dir():
                yield prefix + entry.name, Node(Kind.FOLDER, mode)
                yield from walk(path, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, Node(Kind.FILE, mode, path.read_bytes())

    return dict(walk(folder, ""))


def write_image(image: Image, folder: Path) -> None:
    """Make a real folder that holds exactly ``image``; it must not be there yet."""
    folder.mkdir()
    for path, node in image.items():
        place = folder / path
        if node.kind is Kind.FOLDER:
            place.mkdir()
        elif node.kind is Kind.LINK:
            place.symlink_to(os.fsdecode(node.data))
            continue
        else:
            place.write_bytes(node.data)
        place.chmod(node.mode)

"""What is put to the test: a decoder, what it may refuse with, and examples of what it reads."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.fuzz.mutator import Mutator, Shape


def no_shapes(_seeds: Sequence[bytes]) -> tuple[Shape, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder of what comes from outside.

    Attributes:
        decode: Reads a payload, and asserts what must hold of what it has read.
        refusals: The documented errors; whatever else is raised is a finding.
        seeds: Makes valid documents, by the product's own encoders where there are some, and hostile ones.
        shapes: Makes of these seeds what makes whole documents.
        cost: One payload costs as much as so many of a cheap decoder; the tests give it so many times fewer.
    """

    decode: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]
    shapes: Callable[[Sequence[bytes]], tuple[Shape, ...]] = no_shapes
    cost: int = 1

    def feed(self, payload: bytes) -> bool:
        """Decode and say whether it was accepted; only a finding comes out as an exception."""
        try:
            self.decode(payload)
        except self.refusals:
            return False
        return True

    def mutator(self) -> Mutator:
        """Return what makes its payloads."""
        seeds = self.seeds()
        return Mutator(seeds, self.shapes(seeds))


def text_of(payload: bytes) -> str:
    """Read a payload as the text of a file; what is no UTF-8 never gets as far as a parser."""
    return payload.decode(errors="replace")


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None)


def folder() -> Path:
    """Return a folder of this process, in memory where there is such, gone at its end."""
    return Path(_folder().name)

"""What a reader of the documentation types: every command line of every page, with what is shown of its output."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^```(.*)$")
_HEREDOC: Final = re.compile(r"<<'?(\w+)'?")
TYPED: Final = frozenset({"console", "sh"})
"""Languages of blocks that hold commands: with a prompt and output, or without both."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        language: The first word after the fence; empty if there is none.
        session: What stands behind the language: blocks with different words are typed in different folders.
        lines: The text, with the numbers of the lines in the page.
    """

    page: str
    language: str
    session: str
    lines: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One command line.

    Attributes:
        text: As it is typed, continued lines and all.
        shown: What the page shows of its output; empty if nothing.
    """

    page: str
    line: int
    session: str
    text: str
    shown: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: $ {self.text}"


def all_pages() -> list[str]:
    """Name every page of the repository, relative to its root."""
    found = (path.relative_to(ROOT) for pattern in ("*.md", "*/*.md", "*/*/*.md") for path in ROOT.glob(pattern))
    return sorted(str(path) for path in found if not path.parts[0].startswith((".", "dist", "node_modules")))


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    about: list[str] | None = None
    lines: list[tuple[int, str]] = []
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if fence is None:
            lines.append((number, line))
        elif about is None:
            about, lines = [*fence[1].split(), "", ""], []
        else:
            yield Block(page, about[0], about[1], tuple(lines))
            about = None


def block(page: str, language: str, number: int = 0) -> str:
    """Return the text of a page's block in a language."""
    found = [each for each in blocks_of(page) if each.language == language]
    return "\n".join(line for _, line in found[number].lines) + "\n"


def steps_of(page: str) -> list[Step]:
    """Return the command lines of a page in their order."""
    return [step for block in blocks_of(page) if block.language in TYPED for step in _steps(block)]


def _steps(block: Block) -> Iterator[Step]:
    prompt = "$ " if block.language == "console" else ""
    lines = list(block.lines)
    while lines:
        number, line = lines.pop(0)
        if not line.startswith(prompt) or not line:
            raise ValueError(f"{block.page}:{number}: output of no command: {line}")
        text = line.removeprefix(prompt)
        while lines and _goes_on(text):
            text += "\n" + lines.pop(0)[1]
        shown = ""
        while prompt and lines and not lines[0][1].startswith(prompt):
            shown += lines.pop(0)[1] + "\n"
        yield Step(block.page, number, block.session, text, shown)


def _goes_on(text: str) -> bool:
    heredoc = _HEREDOC.search(text)
    return text.endswith("\\") or (heredoc is not None and text.splitlines()[-1] != heredoc[1])

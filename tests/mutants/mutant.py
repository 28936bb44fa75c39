"""What a mutant is: one small slip in the product's text, and the tests that ought to notice."""

from dataclasses import dataclass
from typing import Final

WIDER: Final = (
    ("orchestrator/telemetry/", ("tests/telemetry", "tests/core", "tests/simulation")),
    ("orchestrator/planning/", ("tests/planning", "tests/core")),
    ("orchestrator/core/", ("tests/core", "tests/planning", "tests/cli", "tests/simulation", "tests/end_to_end")),
    ("orchestrator/", ("tests/core", "tests/shell", "tests/simulation", "tests/end_to_end")),
    ("device_client/", ("tests/device", "tests/vectors", "tests/simulation")),
    ("schemas/", ("tests/core", "tests/vectors", "tests/device", "tests/shell", "tests/end_to_end")),
)
"""Where else a mutant may be noticed, by the file that it is in: the first entry that fits."""


class MisfitError(Exception):
    """The product's text is not what a mutant was made for any more; whoever changed it makes the mutant anew."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug.

    Attributes:
        name: What is done wrong, in a few words.
        harm: What it would do to people, in one sentence.
        file: Of the product, from the project's folder on.
        old: What stands there, exactly once.
        new: What is put in its place.
        tests: Files or tests that are run first, the quickest that should notice.
    """

    name: str
    harm: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied_to(self, text: str) -> str:
        """Return the file's text with the slip in it.

        Raises:
            MisfitError: What it replaces is not there exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise MisfitError(
                f"{self.name}: {self.file} has {count} times what it replaces; make it anew: {self.old!r}"
            )
        return text.replace(self.old, self.new)

    @property
    def wider(self) -> tuple[str, ...]:
        """The folders of tests that are run when those named have noticed nothing."""
        return next(folders for prefix, folders in WIDER if self.file.startswith(prefix))

    @property
    def module(self) -> str:
        """The file's name for ``import``."""
        return self.file.removesuffix(".py").replace("/", ".")

"""Every mutant still fits to the product, and the program that runs them tells what is caught from what is not."""

import ast
import re
import shutil
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.campaign import Outcome, judged, proven
from tests.mutants.catalogue import MUTANTS
from tests.mutants.checkout import ROOT, Checkout
from tests.mutants.mutant import MisfitError, Mutant

VERDICTS = next(each for each in MUTANTS if each.name == "gate-without-checks-passes")
NOTICED = replace(VERDICTS, tests=("tests/core/test_verdicts.py",))
UNNOTICED = replace(NOTICED, name="an-unused-word", old="as it stands on the wire", new="as it stands on a wire")
NO_PYTHON = replace(NOTICED, name="no-python", new="return (")
SMALL = (
    "pyproject.toml", "schemas/__init__.py", "schemas/verdicts.py", "tests/core/test_verdicts.py",
    "tests/mutants/imported.py",
)  # fmt: skip
"""As much of the project as it takes to tell these apart."""


@cache
def text_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def is_there(test: str) -> bool:
    file, _, function = test.partition("::")
    return f"def {function}" in text_of(file)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_fits_to_the_product_and_can_be_compiled(mutant: Mutant) -> None:
    compile(mutant.applied_to(text_of(mutant.file)), mutant.file, "exec", ast.PyCF_ONLY_AST)

    assert mutant.old != mutant.new
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", mutant.name)
    assert all(is_there(test) for test in mutant.tests)
    assert all((ROOT / folder).is_dir() for folder in mutant.wider)


def test_no_two_mutants_are_the_same() -> None:
    assert max(Counter(each.name for each in MUTANTS).values()) == 1
    assert max(Counter((each.file, each.old, each.new) for each in MUTANTS).values()) == 1


def test_mutant_that_does_not_fit_any_more_says_so() -> None:
    with pytest.raises(MisfitError, match="has 0 times what it replaces"):
        NOTICED.applied_to("something else")
    with pytest.raises(MisfitError, match="has 2 times what it replaces"):
        NOTICED.applied_to(NOTICED.old * 2)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    for file in SMALL:
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, project / file)
    for folder in NOTICED.wider:
        (project / folder).mkdir(exist_ok=True)
    return project


def test_what_is_caught_is_told_from_what_survives_and_from_what_says_nothing(small: Path, tmp_path: Path) -> None:
    sound = Checkout(small, tmp_path / "sound")
    outcomes = list(judged([NOTICED, UNNOTICED, NO_PYTHON], sound, 2))
    tests = sound.folder / "tests/core/test_verdicts.py"
    tests.write_text(f"{tests.read_text()}\n\ndef test_that_is_broken() -> None:\n    raise AssertionError\n")
    always = Outcome("fails-always", "", "", caught_by="tests/core/test_verdicts.py::test_that_is_broken")

    found = {each.name: each for each in proven([*outcomes, always], sound, 0)}

    caught, survived, broken = (found[each.name] for each in (NOTICED, UNNOTICED, NO_PYTHON))
    assert (caught.caught_by, caught.ring) == ("tests/core/test_verdicts.py::test_nothing_shows_nothing", "rules")
    assert (survived.caught_by, survived.error) == ("", "")
    assert "SyntaxError" in broken.error
    assert (found[always.name].caught_by, found[always.name].error) == ("", f"{always.caught_by} fails without it too")

"""docs/REFERENCE.md: every file and every test that it names is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "REFERENCE.md"
ROW = re.compile(r"^\| (?P<sentence>.+?) \| `(?P<place>[^`]+)` \| `(?P<file>[^`:]+)::(?P<test>\w+)` \|$")


def rows() -> list[re.Match[str]]:
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    body = [line for line in lines if not line.startswith("| The reference says")]
    found = [ROW.match(line) for line in body]
    assert all(found), [line for line, match in zip(body, found, strict=True) if not match]
    return [match for match in found if match]


def functions_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["sentence"][:40])
def test_what_a_row_names_is_there(row: re.Match[str]) -> None:
    assert (ROOT / row["place"]).is_file()
    assert row["test"] in functions_in(ROOT / "tests" / row["file"])


def test_every_section_has_rows() -> None:
    sections = re.split(r"^## ", TABLE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]

    assert all(len(re.findall(r"^\| ", section, flags=re.MULTILINE)) > 1 for section in sections)

"""`make test-installed` reads only the files that name a mark of its own, so none may come from anywhere else."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
MARKS = tuple("mark." + name for name in ("mosquitto", "debian", "chromium"))


def test_marks_of_what_needs_installed_programs_stand_in_tests_and_their_conftest() -> None:
    naming = [path for path in TESTS.rglob("*.py") if any(mark in path.read_text() for mark in MARKS)]

    assert len(naming) > 20
    assert [path for path in naming if not path.name.startswith("test_") and path.name != "conftest.py"] == []

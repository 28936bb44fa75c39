import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.adapters.journal import JOURNAL_NAME, Journal
from tests.reporting.report_bench import complete, make_bench, roll_back


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An orchestrator's folder; the orchestrator has it open."""
    path = tmp_path_factory.mktemp("orchestrator")
    roll_back(make_bench(12, Journal(path / JOURNAL_NAME)))
    return path


def report(folder: Path, *options: str, rollout: str = "r-001") -> Result:
    return CliRunner().invoke(app, ["report", rollout, "--folder", str(folder), *options])


def test_without_an_option_the_page_is_written_here(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = report(folder)

    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("wrote r-001.html (")
    assert Path("r-001.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_all_forms_are_written_at_once_and_folders_are_made(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "place"

    result = report(
        folder, "--html", str(out / "r.html"), "--json", str(out / "r.json"), "--csv", str(out), "--incident",
        str(out / "ticket.md"),
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {"r.html", "r.json", "devices.csv", "audit.csv", "ticket.md"}
    assert json.loads((out / "r.json").read_text())["header"]["rollout"] == "r-001"


def test_json_goes_to_standard_output_and_nothing_else_does(folder: Path) -> None:
    result = report(folder, "--json", "-")

    assert json.loads(result.stdout)["format"] == "tidegate-report/1"
    assert result.stderr == ""


def test_an_unknown_rollout_leaves_with_4_and_names_what_is_there(folder: Path) -> None:
    result = report(folder, rollout="r-100")

    assert (result.exit_code, result.stderr) == (4, "error: no rollout 'r-100'; did you mean r-001?\n")


def test_an_incident_that_did_not_happen_is_not_written(tmp_path: Path) -> None:
    complete(make_bench(6, Journal(tmp_path / JOURNAL_NAME)))

    result = report(tmp_path, "--incident", str(tmp_path / "ticket.md"))

    assert result.exit_code == 1
    assert "r-001 had no rollback of a wave or the fleet; leave --incident out" in result.stderr
    assert not (tmp_path / "ticket.md").exists()


def test_a_place_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    result = report(folder, "--html", str(tmp_path / "file" / "r.html"))

    assert result.exit_code == 1
    assert f"cannot write {tmp_path / 'file' / 'r.html'}" in result.stderr


def test_a_folder_without_a_journal_says_so(tmp_path: Path) -> None:
    result = report(tmp_path)

    assert result.exit_code == 1
    assert str(tmp_path / JOURNAL_NAME) in result.stderr

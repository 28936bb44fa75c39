"""``tidegate lint``: what is printed, and the exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from orchestrator.cli import lint as command
from orchestrator.lint.catalogue import as_data, lint_rollout
from schemas.documents import Reply, ReplyError
from schemas.policy_text import parse_policy
from tests.lint.lint_bench import make_facts, make_group

QUIET = """
rollout:
  canary: {percentage: 3}
  waves: [{name: all, percentage: 100, soak_minutes: 30, failure_threshold_percent: 25}]
health_gates:
  canary_gate: {checks: [{type: error_rate, threshold: 5%, window: 15m}]}
  wave_gate: {checks: [{type: error_rate, threshold: 5%, window: 15m}]}
rollback_triggers:
  threshold: [{name: spike, condition: error_rate > 20%, window: 5m, scope: all_deployed, action: rollback_all}]
lint: {silence: {L002: we mean it}}
"""
WARNED = QUIET.replace("window: 15m", "window: 45m", 2)
WAVES = [{"wave": "canary", "devices": 3, "soak_seconds": 3600.0}, {"wave": "all", "devices": 97}]


@pytest.fixture
def app() -> typer.Typer:
    found = typer.Typer()
    found.command("lint")(command.lint)
    return found


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return tmp_path / "rollout.yaml"


def run(app: typer.Typer, policy: Path, text: str, *options: str) -> Result:
    policy.write_text(text)
    return CliRunner().invoke(app, [str(policy), *options])


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [(QUIET, [], 0), (QUIET, ["--strict"], 0), (WARNED, [], 0), (WARNED, ["--strict"], 3), ("colour: red", [], 1)],
)
def test_warnings_count_only_when_asked_and_a_broken_file_fails(
    app: typer.Typer, policy: Path, text: str, options: list[str], code: int
) -> None:
    assert run(app, policy, text, *options).exit_code == code


def test_findings_are_shown_with_place_and_remedy_and_without_colour(app: typer.Typer, policy: Path) -> None:
    result = run(app, policy, WARNED)

    assert "⚠ warning  L004  looks 45 min back, but all soaks 30 min" in result.stdout
    assert "→ soak_minutes: 45 in each wave, or window: 30m" in result.stdout
    assert "health_gates.wave_gate.checks[0].window" in result.stdout
    assert "silenced: we mean it" in result.stdout
    assert "rollout.yaml: 1 warning, 1 silenced" in result.stdout
    assert "\x1b" not in result.stdout


def test_what_is_silenced_needs_no_advice(app: typer.Typer, policy: Path) -> None:
    result = run(app, policy, QUIET)

    assert "rollout.yaml: 1 silenced" in result.stdout
    assert "docs/LINT.md" not in result.stdout


def test_json_is_one_object(app: typer.Typer, policy: Path) -> None:
    told = json.loads(run(app, policy, WARNED, "--json").stdout)

    assert told["counts"] == {"error": 0, "warning": 1, "note": 0, "silenced": 1}
    assert told["waves"] == []
    assert [each["id"] for each in told["findings"]] == ["L004", "L002"]
    assert told["findings"][1]["silenced"] == "we mean it"


def answer_with(monkeypatch: pytest.MonkeyPatch, reply: Reply) -> list[Any]:
    asked: list[Any] = []

    def ask(broker: str, verb: str, body: dict[str, Any], *, timeout_seconds: float) -> Reply:
        asked.append((broker, verb, body))
        return reply

    monkeypatch.setattr(command, "ask", ask)
    return asked


def test_with_a_fleet_the_orchestrator_is_asked_for_a_plan(
    app: typer.Typer, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = QUIET.replace("threshold: 5%", "threshold: baseline + 5%")
    findings = as_data(lint_rollout(parse_policy(text), make_facts(waves={"canary": 3, "all": 97})))
    asked = answer_with(monkeypatch, Reply(status="ok", data={"waves": WAVES, "lint": findings, "later": "more"}))

    result = run(app, policy, text, "--fleet", "--release", "app-2", "--broker", "mqtt://alice@host")

    assert result.exit_code == 0, result.output
    ((broker, verb, body),) = asked
    assert (broker, verb, body["release"]) == ("mqtt://alice@host", "plan", "app-2")
    assert parse_policy(json.dumps(body["policy"])) == parse_policy(text)
    assert "100 devices: canary 3 → all 97" in result.stdout
    assert "3 canary devices: a fault of" in result.stdout
    assert "L005" in result.stdout  # only the file says how it was written


def test_an_error_of_the_fleet_fails(app: typer.Typer, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = QUIET.replace("threshold: 5%", "threshold: baseline + 5pp")
    facts = make_facts(waves={"canary": 3, "all": 97}, groups={"new": make_group(has_baseline=False)})
    findings = as_data(lint_rollout(parse_policy(text), facts))
    answer_with(monkeypatch, Reply(status="ok", data={"waves": WAVES, "lint": findings}))

    result = run(app, policy, text, "--fleet", "--release", "app-2", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["findings"][0]["id"] == "L012"
    assert json.loads(result.stdout)["waves"][1] == {"wave": "all", "devices": 97}


@pytest.mark.parametrize(("code", "exit_code"), [("not_found", 4), ("conflict", 1)])
def test_a_refused_plan_says_why(
    app: typer.Typer, policy: Path, monkeypatch: pytest.MonkeyPatch, code: str, exit_code: int
) -> None:
    error = ReplyError.model_validate({"code": code, "message": "no release 'app-2'"})
    answer_with(monkeypatch, Reply(status="error", error=error))

    result = run(app, policy, QUIET, "--fleet", "--release", "app-2")

    assert result.exit_code == exit_code
    assert f"error: {code}: no release 'app-2'" in result.stderr
    assert result.stdout == ""


def test_what_an_orchestrator_says_cannot_steer_the_terminal(
    app: typer.Typer, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"id": "L099", "severity": "grave", "message": "\x1b[2J[red]gone[/red]", "where": "a\nb"}
    answer_with(monkeypatch, Reply(status="ok", data={"waves": [], "lint": [said]}))

    result = run(app, policy, QUIET, "--fleet", "--release", "app-2")

    assert result.exit_code == 0, result.output
    assert "\\x1b[2J[red]gone[/red]" in result.stdout
    assert "? grave  L099" in result.stdout


def test_a_fleet_needs_a_release(app: typer.Typer, policy: Path) -> None:
    assert run(app, policy, QUIET, "--fleet").exit_code == 2


def test_an_answer_of_another_version_is_refused(
    app: typer.Typer, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, Reply(status="ok", data={"waves": WAVES}))

    result = run(app, policy, QUIET, "--fleet", "--release", "app-2")

    assert result.exit_code == 1
    assert "lint: Field required" in result.stderr

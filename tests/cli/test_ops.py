import json
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from aiomqtt.exceptions import MqttConnectError
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.cli import bus as real_bus
from schemas.documents import Reply
from schemas.topics import Kind
from tests.cli.fake_bus import PLAN, SUMMARY, FakeBus, always, ok, refused

POLICY = Path(__file__).parents[2] / "examples" / "policies" / "careful.yaml"


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> FakeBus:
    fake = FakeBus()
    monkeypatch.setattr(real_bus, "connect", fake.connect)
    monkeypatch.setattr("orchestrator.cli.watch.QUIET_SECONDS", 0.05)
    for name in ("TIDEGATE_BROKER", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return fake


def tidegate(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--broker", "mqtt://alice:secret@broker"])


def plan(*options: str) -> Result:
    return tidegate("plan", str(POLICY), "--release", "vision-app-2.4.0", *options)


@pytest.mark.parametrize("verb", ["activate", "approve", "reject", "pause", "resume", "finish", "abort", "rollback"])
def test_a_verb_is_one_message_with_its_reason_and_says_where_the_rollout_is_then(bus: FakeBus, verb: str) -> None:
    bus.answer = always(ok(**SUMMARY))

    result = tidegate(verb, "r-042", "--reason", "looks good")

    assert result.exit_code == 0
    ((sent, body),) = bus.commands
    assert (sent, body["rollout"], body["reason"]) == (verb, "r-042", "looks good")
    assert f"{verb} r-042" in result.stdout
    assert "awaiting approval at canary, 3/100 devices deployed" in result.stdout
    assert "Next: tidegate watch r-042" in result.stdout


def test_retry_and_skip_name_their_devices(bus: FakeBus) -> None:
    bus.answer = always(ok(**SUMMARY))

    tidegate("retry", "r-042")
    tidegate("skip", "r-042", "pi-1", "pi-2", "--reason", "dead")

    assert [(verb, body["devices"]) for verb, body in bus.commands] == [("retry", []), ("skip", ["pi-1", "pi-2"])]
    assert tidegate("skip", "r-042").exit_code == 2, "skip all is nothing that anybody means"


def test_a_command_that_was_applied_already_says_so(bus: FakeBus) -> None:
    bus.answer = always(ok(**SUMMARY, already_applied=True))

    assert "nothing changed" in tidegate("pause", "r-042").stdout


def test_somebody_elses_answer_on_the_same_topic_is_not_taken_for_ours(bus: FakeBus) -> None:
    bus.answer = always(ok(**SUMMARY))

    assert json.loads(tidegate("get", "r-042", "--json").stdout)["data"]["rollout"] == "r-042"


def test_a_refusal_prints_what_is_allowed_and_nothing_on_standard_output(bus: FakeBus) -> None:
    bus.answer = always(refused("wrong_phase", "r-042 is halted", phase="halted", allowed=["abort", "resume"]))

    result = tidegate("approve", "r-042")

    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert lines[0] == "error: wrong_phase: r-042 is halted"
    typed = [line.removeprefix("Next:").strip() for line in lines[1:]]
    assert typed == ["tidegate resume r-042", "tidegate abort r-042", "tidegate explain r-042"]


@pytest.mark.parametrize(
    ("arguments", "error", "expected"),
    [
        (["pause", "r-24"], {"code": "not_found", "did_you_mean": ["r-042"]}, "tidegate pause r-042"),
        (["pause", "r-24"], {"code": "not_found"}, "tidegate list"),
        (["approve", "r-042"], {"code": "four_eyes"}, "another person types: tidegate approve r-042"),
        (["approve", "r-042"], {"code": "conflict"}, "tidegate explain r-042"),
        (["pause", "r-042"], {"code": "retained_command"}, "mosquitto_pub -q 1 -r -n -t fleet/v1/ops/$USER/cmd/pause"),
        (["pause", "r-042"], {"code": "busy"}, "tidegate watch r-042"),
        (["finish", "r-042"], {"code": "unknown_command"}, "tidegate finish --help"),
        (["quarantine", "pi-1"], {"code": "not_found", "did_you_mean": ["pi-11"]}, "tidegate quarantine pi-11"),
        (["release-device", "pi-1"], {"code": "not_found", "did_you_mean": ["pi-11"]}, "tidegate release-device pi-11"),
    ],
)
def test_every_refusal_names_the_next_command(
    bus: FakeBus, arguments: list[str], error: dict[str, Any], expected: str
) -> None:
    bus.answer = always(refused(message="no", **error))

    result = tidegate(*arguments)

    assert expected in result.stderr
    assert result.exit_code == (4 if error["code"] == "not_found" else 1)


def test_a_refused_start_names_the_policy_as_it_was_typed(bus: FakeBus) -> None:
    bus.answer = always(refused("lint_failed", "L003 can never pass"))

    result = tidegate("start", str(POLICY), "--release", "vision-app-2.4.0")

    assert f"tidegate plan {POLICY} --release vision-app-2.4.0" in result.stderr
    assert f"tidegate start {POLICY} --release vision-app-2.4.0 --ignore-lint" in result.stderr


def test_json_is_the_whole_answer_as_one_line_also_when_it_is_a_refusal(bus: FakeBus) -> None:
    bus.answer = always(refused("wrong_phase", "no", allowed=["resume"]))

    result = tidegate("approve", "r-042", "--json")

    assert result.exit_code == 1
    assert Reply.model_validate_json(result.stdout).error is not None
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""


def test_no_broker_is_told_from_a_wrong_password(bus: FakeBus) -> None:
    bus.refuses = aiomqtt.MqttError("[Errno 111] Connection refused")
    nobody = tidegate("list")
    bus.refuses = MqttConnectError(5)
    stranger = tidegate("list")

    assert (nobody.exit_code, stranger.exit_code) == (5, 5)
    assert "is the broker running" in nobody.stderr
    assert "refused the user or the password" in stranger.stderr
    assert "secret" not in nobody.stderr + stranger.stderr


@pytest.mark.parametrize(
    ("availability", "said"),
    [
        (b"offline", "the orchestrator is offline, nothing was carried out"),
        (b"online", "though the orchestrator is connected"),
        (b"", "no orchestrator was ever connected"),
    ],
)
def test_silence_says_what_is_known_of_the_orchestrator(bus: FakeBus, availability: bytes, said: str) -> None:
    if availability:
        bus.keep(Kind.ORCHESTRATOR_AVAILABILITY, availability)

    result = tidegate("pause", "r-042", "--timeout", "0.1")

    assert result.exit_code == 6
    assert said in result.stderr


def test_a_plan_shows_who_goes_when_and_why_and_ends_with_the_command_that_starts_it(bus: FakeBus) -> None:
    bus.answer = always(ok(**PLAN))

    result = plan()

    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for told in (
        "100 devices in 2 waves, blue/green, 10 left out, 6 of them offline now, 1 h 35 min at least",
        "canary 3 3% 3 (3%) 35 min",
        "wave-1 97 97% 100 (100%) 15 min",
        "wave-2 0 - - dropped",
        "pi-0001 best monitored raspberrypi4",
        "Left out: 10 8 runs vision-app-2.4.0 already 2 in quarantine",
        "Targets that may not be a canary: 6 6 offline",
        "no canary stands for type esp32",
        "disk is short on 2 devices",
        "warning L002 rollout.waves[0]: the first failure stops it take 20",
        f"seed 42, digest {'cd' * 32}",
    ):
        assert told in text
    start = f"tidegate start {POLICY} --release vision-app-2.4.0 --rollout r-043 --plan {'cd' * 32}"
    assert result.stdout.splitlines()[-1] == f"Next: {start}"


def test_a_plan_says_where_devices_fetch_from_and_what_crosses_each_line(bus: FakeBus) -> None:
    sites = [
        {
            "site": "plant-7",
            "through": "cache",
            "devices": 212,
            "wan_bytes": 48_000_000,
            "direct_bytes": 10_176_000_000,
        },
        {"site": "", "through": "registry", "devices": 5, "wan_bytes": 240_000_000, "direct_bytes": 240_000_000},
    ]
    about = {"sources": ["cache", "registry"], "reason": "212 of 217 devices are at sites with a cache", "sites": sites}
    in_all = {"wan_bytes": 288_000_000, "direct_bytes": 10_416_000_000, "site_count": 52}
    bus.answer = always(ok(**PLAN, distribution={**about, **in_all}))

    text = " ".join(plan().stdout.split())

    for told in (
        "Fetched from cache, then registry: 212 of 217 devices are at sites with a cache",
        "plant-7 212 devices through its cache: 48.0 MB over the WAN instead of 10.2 GB",
        "no site 5 devices from the registry: 240.0 MB",
        "and 50 more sites",
        "in all 288.0 MB from the registry instead of 10.4 GB, as archives",
    ):
        assert told in text


def test_a_plan_says_what_devices_of_a_site_may_take_and_how_long_that_is(bus: FakeBus) -> None:
    limits = {"bytes_per_second": 64_000, "window": {"start": "22:00", "end": "05:00", "time_zone": "Europe/Berlin"}}
    site = {"site": "plant-7", "through": "registry", "devices": 9, "wan_bytes": 9, "direct_bytes": 9}
    limited = {**site, "limits": limits, "fetch_seconds": 750.0}
    shares = [limited, {**limited, "limits": {**limits, "bytes_per_second": None}, "fetch_seconds": None}]
    bus.answer = always(ok(**PLAN, distribution={"sources": ["registry"], "sites": shares, "site_count": 2}))

    text = " ".join(plan().stdout.split())

    berlin = "from 22:00 to 05:00 Europe/Berlin"
    assert f"registry: 9 B; 64.0 kB/s for each device {berlin}: 12 min 30 s from when that begins" in text
    assert f"registry: 9 B; {berlin}" in text.replace("registry: 9 B; 64.0", "")


def test_a_plan_says_when_it_is_activated_and_its_next_command_too(bus: FakeBus) -> None:
    bus.answer = always(ok(**PLAN, activate="manual"))

    lines = plan("--activate", "manual").stdout.splitlines()

    assert "Staged: all waves fetch and install at once, nothing is activated; then: tidegate activate r-043" in lines
    assert lines[-1].endswith(f"--activate manual --plan {'cd' * 32}")
    assert bus.commands[-1][1]["activate"] == "manual"


def test_a_plan_that_lint_would_refuse_says_so_instead_of_how_to_start(bus: FakeBus) -> None:
    finding = {"id": "L001", "severity": "error", "message": "can never pass", "silenced": None}
    bus.answer = always(ok(**{**PLAN, "lint": [finding]}))

    next_line = plan().stdout.splitlines()[-2]

    assert next_line.startswith("Next: mend ")


def test_an_accepted_lint_error_does_not_stand_in_the_way(bus: FakeBus) -> None:
    finding = {"id": "L001", "severity": "error", "message": "can never pass", "silenced": "we know"}
    bus.answer = always(ok(**{**PLAN, "lint": [finding]}))

    assert plan().stdout.splitlines()[-1].startswith("Next: tidegate start ")


def test_exit_code_tells_a_script_whether_there_is_something_to_do(bus: FakeBus) -> None:
    bus.answer = always(ok(**PLAN))
    assert (plan().exit_code, plan("--exit-code").exit_code, plan("--exit-code", "--json").exit_code) == (0, 10, 10)

    idle = {"rollout": "r-043", "release": "vision-app-2.4.0", "nothing_to_do": True, "reason": "all run it already"}
    bus.answer = always(ok(**idle))
    nothing = plan("--exit-code")
    assert nothing.exit_code == 0
    assert "Nothing to do: all run it already" in nothing.stdout


def test_an_answer_of_another_version_is_an_error_with_a_remedy_and_no_traceback(bus: FakeBus) -> None:
    bus.answer = always(ok(rollouts="soon"))

    result = tidegate("list")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "is the orchestrator of another version?" in result.stderr


def test_start_sends_what_was_typed_and_says_how_to_watch(bus: FakeBus) -> None:
    bus.answer = always(ok(**PLAN))
    options = ("--plan", "cd" * 32, "--supersede", "--ignore-lint", "--rollout", "r-043", "--reason", "CVE")

    result = tidegate("start", str(POLICY), "--release", "vision-app-2.4.0", *options)

    ((_, body),) = bus.commands
    sent = (body["plan"], body["supersede"], body["ignore_lint"], body["rollout"], body["reason"])
    assert sent == ("cd" * 32, True, True, "r-043", "CVE")
    assert body["policy"]["rollout"]["canary"]["percentage"] == 3
    assert "Next: tidegate watch r-043" in result.stdout


def test_a_broken_policy_never_reaches_the_bus(bus: FakeBus, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("rollout: {canery: {}}\n")

    result = tidegate("plan", str(broken), "--release", "x-1")

    assert result.exit_code == 1
    assert "broken.yaml" in result.stderr
    assert bus.connections == 0


def test_a_list_has_a_row_for_each_rollout_with_the_newest_first(bus: FakeBus) -> None:
    older = {**SUMMARY, "rollout": "r-041", "phase": "rolled_back", "started_at": "2025-11-23T10:00:00.000Z",
             "reason": "canary_gate failed", "counts": {"returned": 3, "total": 100, "failed_ever": 3}}  # fmt: skip
    bus.answer = always(ok(rollouts=[older, dict(SUMMARY)]))

    lines = tidegate("list").stdout.splitlines()

    assert lines[0].split() == ["ROLLOUT", "RELEASE", "PHASE", "WAVE", "DONE", "FAILED", "AGE", "REASON"]
    assert lines[1].split()[:7] == ["r-042", "vision-app-2.4.0", "⏸", "awaiting", "approval", "canary", "3/100"]
    assert "canary_gate failed" in lines[2]
    assert lines[-1] == "Next: tidegate watch r-042"


def test_an_empty_list_says_how_to_begin(bus: FakeBus) -> None:
    bus.answer = always(ok(rollouts=[]))

    assert "tidegate plan POLICY --release RELEASE" in tidegate("list").stdout


def test_text_from_the_bus_cannot_steer_the_terminal(bus: FakeBus) -> None:
    evil = "\x1b[2J\x9b31m[red]gone[/red]\r\n\u202eforged"
    bus.answer = always(ok(**{**SUMMARY, "reason": evil, "phase": "halted"}))
    shown = tidegate("get", "r-042").stdout
    bus.answer = always(refused("internal", evil))
    told = tidegate("get", "r-042").stderr

    for text in (shown, told):
        assert not {"\x1b", "\x9b", "\r", "\u202e"} & set(text)
        assert r"\x1b[2J" in text
        assert "[red]gone[/red]" in text


def test_a_device_is_kept_out_and_let_in_again(bus: FakeBus) -> None:
    bus.answer = always(ok(device="pi-1", quarantined=True))
    out = tidegate("quarantine", "pi-1", "--reason", "flaky")
    bus.answer = always(ok(device="pi-1", quarantined=False))
    back = tidegate("release-device", "pi-1")

    assert [verb for verb, _ in bus.commands] == ["quarantine", "release"]
    assert "tidegate release-device pi-1" in out.stdout
    assert "may take part" in back.stdout


def test_a_plan_names_what_it_would_supersede_and_what_did_not_fit(bus: FakeBus) -> None:
    more = {"supersedes": ["r-041"], "uncovered_count": 7, "shortened": ["canary"]}
    bus.answer = always(ok(**{**PLAN, **more}))

    shown = plan("--supersede").stdout

    assert "⚠ a start ends r-041 as superseded" in shown
    assert "⚠ no canary stands for type esp32 and 6 more" in shown
    assert "canary left out" in shown

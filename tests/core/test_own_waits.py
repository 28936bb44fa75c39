"""``tidegate explain`` says what a device waits for of its own: since when, and what would help."""

from typing import Any

import pytest
from rich.console import Console

from orchestrator.cli.explaining import render_explanation
from orchestrator.core.snapshot import freeze, thaw
from schemas.messages import ErrorReport, Reported
from schemas.times import format_timestamp
from schemas.topics import Kind
from tests.core.core_bench import Bench, durable, make_fleet, make_policy

CANARY = "d-0001"
CONSENT = ("consent_missing", "activate", "somebody at the device must agree: tidegate-agent consent")
WINDOW = ("outside_window", "activate", "this device is updated from 02:00 to 05:00 (Europe/Oslo)")
FETCH = ("outside_window", "fetch", "artifacts are fetched from 22:00 to 05:00 (UTC)")
HOOK = ("hook_waits", "before_switch", "before_switch says later")


def started(**policy: Any) -> Bench:  # noqa: ANN401 - any part of a policy
    bench = Bench(policy=make_policy(**policy))
    bench.start()
    return bench


def wait(bench: Bench, for_what: tuple[str, str, str], name: str = CANARY, *, state: str = "waiting") -> None:
    """Have a device report that it waits."""
    code, step, message = for_what
    generation = bench.state.devices[name].generation
    error = ErrorReport(code=code, step=step, message=message, retryable=True)
    said = Reported(observed_generation=generation, seq=1, state=state, boot_id="boot", error=error)  # type: ignore[arg-type]
    bench.say(Kind.REPORTED, said, device=name)


def explained(bench: Bench, **subject: str) -> dict[str, Any]:
    return dict(bench.command("get", **(subject or {"device": CANARY})).data or {})


def awaited(bench: Bench, **subject: str) -> dict[str, Any]:
    found: dict[str, Any] = explained(bench, **subject)["awaited"]
    return found


@pytest.mark.parametrize(
    ("for_what", "text", "helps"),
    [
        (CONSENT, "somebody at the device to agree (consent_missing)", "type on the device: tidegate-agent consent"),
        (WINDOW, "02:00 to 05:00 (Europe/Oslo) (outside_window)", "by itself when the window opens"),
        (FETCH, "its site lets it fetch; it says: artifacts are fetched from 22:00", "sites.yaml"),
        (HOOK, 'its hook before_switch, which said "later" (hook_waits)', "state/hooks.log"),
    ],
)
def test_a_device_that_waits_for_something_of_its_own_is_explained(
    for_what: tuple[str, str, str], text: str, helps: str
) -> None:
    bench = started()
    since = format_timestamp(bench.now)

    wait(bench, for_what)
    bench.advance(90.0)
    wait(bench, for_what)

    told = awaited(bench)
    assert text in told["text"]
    assert helps in told["help"]
    assert told["since"] == since, "said again it has not begun anew"
    assert explained(bench)["next"][0]["command"] == f"tidegate skip r-001 {CANARY}"


def test_it_is_said_on_a_terminal_for_how_long_and_what_helps() -> None:
    bench = started()
    wait(bench, CONSENT)
    bench.advance(90.0)
    console = Console(width=200)

    with console.capture() as shown:
        console.print(render_explanation(explained(bench), CANARY, bench.now, 200))

    assert "Waits for  somebody at the device to agree (consent_missing), for 01:30 (since 2023-" in shown.get()
    assert "What helps  type on the device: tidegate-agent consent" in shown.get()


def test_what_holds_the_rollout_meanwhile_is_told_as_well() -> None:
    bench = started()
    wait(bench, CONSENT)
    bench.command("pause", rollout="r-001", reason="lunch")

    assert awaited(bench)["text"].endswith("(consent_missing); and then: the rollout is paused (paused)")


def test_a_hook_that_keeps_a_device_on_trial_is_told_with_the_deadline() -> None:
    bench = started()
    bench.ask(CANARY)
    wait(bench, ("hook_waits", "before_commit", "before_commit says later"), state="trial")

    told = awaited(bench)
    assert told["text"] == 'its hook before_commit, which said "later" (hook_waits); and then: how it ends'
    assert told["by"] is not None


@pytest.mark.parametrize("state", ["ready", "failed", "downloading"])
def test_a_device_that_goes_on_waits_no_more(state: str) -> None:
    bench = started()
    wait(bench, CONSENT)

    bench.report(CANARY, state)

    assert bench.state.own_waits == {}


def test_what_it_waited_for_with_another_order_says_nothing_of_this_one() -> None:
    bench = started()
    wait(bench, CONSENT)
    bench.state.devices[CANARY].generation += 1

    assert "consent" not in awaited(bench)["text"]


def test_a_rollout_names_who_waits_and_promises_no_deadline() -> None:
    bench = started()
    wait(bench, CONSENT)

    told = explained(bench, rollout="r-001")

    (step,) = [each for each in told["why"] if "something of their own" in each["text"]]
    assert "their own: consent_missing 1; tidegate device DEVICE" in step["text"]
    assert step["devices"] == {CANARY: f"consent_missing since {format_timestamp(bench.now)}"}
    assert told["awaited"]["text"] == f"consent, hours or hooks at {CANARY}; no deadline runs meanwhile"


def test_it_is_no_fact() -> None:
    bench = Bench(make_fleet(2))
    bench.start()
    count = len(bench.kinds())
    wait(bench, HOOK)

    assert len(bench.kinds()) == count
    assert thaw(freeze(bench.state)).own_waits == {}
    assert durable(thaw(freeze(bench.state))) == durable(bench.state)

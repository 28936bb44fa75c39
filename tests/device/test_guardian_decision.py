# ruff: noqa: ANN401 - builders take a value for any field
from dataclasses import replace
from typing import Any

import pytest

from device_client.core.codes import ErrorCode
from device_client.core.record import BOOTS_PER_TRIAL
from device_client.guardian import decision
from device_client.guardian.decision import Action, EndAgent, Restore, Start, Stay, TakeLock, Wait, count_boot, decide
from device_client.guardian.seen import Boots, Lock, Outcome, Patience, Seen, Trial

NOW = 1000.0
TRIAL = Trial("green", "blue", 7, "f" * 64, "boot-1", 1300.0, 300.0, BOOTS_PER_TRIAL)
FIRST = replace(TRIAL, previous=None)
LATE = replace(TRIAL, deadline_at=NOW)
RESTORED = Outcome(7, "f" * 64, "blue", "deadline_exceeded", "not committed by the deadline")
STAYED = replace(RESTORED, slot="green", code="no_safe_rollback")


def see(trial: Trial | None = TRIAL, **changes: Any) -> Seen:
    values: dict[str, Any] = {
        "active": "green",
        "heard_at": NOW - 5,
        "agent_lives": True,
        "is_previous_sound": True,
        "patience": Patience(silence_seconds=120, start_seconds=1800),
    }
    return Seen("boot-1", trial, **{**values, **changes})


@pytest.mark.parametrize(
    ("seen", "wish"),
    [
        pytest.param(see(None), Wait, id="nothing is on trial"),
        pytest.param(see(), Wait, id="a trial within its time, and the agent gives signs of life"),
        pytest.param(see(agent_lives=False), Wait, id="the agent has just died: it is started again"),
        pytest.param(see(LATE), Restore, id="the deadline has come"),
        pytest.param(see(LATE, active="blue"), Wait, id="permitted and not switched"),
        pytest.param(see(active="blue", heard_at=NOW - 121), Start, id="silent before the switch, and nothing runs"),
        pytest.param(see(active="blue", heard_at=NOW - 121, running="blue"), Wait, id="silent, and the old one runs"),
        pytest.param(see(LATE, active=None), Restore, id="the link is lost"),
        pytest.param(see(LATE, is_previous_sound=False), Stay, id="the previous slot is damaged"),
        pytest.param(see(replace(FIRST, deadline_at=NOW)), Stay, id="there was nothing before"),
        pytest.param(see(replace(FIRST, deadline_at=NOW), active=None), Wait, id="a first install, not switched"),
        pytest.param(see(replace(TRIAL, boots_left=0)), Restore, id="no boots are left"),
        pytest.param(see(replace(TRIAL, boots_left=2), boots=Boots("boot-1", ("a",))), Wait, id="one boot is left"),
        pytest.param(
            see(replace(TRIAL, boots_left=2), boots=Boots("boot-1", ("a", "b"))), Restore, id="two boots unseen"
        ),
        pytest.param(see(heard_at=NOW - 121), Restore, id="the agent is silent"),
        pytest.param(see(heard_at=NOW - 121, is_starting=True), Wait, id="it is silent because it reads its slots"),
        pytest.param(see(heard_at=NOW - 1801, is_starting=True), Restore, id="nobody reads that long"),
        pytest.param(
            see(heard_at=NOW - 121, is_starting=True, agent_lives=False), Restore, id="it died reading its slots"
        ),
        pytest.param(see(LATE, outcome=RESTORED), Restore, id="written down and not switched"),
        pytest.param(see(LATE, outcome=RESTORED, active="blue"), Start, id="switched and not started"),
        pytest.param(see(LATE, outcome=RESTORED, active="blue", running="green"), Start, id="the bad one still runs"),
        pytest.param(see(LATE, outcome=RESTORED, active="blue", running="blue"), Wait, id="restored, and it serves"),
        pytest.param(see(LATE, outcome=STAYED, running="green"), Wait, id="nothing to restore, and said so"),
        pytest.param(see(LATE, outcome=STAYED), Start, id="nothing to restore, and what there is does not run"),
        pytest.param(see(LATE, outcome=replace(RESTORED, generation=6), active="green"), Restore, id="an older one"),
    ],
)
def test_guardian_under_the_lock_does_what_is_to_be_done(seen: Seen, wish: type[Action]) -> None:
    assert type(decide(replace(seen, lock=Lock.OURS), NOW)) is wish
    expected = Wait if wish is Wait else TakeLock
    assert type(decide(seen, NOW)) is expected, "it tries the lock with a reason only"


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        pytest.param(see(LATE), Wait, id="late, but the agent lives and gives signs of it"),
        pytest.param(see(LATE, heard_at=NOW - 121), EndAgent, id="it holds the lock and does nothing"),
        pytest.param(see(LATE, heard_at=NOW - 121, is_starting=True), Wait, id="it reads its slots"),
        pytest.param(see(LATE, heard_at=NOW - 121, agent_lives=False), Wait, id="somebody unknown holds it"),
        pytest.param(see(None, heard_at=NOW - 9999), Wait, id="silent, and nothing is on trial"),
    ],
)
def test_guardian_never_acts_beside_a_living_agent(seen: Seen, action: type[Action]) -> None:
    assert type(decide(replace(seen, lock=Lock.HELD), NOW)) is action


@pytest.mark.parametrize(("now", "action"), [(299.0, Wait), (300.0, Restore)])
def test_trial_has_its_whole_time_again_in_a_boot_that_the_agent_has_not_recorded(
    now: float, action: type[Action]
) -> None:
    seen = replace(see(replace(TRIAL, deadline_at=5.0), heard_at=now, lock=Lock.OURS), boot_id="boot-2")

    assert type(decide(seen, now)) is action


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"trial": LATE}, "deadline_exceeded", "not committed by the deadline"),
        ({"trial": replace(TRIAL, boots_left=0)}, "deadline_exceeded", "not committed before its reboots ran out"),
        ({"heard_at": NOW - 121}, "agent_silent", "no sign of the agent for 121 s"),
    ],
)
def test_outcome_says_why_about_which_trial(changes: dict[str, Any], code: str, words: str) -> None:
    assert decide(see(**changes, lock=Lock.OURS), NOW) == Restore(Outcome(7, "f" * 64, "blue", code, words))


def test_staying_names_the_reason_and_that_there_is_no_way_back() -> None:
    assert decide(see(LATE, is_previous_sound=False, lock=Lock.OURS), NOW) == Stay(
        Outcome(
            7,
            "f" * 64,
            "green",
            "no_safe_rollback",
            "deadline_exceeded: not committed by the deadline; there is no verified version before",
        )
    )


def test_boot_is_counted_once_until_the_agent_has_recorded_it() -> None:
    boots = Boots()
    for boot in ("boot-1", "boot-2", "boot-2", "boot-3"):
        boots = count_boot(boots, TRIAL, boot)
    assert boots == Boots("boot-1", ("boot-2", "boot-3"))

    assert count_boot(boots, replace(TRIAL, boot_id="boot-3"), "boot-3") == Boots()
    assert count_boot(boots, replace(TRIAL, boot_id="boot-3"), "boot-4") == Boots("boot-3", ("boot-4",))


def test_guardian_and_agent_speak_of_the_same_codes() -> None:
    codes = {decision.DEADLINE_EXCEEDED, decision.AGENT_SILENT, decision.NO_SAFE_ROLLBACK}

    assert codes <= {code.value for code in ErrorCode}

from typing import get_args

import pytest

from device_client.core.machine import TRANSITIONS, IllegalTransitionError, Phase, Signal, follow
from schemas.messages import DeviceState


def test_phases_are_the_states_of_the_wire() -> None:
    assert {phase.value for phase in Phase} == set(get_args(DeviceState))


def test_table_names_every_phase() -> None:
    assert set(TRANSITIONS) == set(Phase)


def test_every_signal_is_of_use_somewhere() -> None:
    assert {signal for row in TRANSITIONS.values() for signal in row} == set(Signal)


@pytest.mark.parametrize("start", Phase)
def test_every_phase_can_return_to_idle(start: Phase) -> None:
    reached, border = {start}, [start]
    while border:
        following = set(TRANSITIONS[border.pop()].values()) - reached
        reached |= following
        border.extend(following)

    assert Phase.IDLE in reached


@pytest.mark.parametrize("target", Phase)
def test_every_phase_can_be_reached_from_idle(target: Phase) -> None:
    reached, border = {Phase.IDLE}, [Phase.IDLE]
    while border:
        following = set(TRANSITIONS[border.pop()].values()) - reached
        reached |= following
        border.extend(following)

    assert target in reached


def test_only_a_switch_leads_to_a_trial_that_was_not_one_before() -> None:
    ways = {(phase, signal) for phase, row in TRANSITIONS.items() for signal, to in row.items() if to is Phase.TRIAL}

    assert ways == {
        (Phase.SWITCHING, Signal.SWITCHED),
        (Phase.TRIAL, Signal.TRIAL_RESUMED),
        (Phase.READY, Signal.TRIAL_RESUMED),
        (Phase.WAITING, Signal.TRIAL_RESUMED),
    }


def test_signal_raises_when_the_table_does_not_list_it() -> None:
    with pytest.raises(IllegalTransitionError, match="committed is not possible while idle"):
        follow(Phase.IDLE, Signal.COMMITTED)

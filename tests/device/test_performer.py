"""What the agent's hands do when the disk refuses."""

from pathlib import Path
from typing import Any, cast

import pytest

from device_client.adapters import slots as slots_module
from device_client.adapters.failure import StepError
from device_client.adapters.performer import Performer
from device_client.adapters.slots import Slots
from device_client.core.codes import ErrorCode
from device_client.core.effects import SwitchSlot
from device_client.core.events import Step, StepFailed
from device_client.core.record import Record


@pytest.fixture
def performer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Performer:
    """Return hands that cannot lead the link over."""

    def refuse(_root: Path, _slot: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(slots_module, "write_link", refuse)
    nothing = cast("Any", None)
    return Performer(nothing, Slots(tmp_path), nothing, nothing, nothing, nothing)


def test_switch_that_fails_is_answered(performer: Performer) -> None:
    answer = performer.perform(SwitchSlot(3, "green"), Record())
    assert isinstance(answer, StepFailed)
    assert (answer.step, answer.ticket, answer.code) == (Step.SWITCH, 3, ErrorCode.IO_ERROR)


def test_agent_ends_before_it_remembers_that_the_link_was_led_back(performer: Performer) -> None:
    with pytest.raises(StepError, match="Input/output error"):
        performer.perform(SwitchSlot(3, "blue", must_succeed=True), Record())

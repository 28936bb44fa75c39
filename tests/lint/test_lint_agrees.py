from orchestrator.core import stopping
from orchestrator.lint import numbers


def test_the_orchestrator_judges_finished_devices_from_the_same_number_on() -> None:
    assert numbers.EXECUTED_MIN == stopping.EXECUTED_MIN

"""The operator's own commands at the steps of a change."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_client.adapters.commands import CommandError, run_command
from device_client.adapters.failure import StepError
from device_client.adapters.processes import HOME_VARIABLE, ROLE_VARIABLE, SESSION_VARIABLE, SLOT_VARIABLE
from device_client.core.codes import ErrorCode
from device_client.core.effects import RunHook
from device_client.core.events import Step

LATER: Final = 75
"""EX_TEMPFAIL of sysexits(3): ask again later."""
ROLE: Final = "hook"


@dataclass(frozen=True, slots=True)
class Hooks:
    """The commands of one device.

    Attributes:
        device: Its id.
        root: Its folder; the hooks run there.
        commands: What is run for which step.
        timeout_seconds: What each has.
        log_path: Where their output goes.
    """

    device: str
    root: Path
    commands: Mapping[Step, tuple[str, ...]]
    timeout_seconds: float
    log_path: Path

    def run(self, work: RunHook, is_cancelled: Callable[[], bool]) -> None:
        """Run one hook to its end.

        Raises:
            StepError: ``hook_waits``: it says "later"; ``hook_failed``: it says no, hangs or cannot be started.
        """
        variables = {
            "TIDEGATE_HOOK": work.hook.value,
            "TIDEGATE_DEVICE": self.device,
            "TIDEGATE_GENERATION": str(work.generation),
            "TIDEGATE_VERSION": work.version or "",
            "TIDEGATE_PREVIOUS_SLOT": work.previous_slot,
            "TIDEGATE_PREVIOUS_VERSION": work.previous_version or "",
            HOME_VARIABLE: str(self.root),  # so that one whose agent was killed is found and ended
            SLOT_VARIABLE: work.slot,
            ROLE_VARIABLE: ROLE,
            SESSION_VARIABLE: str(os.getsid(0)),  # and what it has put into the background is not
        }
        try:
            code = run_command(
                self.commands[work.hook],
                self.timeout_seconds,
                folder=self.root,
                log_path=self.log_path,
                variables=variables,
                is_cancelled=is_cancelled,
            )
        except CommandError as error:
            raise StepError(ErrorCode.HOOK_FAILED, f"{work.hook}: {error}") from error
        if code == LATER:
            raise StepError(ErrorCode.HOOK_WAITS, f"{work.hook} says later")
        if code != 0:
            raise StepError(
                ErrorCode.HOOK_FAILED,
                f"{work.hook}: {self.commands[work.hook][0]} ended with {code}; see state/hooks.log",
            )

"""The applications of both slots: one runtime for both, or, behind a router, one for each with a port of its own."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Final, Self

from device_client.adapters.hosting import Instance
from device_client.adapters.runtime import Runtime
from device_client.adapters.slots import SLOT_NAMES
from device_client.core.record import SlotContent
from schemas.messages import SlotName


class Applications:
    """What runs from the slots.

    Args:
        runtimes: Who runs which slot's application; without a router it is one for both.
        ports: Where each slot's application listens while it serves.
        test_ports: Where it listens while it is tested.
    """

    def __init__(
        self,
        runtimes: Mapping[SlotName, Runtime],
        ports: Mapping[SlotName, int],
        test_ports: Mapping[SlotName, int],
    ) -> None:
        self._runtimes: Final = runtimes
        self._all: Final = tuple(dict.fromkeys(runtimes.values()))
        self.ports: Final = ports
        self.test_ports: Final = test_ports

    @classmethod
    def one_by_one(cls, runtime: Runtime, port: int, test_port: int) -> Self:
        """Return applications that never serve at once, all on the one port."""
        return cls(
            dict.fromkeys(SLOT_NAMES, runtime), dict.fromkeys(SLOT_NAMES, port), dict.fromkeys(SLOT_NAMES, test_port)
        )

    @property
    def exits_total(self) -> int:
        """How often an application ended by itself."""
        return sum(runtime.exits_total for runtime in self._all)

    def instance(self, slot: SlotName) -> Instance | None:
        """Return the slot's application as it runs; None while it does not."""
        return self._runtimes[slot].instance

    @property
    def running(self) -> tuple[Instance, ...]:
        """What runs."""
        return tuple(runtime.instance for runtime in self._all if runtime.instance is not None)

    def take_over(self) -> SlotName | None:
        """Take over what an earlier agent has left running and return a slot whose application it is."""
        taken = [
            runtime.take_over(tuple(slot for slot in SLOT_NAMES if self._runtimes[slot] is runtime))
            for runtime in self._all
        ]
        return next((slot for slot in taken if slot is not None), None)

    def start(self, slot: SlotName, content: SlotContent) -> None:
        """Run the application of ``slot``, or go on running it.

        Raises:
            StepError: ``start_failed``. It is tried again until somebody says ``stop``.
        """
        self._runtimes[slot].start(slot, content)

    def stop(self, keep: SlotName | None = None) -> None:
        """End every application but that of ``keep``.

        Raises:
            StepError: ``io_error``: something does not end.
        """
        for runtime in self._all:
            if keep is None or runtime.slot != keep:
                runtime.stop()

    def poll(self, serving: SlotName | None) -> bool:
        """Start again what has ended by itself, and say whether that of ``serving`` is among it."""
        ended = [runtime for runtime in self._all if runtime.poll()]
        return serving is not None and self._runtimes[serving] in ended

    def beside(self, slot: SlotName, content: SlotContent) -> AbstractContextManager[Callable[[], bool]]:
        """Run the application of ``slot`` on its test port; gives a function that says whether it still runs.

        Raises:
            StepError: ``start_failed``.
        """
        return self._runtimes[slot].beside(slot, content, self.test_ports[slot])

"""The device's machine: which phase follows which, as data.

Theory of operation
===================

A device is always in exactly one phase, and the phase is what it reports. There are four stretches:

* **Preparing**: ``downloading``, ``verifying``, ``installing``. Nothing that serves has changed, so no permission is
  needed, and a newer order may drop everything at any moment.
* **Asking**: ``ready`` and ``waiting``. Somebody must say "go" before anything that serves changes. ``waiting`` is
  ``ready`` after "not yet", under the fleet's brake, or until the device itself lets it go on. A rollback asks from
  here as well, without preparing anything.
* **Changing**: ``draining``, ``switching``, ``rolling_back``. The permission is used up and orders wait until this is
  over, because half a switch is not a place to be. ``draining`` is left out where a router lets the new version run
  beside the old one: then what served is drained after the switch, when nothing depends on it any more.
* **Resting**: ``idle``, ``rolled_back``, ``failed``; and ``trial``, in which the new version serves and the old one
  stands by until the new one is committed.

A trial can outlast its phase: when a rollback is ordered during the trial the device asks for permission (``ready``),
and the fallback stays armed meanwhile. Hence ``ready`` and ``waiting`` can turn back like ``trial`` itself.

The table knows nothing about reasons; the rules that raise a signal are in the other modules of this package. What the
table does not list is a bug of ours and raises.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from schemas.errors import FleetError


class Phase(StrEnum):
    """Where a device is; the values are the wire's ``DeviceState``."""

    IDLE = "idle"
    WAITING = "waiting"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    INSTALLING = "installing"
    READY = "ready"
    DRAINING = "draining"
    SWITCHING = "switching"
    TRIAL = "trial"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


class Signal(StrEnum):
    """What moves a device from phase to phase."""

    INSTALL_ORDERED = "install_ordered"
    FOUND_IN_STANDBY = "found_in_standby"
    ROLLBACK_ORDERED = "rollback_ordered"
    SETTLED = "settled"
    FETCHED = "fetched"
    VERIFIED = "verified"
    INSTALLED = "installed"
    TOLD_TO_WAIT = "told_to_wait"
    GRANTED = "granted"
    GRANTED_SIDE_BY_SIDE = "granted_side_by_side"
    ROLLBACK_GRANTED = "rollback_granted"
    STOPPED = "stopped"
    SWITCHED = "switched"
    TRIAL_RESUMED = "trial_resumed"
    COMMITTED = "committed"
    TURNED_BACK = "turned_back"
    RESTORED = "restored"
    INTERRUPTED = "interrupted"
    GAVE_UP = "gave_up"


class IllegalTransitionError(FleetError):
    """Our own fault: a rule raised a signal that its phase does not know."""


_NEW_ORDER: Final[Mapping[Signal, Phase]] = {
    Signal.INSTALL_ORDERED: Phase.DOWNLOADING,
    Signal.FOUND_IN_STANDBY: Phase.INSTALLING,
    Signal.ROLLBACK_ORDERED: Phase.READY,
    Signal.SETTLED: Phase.IDLE,
    Signal.GAVE_UP: Phase.FAILED,
}
"""What a device does with an order when it is not in the middle of a change."""

_ASKING: Final[Mapping[Signal, Phase]] = {
    **_NEW_ORDER,
    Signal.TOLD_TO_WAIT: Phase.WAITING,
    Signal.GRANTED: Phase.DRAINING,
    Signal.GRANTED_SIDE_BY_SIDE: Phase.SWITCHING,
    Signal.ROLLBACK_GRANTED: Phase.ROLLING_BACK,
    Signal.TRIAL_RESUMED: Phase.TRIAL,
    Signal.TURNED_BACK: Phase.ROLLING_BACK,
}

TRANSITIONS: Final[Mapping[Phase, Mapping[Signal, Phase]]] = {
    Phase.IDLE: {
        **_NEW_ORDER,
        Signal.TURNED_BACK: Phase.ROLLING_BACK,  # the committed version died and the one before it is still there
    },
    Phase.DOWNLOADING: {
        **_NEW_ORDER,
        Signal.FETCHED: Phase.VERIFYING,
        Signal.TOLD_TO_WAIT: Phase.WAITING,  # by the hours in which its order lets it fetch
    },
    Phase.VERIFYING: {
        **_NEW_ORDER,
        Signal.VERIFIED: Phase.INSTALLING,
        Signal.TOLD_TO_WAIT: Phase.WAITING,  # by the operator's own command, which may take a day
    },
    Phase.INSTALLING: {**_NEW_ORDER, Signal.INSTALLED: Phase.READY},
    Phase.READY: _ASKING,
    Phase.WAITING: _ASKING,
    Phase.DRAINING: {
        Signal.STOPPED: Phase.SWITCHING,
        Signal.INTERRUPTED: Phase.READY,  # the permission was used up; ask again
        Signal.GAVE_UP: Phase.FAILED,
    },
    Phase.SWITCHING: {
        Signal.SWITCHED: Phase.TRIAL,
        Signal.INTERRUPTED: Phase.READY,
        Signal.TURNED_BACK: Phase.ROLLING_BACK,  # found switched after a power cut, and its time is over
        Signal.GAVE_UP: Phase.FAILED,
    },
    Phase.TRIAL: {
        Signal.COMMITTED: Phase.IDLE,
        Signal.TURNED_BACK: Phase.ROLLING_BACK,
        Signal.ROLLBACK_ORDERED: Phase.READY,
        Signal.TRIAL_RESUMED: Phase.TRIAL,
        Signal.GAVE_UP: Phase.FAILED,
    },
    Phase.ROLLING_BACK: {
        Signal.SWITCHED: Phase.ROLLING_BACK,  # the old slot is active again and has yet to prove itself
        Signal.RESTORED: Phase.ROLLED_BACK,
        Signal.GAVE_UP: Phase.FAILED,
    },
    Phase.ROLLED_BACK: _NEW_ORDER,
    Phase.FAILED: _NEW_ORDER,
}

CHANGING: Final = frozenset({Phase.DRAINING, Phase.SWITCHING, Phase.ROLLING_BACK})
"""Phases in which orders wait."""

ASKING: Final = frozenset({Phase.READY, Phase.WAITING})
"""Phases in which a device wants permission to change what serves."""

IN_PROGRESS: Final = frozenset(set(Phase) - {Phase.IDLE, Phase.ROLLED_BACK, Phase.FAILED})
"""Phases that end by themselves or with an answer."""


def follow(phase: Phase, signal: Signal) -> Phase:
    """Return the phase after ``signal``.

    Raises:
        IllegalTransitionError: The table does not list it; our own fault.
    """
    try:
        return TRANSITIONS[phase][signal]
    except KeyError:
        raise IllegalTransitionError(f"{signal} is not possible while {phase}") from None

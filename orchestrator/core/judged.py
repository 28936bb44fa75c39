"""Who is judged: a rollout's members as telemetry knows them."""

import numpy as np
from numpy.typing import NDArray

from orchestrator.core.inventory import Device
from orchestrator.core.members import DEPLOYED, Member
from orchestrator.core.rollout import Rollout
from orchestrator.core.state import State
from orchestrator.telemetry.columns import Rows
from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.monitor import Monitor


def deployed_rows(rollout: Rollout) -> NDArray[np.intp]:
    """Return the rows of the members that run the new version for good."""
    return np.flatnonzero(rollout.members.where(Member.progress, *DEPLOYED))


def members_at(state: State, rollout: Rollout, rows: NDArray[np.intp], monitor: Monitor) -> Devices:
    """Return members by their rows."""
    inventory = state.devices
    at = rollout.members.column(Member.device_row)[rows]
    groups = [info.group for info in inventory.vocabularies["info"].values]
    names = sorted(set(groups))
    numbers = np.array([names.index(group) for group in groups], dtype=np.intp)

    def names_at(places: Rows) -> list[str]:
        return [inventory.names[row] for row in at[places].tolist()]

    return Devices(monitor.rows_at(at), names_at, numbers[inventory.column(Device.info)[at]], names)


def deployed(state: State, rollout: Rollout, monitor: Monitor) -> Devices:
    """Return the members that run the new version for good: what gates judge."""
    return members_at(state, rollout, deployed_rows(rollout), monitor)

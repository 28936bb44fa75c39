"""A rehearsal with a crowd: its rollout reported from what concerns many, its devices counted from their columns."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from orchestrator.core import events as e
from orchestrator.core.members import Member, Progress
from orchestrator.core.rollout import Rollout
from orchestrator.planning.names import Names
from orchestrator.reporting.build import Unnamed, build_report
from simulator.application import GOOD
from simulator.crowd_world import CrowdWorld
from simulator.rehearsal_result import Devices, Rehearsal, see
from simulator.scenario import ROLLOUT


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a journal would hold of a fact."""

    seq: int
    at: float
    kind: str
    body: str
    hash: str = ""


def tell_rehearsal(world: CrowdWorld, rollout: Rollout, seed: int) -> Rehearsal:
    """Return what a world that has come to rest has shown."""
    members, crowd = rollout.members, world.crowd
    codes, counts = np.unique(members.column(Member.progress), return_counts=True)
    names = members.vocabularies["progress"].values
    returned = np.flatnonzero(members.where(Member.progress, Progress.RETURNED))
    returned_at = members.column(Member.settled_at)[returned].tolist()
    unnamed = Unnamed(
        {str(names[code].value): count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)},
        dict(zip((members.names[row] for row in returned.tolist()), returned_at, strict=True)),
    )
    report = build_report(_entries(world), ROLLOUT, world.now, unnamed)
    at_home = members.column(Member.device_row)
    granted_at = crowd.granted_at[at_home]
    was_granted = ~np.isnan(granted_at)
    moments, grown = np.unique(granted_at[was_granted], return_counts=True)
    has_fault = crowd.has_fault[at_home]
    devices = Devices(
        affected=int(has_fault.sum()),
        harmed=0 if crowd.behavior == GOOD else int((has_fault & crowd.has_run[at_home]).sum()),
        exposure=list(zip(moments.tolist(), np.cumsum(grown).tolist(), strict=True)),
        planned=np.diff(members.starts).tolist(),
        exposed=np.bincount(members.column(Member.wave)[was_granted], minlength=len(report.waves)).tolist(),
    )
    return see(report, devices, seed=seed, now=world.now, in_bulk=True)


def _entries(world: CrowdWorld) -> Iterator[_Entry]:
    """Yield the facts as a report reads them; the plan's waves without their members, who are counted."""
    for seq, noted in enumerate(world.facts, start=1):
        fact = noted.fact
        if isinstance(fact, e.RollbackOrdered) and fact.scope == "device":
            continue
        if isinstance(fact, e.RolloutStarted):
            waves = tuple(wave.model_copy(update={"members": Names("")}) for wave in fact.plan.waves)
            plan = fact.plan.model_copy(update={"waves": waves, "excluded": {}, "not_canary": {}})
            fact = fact.model_copy(update={"plan": plan})
        yield _Entry(seq, noted.at, fact.kind, fact.model_dump_json())

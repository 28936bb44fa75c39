"""Who a rollout is for: every device it can update, and for each other one the reason why not.

Source:
    Reference, "Canary Selection Algorithm", step 3, and "When Blue-Green is Not Feasible"; DECISIONS.md, 3.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.core.inventory import Device, Inventory
from orchestrator.core.members import Mask, Member, Progress
from orchestrator.core.releases import StoredRelease
from orchestrator.core.selection import selected
from orchestrator.core.state import State
from orchestrator.core.table import Field, Vocabulary
from orchestrator.planning.columns import Column
from orchestrator.planning.fleet import ASLEEP, OFFLINE, Fleet
from orchestrator.planning.ordering import in_order
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import NoCanaryError, by_reason, plan_fleet
from schemas.messages import Info
from schemas.policy import Policy

TROUBLE_SECONDS: Final = 24 * 3600.0
"""A device whose connection was lost so recently is no canary."""
_REASONS_MAX: Final = 5
NOT_ANNOUNCED: Final = "has not announced itself yet"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rollout cannot start, and what would help."""

    message: str


def make_plan(
    state: State,
    release: StoredRelease,
    policy: Policy,
    rollout: str,
    *,
    now: float,
    superseding: Collection[str] = (),
) -> Plan | Refusal:
    """Plan ``release`` for the whole inventory; the seed follows from the rollout's name, so it can be repeated.

    Args:
        state: The fleet as it is.
        release: What to bring.
        policy: How, and to whom.
        rollout: Its name.
        now: Seconds since the epoch.
        superseding: Rollouts that end when this one starts, so that their devices are free.
    """
    why = exclusions(state, release, policy, superseding=superseding)
    if not (why.codes == 0).any():
        return Refusal(f"no device to update: {_told(why) or 'no device has announced itself'}")
    seed = int.from_bytes(hashlib.sha256(f"{rollout}/{release.release}".encode()).digest()[:6])
    names, rows = state.devices.in_order()
    against = why.codes[rows]
    is_target = against == 0
    try:
        return plan_fleet(
            _columns(state.devices, names[is_target], rows[is_target], _unfit(state.devices, now)),
            policy,
            excluded=by_reason(names, Column(against, why.values)),
            seed=seed,
            artifact_bytes=max((each.unpacked_bytes for each in release.by_arch.values()), default=None),
        )
    except NoCanaryError as error:
        return Refusal(str(error))


def plan_again(state: State, release: StoredRelease, policy: Policy, plan: Plan) -> Plan:
    """Plan once more from the fleet in ``state`` and what ``plan`` recorded of it: who is out, and who was unfit."""
    devices = state.devices
    targets = plan.targets
    names, places = in_order(targets)
    unfit = _Reasons(len(devices))
    for why, unfit_names in plan.not_canary.items():
        marks = np.zeros(len(devices), dtype=np.bool_)
        marks[devices.rows(unfit_names)] = True
        unfit.mark(marks, why)
    return plan_fleet(
        _columns(devices, names, devices.rows(targets)[places], unfit),
        policy,
        excluded=plan.excluded,
        seed=plan.seed,
        artifact_bytes=max((each.unpacked_bytes for each in release.by_arch.values()), default=None),
    )


def exclusions(state: State, release: StoredRelease, policy: Policy, *, superseding: Collection[str] = ()) -> Column:
    """Return for each device of the inventory why it is no target of ``release``; the empty text if it is one."""
    devices = state.devices
    reasons = _Reasons(len(devices))
    if policy.targets is not None:
        reasons.mark(~selected(devices, policy.targets), f"not selected by: {policy.targets}")
    reasons.mark_each(devices, Device.info, lambda info: _unsuitable(info, release, policy))
    reasons.mark_each(devices, Device.said, lambda said: NOT_ANNOUNCED if said is None else "")
    reasons.mark(devices.where(Device.version, release.version), f"runs {release.version} already")
    reasons.mark_each(devices, Device.quarantine, lambda why: f"quarantined: {why}" if why else "")
    for each in state.active:
        if each.id not in superseding:
            taken = np.zeros(len(devices), dtype=np.bool_)
            taken[each.members.column(Member.device_row)] = True
            reasons.mark(taken, f"in rollout {each.id}")
    for each in state.watched:
        is_going_back = each.members.where(Member.progress, Progress.RETURNING)
        if is_going_back.any():
            taken = np.zeros(len(devices), dtype=np.bool_)
            taken[each.members.column(Member.device_row)[is_going_back]] = True
            reasons.mark(taken & devices.where(Device.rollout, each.id), f"going back in rollout {each.id}")
    for artifact in release.by_arch.values():
        of_info = [release.artifact_for(info.arch) is artifact for info in devices.vocabularies["info"].values]
        gets_it = np.array(of_info)[devices.column(Device.info)]
        if artifact.allowed_from:
            is_allowed = np.zeros(len(devices), dtype=np.bool_)
            for version in artifact.allowed_from:
                is_allowed |= devices.where(Device.version, version)
            reasons.mark(gets_it & ~is_allowed, f"runs no version that {release.release} may replace")
        needed = 2 * artifact.artifact_size_bytes + artifact.unpacked_bytes
        reasons.mark(
            gets_it & (devices.column(Device.disk_free) < needed),
            f"less than {needed} bytes free, which {artifact.arch} needs beside what runs",
        )
    return Column(reasons.codes, reasons.vocabulary.values)


class _Reasons:
    """The first reason against each device."""

    def __init__(self, count: int) -> None:
        self.codes = np.zeros(count, dtype=np.int32)
        self.vocabulary = Vocabulary([""])

    def mark(self, mask: Mask, reason: str) -> None:
        """Note ``reason`` where ``mask`` holds and none stands yet."""
        new = mask & (self.codes == 0)
        if new.any():
            self.codes[new] = self.vocabulary.code(reason)

    def mark_each(self, devices: Inventory, field: Field[Any], reason: Callable[[Any], str]) -> None:
        """Note what ``reason`` says of each value of a column; nothing where it is empty."""
        said = [reason(value) for value in devices.vocabularies[field.name].values]
        table = np.array([self.vocabulary.code(text) for text in said], dtype=np.int32)
        self.codes = np.where(self.codes == 0, table[devices.column(field)], self.codes)


def _unsuitable(info: Info, release: StoredRelease, policy: Policy) -> str:
    artifact = release.artifact_for(info.arch)
    if artifact is None:
        return f"no artifact for {info.arch}"
    if artifact.device_types and info.device_type not in artifact.device_types:
        return f"not for {info.device_type}"
    if policy.strategy not in info.strategies:
        return f"does not support the strategy {policy.strategy}"
    if info.formats and (missing := [each for each in artifact.needs if each not in info.formats]):
        return f"does not take {', '.join(missing)}"
    return "in maintenance" if info.maintenance else ""


def _told(why: Column) -> str:
    """Say what stands against most devices, and against how many."""
    counts = Counter(dict(enumerate(np.bincount(why.codes).tolist())))
    told = [f"{why.values[code]} ({count})" for code, count in counts.most_common(_REASONS_MAX) if count]
    more = sum(count > 0 for count in counts.values()) - len(told)
    return "; ".join(told) + (f"; and {more} other reasons" if more else "")


def _unfit(devices: Inventory, now: float) -> _Reasons:
    """Say of each device why it may not be a canary now."""
    unfit = _Reasons(len(devices))
    unfit.mark(~devices.column(Device.is_online), OFFLINE)
    unfit.mark(devices.column(Device.sleeps_until) > now, ASLEEP)
    unfit.mark_each(devices, Device.info, _unfit_for_good)
    unfit.mark(now - devices.column(Device.trouble_at) < TROUBLE_SECONDS, "lost its connection in the last 24 hours")
    return unfit


def _columns(devices: Inventory, names: NDArray[np.bytes_], rows: NDArray[np.intp], unfit: _Reasons) -> Fleet:
    """Return what the planner needs of the targets, whose names ascend."""
    signals = np.array([len(info.signals) for info in devices.vocabularies["info"].values], dtype=np.int32)
    infos = devices.column(Device.info)[rows]
    return Fleet(
        names=names,
        device_type=_coded(devices, infos, lambda info: info.device_type),
        region=_coded(devices, infos, lambda info: info.region),
        signal_count=signals[infos],
        unfit=Column(unfit.codes[rows], unfit.vocabulary.values),
    )


def _unfit_for_good(info: Info) -> str:
    if info.single_point_of_failure:
        return "single point of failure"
    return f"known issue: {info.known_issues[0]}" if info.known_issues else ""


def _coded(devices: Inventory, infos: NDArray[np.int32], text: Callable[[Info], str]) -> Column:
    vocabulary = Vocabulary([])
    table = np.array([vocabulary.code(text(info)) for info in devices.vocabularies["info"].values], dtype=np.int32)
    return Column(table[infos], vocabulary.values)

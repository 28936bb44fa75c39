"""Devices of a site that give each other a release: who is told what, and which of them are told to the others.

What a device is told follows from the journal alone. Who can give something is only seen; it is told again and again,
and cleared when no rollout needs it any more.

Source:
    Reference, "Artifact Distribution" (peer-to-peer).
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.core.inventory import Device
from orchestrator.core.members import DEPLOYED, Mask, Member, Progress
from orchestrator.core.rollout import TERMINAL, Rollout
from orchestrator.core.state import State
from schemas.messages import ArtifactPeers, PeersDocument, PeersRef
from schemas.peers import PEERS_MAX, site_key

_GOLDEN: Final = 0x9E3779B1
"""Spreads neighbouring numbers over 32 bits (Knuth's multiplicative hashing)."""


_WAITED_OF_TIMEOUT: Final = 0.5
"""How much of the time that a device has may be spent with waiting for a peer."""


def peers_ref(rollout: Rollout, member: Member) -> PeersRef | None:
    """Say how ``member`` goes about its peers; None where there are none."""
    rank = rollout.peer_ranks.get(member.site)
    if rank is None:
        return None
    limits = rollout.policy.rollout.global_
    patience_seconds = min(rollout.policy.distribution.peers.wait, limits.deploy_timeout_seconds * _WAITED_OF_TIMEOUT)
    wait_seconds = 0.0 if member.goes_first else patience_seconds
    return PeersRef(key=site_key(member.site), rank=rank, wait_seconds=wait_seconds)


def peer_documents(state: State) -> dict[str, PeersDocument | None]:
    """Return, for each site whose devices give or gave each other something, who has what now; None: nobody."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for rollout in state.rollouts.values():
        found.update({site: {} for site in rollout.peer_ranks if site not in found})
    for rollout in state.active:
        for site, artifact, urls in _having(state, rollout):
            found[site].setdefault(artifact, urls)
    return {
        site_key(site): PeersDocument(
            site=site, artifacts=tuple(ArtifactPeers(sha256=each, urls=theirs[each]) for each in sorted(theirs))
        )
        if theirs
        else None
        for site, theirs in found.items()
    }


def _having(state: State, rollout: Rollout) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield sites and artifacts of a rollout with the addresses of those who can give it."""
    if not rollout.peer_ranks or rollout.phase in TERMINAL:
        return
    members = rollout.members
    rows = np.flatnonzero(_can_give(rollout))
    site, arch = members.column(Member.site)[rows], members.column(Member.arch)[rows]
    sites, arches = members.vocabularies["site"].values, members.vocabularies["arch"].values
    kind = site.astype(np.uint64) * len(arches) + arch.astype(np.uint64)
    order = np.argsort((kind << np.uint64(32)) | _spread(rows))
    kinds, starts = np.unique(kind[order], return_index=True)
    told = members.seen(Device.peer_url)[rows[order]]
    urls = state.devices.vocabularies["peer_url"].values
    ends = [*starts.tolist(), len(rows)][1:]
    for code, start, end in zip(kinds.tolist(), starts.tolist(), ends, strict=True):
        site_code, arch_code = divmod(code, len(arches))
        stored = rollout.release.artifact_for(arches[arch_code])
        if stored is not None and sites[site_code] in rollout.peer_ranks:
            theirs = told[start : min(end, start + PEERS_MAX)]
            yield sites[site_code], stored.artifact_sha256, tuple(urls[code] for code in theirs.tolist())


def _can_give(rollout: Rollout) -> Mask:
    """Say which members are there, have an address, and have the release whole in a slot."""
    members = rollout.members
    is_prepared = members.where(Member.progress, Progress.ORDERED) & members.seen(Device.has_prepared).astype(np.bool_)
    has_it = members.where(Member.progress, Progress.GRANTED, *DEPLOYED) | is_prepared
    able: Mask = has_it & members.online & (members.seen(Device.peer_url) != 0)  # The empty text is the first.
    return able


def _spread(rows: NDArray[Any]) -> NDArray[Any]:
    """Return a number for each row that puts them in another order, always the same."""
    return (rows.astype(np.uint64) * np.uint64(_GOLDEN)) & np.uint64(0xFFFFFFFF)

"""What the engine wants published: effects become messages, documents are built from the state as it is then."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import BaseModel

from orchestrator.core.documents import desired_bytes, plan_document, status_document, wave_document
from orchestrator.core.effects import (
    Effect,
    NoteProgress,
    PublishDesired,
    PublishMessage,
    PublishPlan,
    PublishStatus,
    SendGrant,
    merge,
    ordered_devices,
    reassert,
)
from orchestrator.core.explain_floor import floor_reason
from orchestrator.core.judged import deployed_rows, members_at
from orchestrator.core.members import Mask
from orchestrator.core.orders import taken_by
from orchestrator.core.peers import peer_documents
from orchestrator.core.rollout import TERMINAL, Rollout
from orchestrator.core.state import State
from orchestrator.outgoing import Outgoing
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.summary import summarize, summarize_waves
from schemas.codec import encode
from schemas.documents import AuditRecord, WaveDocument
from schemas.topics import RULES, Kind, TopicTree

if TYPE_CHECKING:
    from schemas.messages import PeersDocument

AUDIT_BYTES_MAX: Final = 60 * 1024
_LONG: Final = frozenset({"plan", "policy", "baselines", "devices"})
"""What of a fact grows with the fleet."""
PEERS_SECONDS: Final = 2.0
"""How often it is looked who has what: of a million devices that takes its time, and a site's do not change so fast."""
REASSERTED_MAX: Final = 5_000
"""Desired states that are written again at a time, so that decisions do not wait for a large fleet."""


def published(record: AuditRecord) -> AuditRecord:
    """Return the record as it goes over the bus: one that is too large names its digest, the journal holds it whole."""
    if record.body.keys().isdisjoint(_LONG) or len(body := encode(record)) <= AUDIT_BYTES_MAX:
        return record
    short = {key: value for key, value in record.body.items() if key not in _LONG}
    short["shortened"] = {"sha256": hashlib.sha256(body).hexdigest(), "size_bytes": len(body)}
    return record.model_copy(update={"body": short})


class Publisher:
    """Makes messages; it knows nothing that the state does not hold, except what is due later.

    Args:
        tree: Where things are published.
        sign: Seals a grant's payload into an envelope with the command key.
        monitor: What the samples say.
        summary_seconds: How often the groups and the waves are summarized; ``inf`` for never.
    """

    def __init__(
        self, tree: TopicTree, sign: Callable[[bytes], bytes], monitor: Monitor, summary_seconds: float
    ) -> None:
        self._tree = tree
        self._sign = sign
        self._monitor = monitor
        self._summary_seconds = summary_seconds
        self._summarized_at = 0.0
        self._reasserting: Iterator[str] = iter(())
        """Devices whose desired state is still to be written again; a large fleet's takes several ticks."""
        self._progressed: dict[str, set[int]] = {}
        """Rollouts, with their waves, whose documents are due with the next tick."""
        self._short: dict[str, str] = {}
        """For whom healthy devices of a rollout wait, as its status says."""
        self._offered_back: set[str] = set()
        """Rollouts that are over, and of which the status still offers a rollback."""
        self._was_unread = False
        self._were_ordered = False
        """Whether devices may have been taken from those since the last tick."""
        self._peers: dict[str, PeersDocument | None] = {}
        """What each site was told last of who has what; None: nobody."""
        self._peers_at = 0.0
        self._waves: dict[tuple[str, int], WaveDocument] = {}
        """What was published last of each wave; between news of its members only its health changes."""

    def publish(self, state: State, effects: Iterable[Effect], now: float) -> list[Outgoing]:
        """Return the messages of effects, repeated documents folded into one."""
        made: dict[tuple[object, ...], bytes] = {}
        return [outgoing for effect in merge(effects) for outgoing in self._perform(state, effect, now, made)]

    def reassert(self, state: State, now: float) -> list[Outgoing]:
        """Write every retained document again: rollouts and as many devices at once, the others with the next ticks."""
        self._reasserting = iter(ordered_devices(state))
        self._peers = {}  # The broker may have lost them, or kept what nobody knows of after a restart.
        return [
            *self.publish(state, reassert(state), now),
            *self._peer_documents(state),
            *self.reassert_more(state, now),
        ]

    def reassert_more(self, state: State, now: float) -> list[Outgoing]:
        """Write the next desired states of a large fleet again; nothing when none is left."""
        some = islice(self._reasserting, REASSERTED_MAX)
        return self.publish(state, [PublishDesired(name) for name in some], now)

    def follow_up(self, state: State, now: float) -> list[Outgoing]:
        """Return the documents of rollouts that have come further since the last tick, and how groups and waves are."""
        due = [PublishStatus(rollout, tuple(sorted(waves))) for rollout, waves in self._progressed.items()]
        self._progressed = {}
        due += [*self._held_up(state), *self._overtaken(state), *self._unheard(state)]
        return [*self.publish(state, due, now), *self._peers_due(state, now), *self._summaries(state, now)]

    def _held_up(self, state: State) -> list[PublishStatus]:
        """Let the status say when healthy devices begin to wait for others to be healthy, for whom, and when not."""
        reasons = {rollout.id: reason for rollout in state.active if (reason := floor_reason(rollout)) is not None}
        changed = {name for name, _ in reasons.items() ^ self._short.items()}
        self._short = reasons
        return [PublishStatus(name) for name in sorted(changed)]

    def _unheard(self, state: State) -> list[PublishStatus]:
        """Let the status say when there is nothing to approve by, because nobody reads health, and when there is."""
        changed, self._was_unread = bool(state.unread) is not self._was_unread, bool(state.unread)
        return [PublishStatus(rollout.id) for rollout in state.active] if changed else []

    def _overtaken(self, state: State) -> list[PublishStatus]:
        """Let the status of a rollout that is over say when others have taken what it could bring back."""
        were_ordered, self._were_ordered = self._were_ordered, False
        offered = sorted(self._offered_back) if were_ordered else []
        return [PublishStatus(name) for name in offered if taken_by(state, state.rollouts[name]) is not None]

    def message(self, kind: Kind, message: BaseModel, /, **ids: str) -> Outgoing:
        """Return one message in its place."""
        return self._bytes(kind, encode(message), **ids)

    def _perform(
        self, state: State, effect: Effect, now: float, made: dict[tuple[object, ...], bytes]
    ) -> list[Outgoing]:
        match effect:
            case PublishDesired(device=name):
                payload = desired_bytes(state, state.devices[name], made)
                return [self._bytes(Kind.DESIRED, payload, device=name)]
            case PublishPlan(rollout=name):
                return [self._bytes(Kind.PLAN, plan_document(state.rollouts[name]), rollout=name)]
            case PublishStatus(rollout=name, waves=waves):
                rollout = state.rollouts[name]
                changed = self._progressed.pop(name, set()).union(waves)
                documents = [self._wave(rollout, wave) for wave in sorted(changed)]
                status = status_document(state, rollout, now, self._healthy(state, rollout, now))
                is_offered = rollout.phase in TERMINAL and "rollback" in status.allowed
                (self._offered_back.add if is_offered else self._offered_back.discard)(name)
                return [*documents, self.message(Kind.STATUS, status, rollout=name)]
            case NoteProgress(rollout=name, waves=waves):
                self._progressed.setdefault(name, set()).update(waves)
                self._were_ordered = True
                return []
            case PublishMessage(kind=kind, ids=ids, message=message):
                return [self.message(kind, message, **ids)]
            case SendGrant(grant=grant):
                return [self._bytes(Kind.GRANT, self._sign(encode(grant)), device=grant.device)]

    def _peers_due(self, state: State, now: float) -> list[Outgoing]:
        if now - self._peers_at < PEERS_SECONDS:
            return []
        self._peers_at = now
        return self._peer_documents(state)

    def _peer_documents(self, state: State) -> list[Outgoing]:
        """Return what has changed of who has what; an empty document where nobody has anything any more."""
        changed = []
        for key, document in peer_documents(state).items():
            if key not in self._peers or self._peers[key] != document:
                self._peers[key] = document
                changed.append(self._bytes(Kind.PEERS, b"" if document is None else encode(document), key=key))
        return changed

    def _healthy(self, state: State, rollout: Rollout, now: float) -> Mask:
        """Say which members are deployed and well by their last fresh sample."""
        rows = deployed_rows(rollout)
        there = members_at(state, rollout, rows, self._monitor)
        found = np.zeros(len(rollout.members), dtype=np.bool_)
        found[rows] = self._monitor.well(there, version=rollout.release.version, seconds=None, now=now)
        return found

    def _summaries(self, state: State, now: float) -> list[Outgoing]:
        if now - self._summarized_at < self._summary_seconds:
            return []
        self._summarized_at = now
        summaries = summarize(state.devices.count_by_group(), self._monitor, now=now)
        groups = [self.message(Kind.GROUP_SUMMARY, each, group=group) for group, each in summaries.items()]
        return [*groups, *self._wave_summaries(state, now)]

    def _wave(self, rollout: Rollout, wave: int) -> Outgoing:
        before = self._waves.get((rollout.id, wave))
        health = None if before is None or rollout.phase in TERMINAL else before.health
        return self._wave_message(wave, wave_document(rollout, wave, health))

    def _wave_summaries(self, state: State, now: float) -> list[Outgoing]:
        """Return the documents of waves that do otherwise than was published last; ended rollouts tell no health."""
        found = {each.id: summarize_waves(each.release.version, self._monitor, now=now) for each in state.active}
        changed = []
        for (name, wave), before in list(self._waves.items()):
            health = found.get(name, {}).get(state.rollouts[name].place_of(wave))
            if health != before.health:
                changed.append(self._wave_message(wave, before.model_copy(update={"health": health})))
            if name not in found:
                del self._waves[name, wave]
        return changed

    def _wave_message(self, wave: int, document: WaveDocument) -> Outgoing:
        self._waves[document.rollout, wave] = document
        return self.message(Kind.WAVE, document, rollout=document.rollout, wave=document.wave)

    def _bytes(self, kind: Kind, payload: bytes, /, **ids: str) -> Outgoing:
        rule = RULES[kind]
        return Outgoing(self._tree.build(kind, **ids), payload, rule.retained, rule.qos)

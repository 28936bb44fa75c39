"""The engine: decide, journal, then act.

One loop feeds it inputs in order. Each batch is decided, written to the journal in one transaction, and only then
turned into messages to publish. It holds no rule and does no I/O of its own: the journal, the signer and the bus
belong to whoever runs it, which is the orchestrator's process or the simulator.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.core import events as e
from orchestrator.core.admission import MESSAGES_PER_SECOND, Admission
from orchestrator.core.answers import complete
from orchestrator.core.clones import decide_cloned
from orchestrator.core.connectivity import decide_kept_out, decide_lost
from orchestrator.core.context import Context
from orchestrator.core.effects import (
    Effect,
    PublishDesired,
    PublishMessage,
    SendGrant,
    react,
)
from orchestrator.core.grants import Wait, decide_grant
from orchestrator.core.inputs import (
    Announced,
    Asked,
    BundleReceived,
    CommandReceived,
    CommandRefused,
    DeviceReady,
    DeviceReported,
    EvaluatorLost,
    HoldSeen,
    Input,
    SampleReceived,
    SamplesSeen,
    ShardsUnread,
    Tick,
)
from orchestrator.core.interpret import Received, Refused, interpret
from orchestrator.core.joining import decide_joined
from orchestrator.core.observe import observe
from orchestrator.core.operator import decide_command
from orchestrator.core.progress import step, stop_soaks
from orchestrator.core.reminding import unheard
from orchestrator.core.replies import make_grant, make_wait, refused_command
from orchestrator.core.reports import decide_announced, decide_proven, decide_reported, decide_withdrawn
from orchestrator.core.restoring import decide_restored, number_above
from orchestrator.core.rollout import TERMINAL, Phase
from orchestrator.core.silence import decide_frozen, observe_silence
from orchestrator.core.state import State, evolve
from orchestrator.core.stopping import watch, watch_devices
from orchestrator.core.wellness import observe_health
from orchestrator.evaluators import Evaluators
from orchestrator.intake import Intake, Located
from orchestrator.outgoing import Outgoing
from orchestrator.publishing import REASSERTED_MAX, Publisher, published
from orchestrator.tally import OTHER, Tally
from orchestrator.telemetry.monitor import LONGEST_SECONDS
from orchestrator.telemetry.places import Place
from schemas.documents import AuditRecord, Reply
from schemas.messages import Grant, Reported, Sync
from schemas.topics import Kind, TopicTree

_TOPIC_NAME: Final = re.compile(r"(?!\$)[^+#\x00-\x1f\x7f]{1,512}")
STEPS_MAX: Final = 1000
"""Steps that may follow from one tick; more is a defect, and the process stops rather than spin."""


class StoredEntry(Protocol):
    """One entry of the journal: its number, when it was written, the fact as JSON, and all of it for the audit."""

    @property
    def seq(self) -> int: ...  # noqa: D102 - see the class
    @property
    def at(self) -> float: ...  # noqa: D102 - see the class
    @property
    def body(self) -> str: ...  # noqa: D102 - see the class
    def record(self) -> AuditRecord: ...  # noqa: D102 - see the class


class Journal(Protocol):
    """Where facts are kept. What ``append`` has returned from survives a power cut."""

    @property
    def performed_seq(self) -> int:
        """Number of the last entry whose effects were handed to the broker."""

    def open_epoch(self, at: float, above: int = 0) -> int:
        """Take over: return an epoch above every earlier one and ``above``, and keep older holders from appending."""

    def read(self, after_seq: int = 0) -> Iterator[StoredEntry]:
        """Yield the entries after ``after_seq`` in order."""

    def append(self, rows: Sequence[tuple[str, str]], at: float) -> tuple[AuditRecord, ...]:
        """Write facts (kind, JSON) in one transaction and return their audit records."""

    def mark_performed(self, seq: int) -> None:
        """Note that the effects of all entries up to ``seq`` were handed to the broker."""

    def confirm(self) -> None:
        """Raise if another process has taken over since ``open_epoch``: nothing of this one may be published again."""


class Engine:
    """The orchestrator without its process.

    Args:
        journal: Replayed at ``start``, appended to by ``handle``.
        context: Telemetry and materials.
        sign: Seals a grant's payload into an envelope with the command key.
        tree: Where things are published.
        settle_seconds: How long after each connect nothing goes on, because the fleet has not spoken again yet.
        summary_seconds: How often the groups and the waves are summarized; ``inf`` for never.
        note_refusal: Told of every message that says nothing, after it was counted.
        note_fact: Told of every new fact once it is written down and before the state holds it.
        note_report: Told of every report of a device before anything follows from it.

    Attributes:
        tally: What has gone through since the start.
        intake: What health goes through.
        evaluators: Who else reads health.
    """

    def __init__(
        self,
        journal: Journal,
        context: Context,
        sign: Callable[[bytes], bytes],
        tree: TopicTree,
        *,
        settle_seconds: float = 5.0,
        summary_seconds: float = 10.0,
        note_refusal: Callable[[Refused], None] | None = None,
        note_fact: Callable[[State, e.AnyEvent, float], None] | None = None,
        note_report: Callable[[State, str, Reported, float], None] | None = None,
    ) -> None:
        self.state = State()
        self.tally = Tally()
        self._note_refusal = note_refusal
        self._note_fact = note_fact
        self._note_report = note_report
        self._journal = journal
        self._publisher = Publisher(tree, sign, context.monitor, summary_seconds)
        self._tree = tree
        self.seq = 0
        """The last entry that the state holds."""
        self._settle_seconds = settle_seconds
        self.blind_until = float("inf")
        """Until when nothing goes on, because the fleet has not spoken again yet."""
        self._ticked_at = 0.0
        self._watched_at = 0.0
        """When everybody's health was read last."""
        self.intake = Intake(context.monitor, tree, self._locate, self._refused)
        self._admission = Admission(tree)
        self.evaluators = Evaluators(self.intake, tree, partial(self._refused, kind=Kind.EVALUATOR_SAMPLES))
        self.context = replace(context, readers=self.evaluators.readers)
        self._situation: object = None
        """What decides where all devices belong: whether anything is decided, and how far the rollouts are."""

    def start(self, now: float, restored: str = "") -> list[Outgoing]:
        """Replay the journal, take over with a new epoch, and return what must be published again.

        Args:
            now: Seconds since the epoch.
            restored: Why the journal is not the one that others saw last; empty if it is.

        Raises:
            ValidationError: The journal holds a fact that this version does not know.
        """
        pending = self._replay(min(self.seq, self._journal.performed_seq))
        self.blind_until = now + self._settle_seconds
        self.state.listening_since = now
        self.intake.expect(len(self.state.devices))
        above = number_above(now) if restored else 0
        epoch = self._journal.open_epoch(now, above)
        pending += self._replay(self.seq)  # What the one before wrote until it was fenced off.
        opened = self._commit([e.EpochOpened(epoch=epoch, restored=restored, generation=above)], now)
        if restored:
            opened += self._commit(decide_restored(self.state, restored), now)
        return [
            *self._publisher.publish(self.state, pending, now),
            *self._publisher.reassert(self.state, now),
            *opened,
            self._publisher.message(Kind.SYNC, Sync()),
        ]

    def resume(self, state: State, seq: int) -> None:
        """Take a state that was folded before, up to entry ``seq``, before ``start``: only the rest is replayed."""
        self.state, self.seq = state, seq

    def _replay(self, after_seq: int) -> list[Effect]:
        """Apply the rest of the journal; return what is published once and may not have been."""
        pending: list[Effect] = []
        performed = self._journal.performed_seq
        for entry in self._journal.read(after_seq):
            event = e.event_from_json(entry.body)
            if entry.seq > self.seq:
                evolve(self.state, event, entry.at)
                self.seq = entry.seq
            if entry.seq > performed:
                pending += [each for each in react(self.state, event, entry.at) if isinstance(each, PublishMessage)]
                pending.append(PublishMessage(Kind.AUDIT, {}, published(entry.record())))
        return pending

    def reconnected(self, now: float) -> list[Outgoing]:
        """Return every retained document again, and ask all devices to do the same.

        Called before the first message of the new connection is received: a brake that is still on comes again with
        the subscription, and one that was released meanwhile leaves no message to say so.
        """
        self._journal.confirm()
        observe(self.state, HoldSeen(is_held=False), now)
        self.blind_until = now + self._settle_seconds
        self.state.listening_since = now
        watched = self._commit(stop_soaks(self.state, self._watched_until(self._ticked_at)), now)
        return [*watched, *self._publisher.reassert(self.state, now), self._publisher.message(Kind.SYNC, Sync())]

    def receive(self, received: Received, now: float) -> list[Outgoing]:
        """Take one message from the bus; of a device only as many as it may send."""
        if not self._admission.admit(received, now):
            return []
        given = interpret(self._tree, received)
        match given:
            case Refused():
                address = self._tree.parse(received.topic)
                kind = OTHER if address is None else address.kind
                self.tally.received[kind] += 1
                self._refused(given, kind=kind)
                return []
            case _:
                self.tally.note_received(given)
                return [] if given is None else self.handle(given, now)

    def handle(self, given: Input, now: float) -> list[Outgoing]:
        """Decide on one input; what is returned may be published, because it is in the journal."""
        before: str | None = None
        match given:
            case SampleReceived():
                self.hear([given.device], np.array([given.shard], dtype=np.uint8), [given.payload], now)
                return []
            case BundleReceived():
                observe(self.state, SamplesSeen(self.evaluators.take(given, now)), now)
                return []
            case EvaluatorLost(worker=worker):
                self.evaluators.lose(worker)
                return []
            case DeviceReady():
                return self._answer_ready(given, now)
            case CommandReceived():
                outcome = decide_command(self.state, given, self.context, now)
                committed = self._commit(outcome.events, now)
                return [*committed, *self._reply(given, complete(self.state, outcome, now))]
            case CommandRefused():
                return self._refuse(given, now)
            case Tick():
                self._ticked_at = now
                self.tally.note_tick(now)
                again = [*self._publisher.reassert_more(self.state, now), *self._drain(now)]
                return [*again, *self._tick(now), *self._publisher.follow_up(self.state, now)]
            case Announced(device=device, info=info):
                before = self._version_of(device)
                outgoing = self._commit(decide_announced(self.state, device, info, self.context.enrolment), now)
                outgoing += self._commit(decide_cloned(self.state, device, info), now)
                if device not in self.state.devices:
                    self._refused(Refused(self._tree.build(Kind.INFO, device=device), "not_enrolled"), kind=Kind.INFO)
            case DeviceReported(device=device, reported=reported):
                if self._note_report is not None:
                    self._note_report(self.state, device, reported, now)
                before = self._version_of(device)
                outgoing = self._commit(decide_reported(self.state, device, reported, now), now)
            case _:
                outgoing = []
        observe(self.state, given, now)
        if isinstance(given, Announced | DeviceReported) and self._version_of(given.device) != before:
            self.intake.displace([given.device])  # What it serves decides whether it is normal, see ``_locate``.
        return outgoing

    def _version_of(self, name: str) -> str | None:
        device = self.state.devices.get(name)
        return None if device is None else device.version

    def hear(self, devices: Sequence[str], shards: NDArray[np.uint8], payloads: Sequence[bytes], now: float) -> None:
        """Take what devices sent of their health, in the order in which it came, with the shard in each topic."""
        self.tally.received[Kind.HEALTH] += len(devices)
        observe(self.state, SamplesSeen(self.intake.take(devices, shards, payloads, now)), now)

    def react(self, now: float) -> list[Outgoing]:
        """Decide on the devices whose samples since the last time are alarming, without waiting for the next tick.

        Samples that came since are folded in together, so it costs least after many of them.
        """
        if now < self.blind_until or self.state.frozen or not self.state.active:
            return []
        alarmed = self.context.monitor.alarmed()
        if not alarmed:
            return []
        outgoing: list[Outgoing] = []
        for rollout in self.state.active:
            outgoing += self._commit(watch_devices(self.state, rollout, alarmed, self.context, now), now)
        return outgoing

    def _drain(self, now: float) -> list[Outgoing]:
        """Note who said too much since the last tick, and hear the last words of those that may speak again."""
        floods = self._admission.floods()
        if floods:
            self.intake.note_floods(floods, now)
        for device, count in floods.items():
            topic = self._tree.build(Kind.REPORTED, device=device)
            refused = Refused(topic, "flood", f"more than {MESSAGES_PER_SECOND:g} messages in a second")
            self._refused(refused, count, kind=Kind.REPORTED)
        return [message for received in self._admission.last_words() for message in self.receive(received, now)]

    def _refused(self, refused: Refused, count: int = 1, *, kind: str = Kind.HEALTH) -> None:
        self.tally.refused[kind, refused.reason] += count
        if self._note_refusal is not None and refused.reason != "unknown_device":  # or a fleet elsewhere fills the log
            self._note_refusal(refused)

    def performed(self) -> None:
        """Note that everything returned so far has been handed to the broker."""
        self._journal.mark_performed(self.seq)

    def _locate(self, name: str) -> Located | None:
        device = self.state.devices.get(name)
        if device is None or not device.is_known:
            return None
        rollout = None if device.rollout is None else self.state.rollouts[device.rollout]
        wave, serves = "", True
        if rollout is not None and rollout.phase not in TERMINAL:
            wave = rollout.place_of(rollout.members[device.id].wave)
            is_before = device.version not in (None, rollout.release.version)  # None: not said since a restart
            serves = is_before and rollout.phase is not Phase.ROLLING_BACK
        is_normal = serves and not device.quarantine and not device.info.maintenance and not self.state.frozen
        return Located(Place(device.info.group, wave, is_normal), device.row)

    def _displace(self, events: Sequence[e.AnyEvent]) -> None:
        """Let devices be located anew where facts may have moved them."""
        situation = self.state.frozen, [(each.id, each.phase) for each in self.state.active]
        if situation != self._situation:
            self._situation = situation
            self.intake.displace(None)
            return
        for event in events:
            match event:
                case e.DevicesImported() | e.DevicesOrdered() | e.DevicesJoined():
                    self.intake.displace(tuple(event.devices))
                case e.DeviceAnnounced() | e.DeviceQuarantined() | e.DeviceReleased():
                    self.intake.displace([event.device])
                case _:
                    pass

    def _tick(self, now: float) -> list[Outgoing]:
        let = self.evaluators.let(self.state.epoch, now)
        if now < self.blind_until:
            return let
        windows = [rollout.policy.longest_window_seconds for rollout in self.state.watched]
        self.context.monitor.cover(max((each for each in windows if each is not None), default=LONGEST_SECONDS))
        self.context.monitor.forget_alarms()  # Whoever is watched is looked at below.
        observe_silence(self.state, now)
        observe_health(self.state, self.context.monitor, now)
        outgoing = [*let, *self._watch_shards(now), *self._commit(self._freeze_or_thaw(now), now)]
        if self.state.frozen:
            return outgoing
        outgoing += self._commit(decide_lost(self.state, now), now)
        outgoing += self._commit(decide_kept_out(self.state, self.intake.troublemakers(now)), now)
        for rollout in self.state.watched:
            outgoing += self._commit(watch(self.state, rollout, self.context, now), now)
            outgoing += self._ask(unheard(self.state, rollout, now), now)
        for rollout in self.state.active:
            outgoing += self._commit(decide_joined(self.state, rollout), now)
        return [*outgoing, *self._settle(now)]

    def _ask(self, devices: Sequence[str], now: float) -> list[Outgoing]:
        """Ask how far they are, by their order once more; of many only some, the others with the next ticks."""
        asked = tuple(devices[:REASSERTED_MAX])
        observe(self.state, Asked(asked), now)
        return self._publisher.publish(self.state, [PublishDesired(name) for name in asked], now)

    def _watched_until(self, moment: float) -> float:
        return self._watched_at if self.state.unread else moment

    def _watch_shards(self, now: float) -> list[Outgoing]:
        """Note whose health nobody reads: while there is anybody, no soak goes on."""
        before = self.state.unread
        observe(self.state, ShardsUnread(self.evaluators.unread(now)), now)
        stops = bool(before) != bool(self.state.unread)
        outgoing = self._commit(stop_soaks(self.state, self._watched_at), now) if stops else []
        if not self.state.unread:
            self._watched_at = now
        return outgoing

    def _freeze_or_thaw(self, now: float) -> list[e.AnyEvent]:
        events = decide_frozen(self.state, now)
        if events and not self.state.frozen:
            return [*stop_soaks(self.state, self._watched_until(now)), *events]  # What nobody hears does not count.
        return events

    def _settle(self, now: float) -> list[Outgoing]:
        """Take every step that follows, to the fixed point."""
        outgoing: list[Outgoing] = []
        for rollout in self.state.active:
            for _ in range(STEPS_MAX):
                events = step(self.state, rollout, self.context, now)
                if not events:
                    break
                outgoing += self._commit(events, now)
            else:
                raise AssertionError(f"{rollout.id} takes no end of steps in {rollout.phase}")
        return outgoing

    def _commit(self, events: Sequence[e.AnyEvent], now: float) -> list[Outgoing]:
        """Write facts down, apply them, and return their effects and audit records as messages."""
        if not events:
            return []
        records = self._journal.append([(event.kind, event.model_dump_json()) for event in events], now)
        self.seq = records[-1].seq
        effects: list[Effect] = []
        for event in events:
            if self._note_fact is not None:
                self._note_fact(self.state, event, now)
            evolve(self.state, event, now)
            effects += react(self.state, event, now)
        self._displace(events)
        return [
            *self._publisher.publish(self.state, effects, now),
            *(self._publisher.message(Kind.AUDIT, published(record)) for record in records),
        ]

    def _answer_ready(self, given: DeviceReady, now: float) -> list[Outgoing]:
        is_settling = now < self.blind_until
        decision = decide_grant(self.state, given.device, given.ready, now=now, is_settling=is_settling)
        observe(self.state, given, now)
        device = self.state.devices.get(given.device)
        if device is None or device.rollout is None:
            self.tally.refused[Kind.READY, "ready_without_order"] += 1
            return []
        grant: Grant
        if isinstance(decision, Wait):
            self.state.grant_seq += 1  # A refusal is no fact; its number only has to be new.
            grant = make_wait(self.state, device, given.ready, decision, now)
            known = decide_proven(self.state, device.id, decision)
            known += decide_withdrawn(self.state, device.id, given.ready, decision)
            return [*self._commit(known, now), *self._publisher.publish(self.state, [SendGrant(grant)], now)]
        committed = self._commit([decision], now)
        grant = make_grant(self.state, device, given.ready, decision, now)
        return [*committed, *self._publisher.publish(self.state, [SendGrant(grant)], now)]

    def _refuse(self, given: CommandRefused, now: float) -> list[Outgoing]:
        reply, event = refused_command(given)
        cleared = [Outgoing(given.topic, b"", retain=True)] if given.error.code == "retained_command" else []
        return [*cleared, *self._commit([event], now), *self._reply(given, reply)]

    def _reply(self, given: CommandReceived | CommandRefused, reply: Reply) -> list[Outgoing]:
        self.tally.note_answered(given.verb, reply.status)
        replies = [self._publisher.message(Kind.REPLY, reply, actor=given.actor, verb=given.verb)]
        topic = given.response_topic
        if topic is None:
            return replies
        if not self._may_answer_to(topic, given.actor):
            self.tally.refused[Kind.COMMAND, "foreign_response_topic"] += 1
            return replies
        direct = Outgoing(topic, replies[0].payload, correlation=given.correlation)
        return [direct] if topic == replies[0].topic else [*replies, direct]

    def _may_answer_to(self, topic: str, actor: str) -> bool:
        """Inside our tree an answer goes to its asker only, or anybody could write there in our name."""
        if _TOPIC_NAME.fullmatch(topic) is None:
            return False
        root = f"{self._tree.root}/"
        return not topic.startswith(root) or topic.startswith(f"{root}ops/{actor}/reply/")

"""The topic tree: one table of what is published where, one function that builds, one that parses.

Retained means state, not retained means commands, samples and events. Nothing is ever QoS 2. Devices subscribe to
exact topics only. The table is the single place for direction, QoS and retention; the broker's ACL repeats it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from schemas.errors import TopicError
from schemas.ids import ID_PATTERN, check_id, shard_of

TOPIC_ROOT: Final = "fleet/v1"
LEVEL_COUNT_MAX: Final = 6
"""With ``$share/<group>/`` in front it still fits the seven slashes of the strictest broker."""


class Kind(StrEnum):
    """Every kind of message on the bus."""

    AVAILABILITY = "availability"
    INFO = "info"
    DESIRED = "desired"
    REPORTED = "reported"
    READY = "ready"
    GRANT = "grant"
    DEVICE_EVENT = "device_event"
    FETCH = "fetch"
    PIECE = "piece"
    HEALTH = "health"
    GROUP_SUMMARY = "group_summary"
    HOLD = "hold"
    SYNC = "sync"
    TRUST = "trust"
    PEERS = "peers"
    PLAN = "plan"
    STATUS = "status"
    WAVE = "wave"
    GATE = "gate"
    ROLLBACK = "rollback"
    ROLLOUT_EVENT = "rollout_event"
    COMMAND = "command"
    REPLY = "reply"
    ORCHESTRATOR_AVAILABILITY = "orchestrator_availability"
    ORCHESTRATOR_INFO = "orchestrator_info"
    EVALUATOR_AVAILABILITY = "evaluator_availability"
    EVALUATOR_SAMPLES = "evaluator_samples"
    EVALUATOR_LEASE = "evaluator_lease"
    PIECES_AVAILABILITY = "pieces_availability"
    AUDIT = "audit"


class Sender(StrEnum):
    """Who may publish a kind."""

    DEVICE = "device"
    ORCHESTRATOR = "orchestrator"
    EVALUATOR = "evaluator"
    OPERATOR = "operator"
    PIECES = "pieces"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind travels."""

    pattern: str
    sender: Sender
    retained: bool
    qos: int = 1


RULES: Final[Mapping[Kind, Rule]] = {
    Kind.AVAILABILITY: Rule("device/{device}/availability", Sender.DEVICE, retained=True),
    Kind.INFO: Rule("device/{device}/info", Sender.DEVICE, retained=True),
    Kind.DESIRED: Rule("device/{device}/desired", Sender.ORCHESTRATOR, retained=True),
    Kind.REPORTED: Rule("device/{device}/reported", Sender.DEVICE, retained=True),
    Kind.READY: Rule("device/{device}/ready", Sender.DEVICE, retained=False),
    Kind.GRANT: Rule("device/{device}/grant", Sender.ORCHESTRATOR, retained=False),
    Kind.DEVICE_EVENT: Rule("device/{device}/event/{kind}", Sender.DEVICE, retained=False),
    Kind.FETCH: Rule("device/{device}/fetch", Sender.DEVICE, retained=False, qos=0),
    Kind.PIECE: Rule("device/{device}/piece", Sender.PIECES, retained=False, qos=0),
    Kind.HEALTH: Rule("health/{shard}/{device}", Sender.DEVICE, retained=False, qos=0),
    Kind.GROUP_SUMMARY: Rule("group/{group}/summary", Sender.ORCHESTRATOR, retained=True),
    Kind.HOLD: Rule("all/hold", Sender.OPERATOR, retained=True),
    Kind.SYNC: Rule("all/sync", Sender.ORCHESTRATOR, retained=False),
    Kind.TRUST: Rule("all/trust", Sender.ORCHESTRATOR, retained=True),
    Kind.PEERS: Rule("all/peers/{key}", Sender.ORCHESTRATOR, retained=True),
    Kind.PLAN: Rule("rollout/{rollout}/plan", Sender.ORCHESTRATOR, retained=True),
    Kind.STATUS: Rule("rollout/{rollout}/status", Sender.ORCHESTRATOR, retained=True),
    Kind.WAVE: Rule("rollout/{rollout}/wave/{wave}", Sender.ORCHESTRATOR, retained=True),
    Kind.GATE: Rule("rollout/{rollout}/gate/{wave}", Sender.ORCHESTRATOR, retained=True),
    Kind.ROLLBACK: Rule("rollout/{rollout}/rollback/{scope}", Sender.ORCHESTRATOR, retained=False),
    Kind.ROLLOUT_EVENT: Rule("rollout/{rollout}/event/{kind}", Sender.ORCHESTRATOR, retained=False),
    Kind.COMMAND: Rule("ops/{actor}/cmd/{verb}", Sender.OPERATOR, retained=False),
    Kind.REPLY: Rule("ops/{actor}/reply/{verb}", Sender.ORCHESTRATOR, retained=False),
    Kind.ORCHESTRATOR_AVAILABILITY: Rule("orchestrator/availability", Sender.ORCHESTRATOR, retained=True),
    Kind.ORCHESTRATOR_INFO: Rule("orchestrator/info", Sender.ORCHESTRATOR, retained=True),
    Kind.EVALUATOR_AVAILABILITY: Rule("evaluator/{worker}/availability", Sender.EVALUATOR, retained=True),
    Kind.EVALUATOR_SAMPLES: Rule("evaluator/{worker}/samples", Sender.EVALUATOR, retained=False),
    Kind.EVALUATOR_LEASE: Rule("evaluator/{worker}/lease", Sender.ORCHESTRATOR, retained=True),
    Kind.PIECES_AVAILABILITY: Rule("pieces/availability", Sender.PIECES, retained=True),
    Kind.AUDIT: Rule("audit", Sender.ORCHESTRATOR, retained=False),
}


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed topic: its kind and the ids that stand in it."""

    kind: Kind
    ids: Mapping[str, str]


def _compiled(kind: Kind) -> "re.Pattern[str]":
    pattern = re.sub(r"\{(\w+)\}", rf"(?P<\1>{ID_PATTERN})", RULES[kind].pattern)
    return re.compile(pattern)


_PARSERS: Final = tuple((kind, _compiled(kind)) for kind in RULES)
_ROOT_LEVELS_MAX: Final = LEVEL_COUNT_MAX - max(rule.pattern.count("/") + 1 for rule in RULES.values())
_PARSED_MAX: Final = 65_536
"""A fleet says the same topics again and again; so many are remembered."""
_LENGTH_MAX: Final = 512
"""More than any topic of ours has. MQTT allows 65,535 bytes, and what is remembered of topics must stay small."""
_FIELD: Final = re.compile(r"\{(\w+)\}")
_FIELDS: Final = {kind: frozenset(_FIELD.findall(rule.pattern)) for kind, rule in RULES.items()}
"""The ids in each kind's topics."""


class TopicTree:
    """Builds and parses topics below one root.

    Args:
        root: Leading levels, two at most; the last is the major version of the contract.

    Raises:
        TopicError: A root that would make topics too deep or is not made of ids; the caller's fault.
    """

    def __init__(self, root: str = TOPIC_ROOT) -> None:
        levels = root.split("/")
        if len(levels) > _ROOT_LEVELS_MAX:
            raise TopicError(f"the topic root {root[:80]!r} has {len(levels)} levels, at most {_ROOT_LEVELS_MAX}")
        for level in levels:
            check_id(level)
        self.root = root
        self._parse = lru_cache(maxsize=_PARSED_MAX)(self._match)

    def build(self, kind: Kind, /, **ids: str) -> str:
        """Build the topic of ``kind``; for health the shard follows from the device.

        Raises:
            TopicError: An id is missing or not allowed in a topic; the caller's fault.
        """
        if kind is Kind.HEALTH and "device" in ids:
            ids = {**ids, "shard": shard_of(check_id(ids["device"]))}
        return f"{self.root}/{self._fill(kind, ids)}"

    def filter(self, kind: Kind, /, **ids: str) -> str:
        """Build a subscription for ``kind``: every id that is not given becomes ``+``."""
        return f"{self.root}/{_FIELD.sub(lambda m: check_id(ids[m[1]]) if m[1] in ids else '+', RULES[kind].pattern)}"

    def parse(self, topic: str) -> Address | None:
        """Return what ``topic`` is about, or None if it is not of this tree."""
        return self._parse(topic) if len(topic) <= _LENGTH_MAX else None

    def _match(self, topic: str) -> Address | None:
        if not topic.startswith(self.root + "/"):
            return None
        rest = topic[len(self.root) + 1 :]
        for kind, pattern in _PARSERS:
            match = pattern.fullmatch(rest)
            if match is not None:
                return Address(kind, match.groupdict())
        return None

    def _fill(self, kind: Kind, ids: Mapping[str, str]) -> str:
        if ids.keys() != _FIELDS[kind]:
            raise TopicError(f"{kind} needs the ids {sorted(_FIELDS[kind])}, got {sorted(ids)}")
        for each in ids.values():
            check_id(each)
        return RULES[kind].pattern.format_map(ids)

import json
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import TopicError
from schemas.ids import ID_PATTERN, check_id, is_id, shard_of
from schemas.topics import LEVEL_COUNT_MAX, RULES, Address, Kind, Sender, TopicTree

TREE = TopicTree()
IDS = {
    "device": "pi-0042", "kind": "crash", "group": "vision", "rollout": "r-042", "wave": "canary", "scope": "device",
    "actor": "alice", "verb": "start", "shard": "17", "worker": "evaluator-1", "key": "0123456789abcdef",
}  # fmt: skip
TOPICS = {
    Kind.AVAILABILITY: "device/pi-0042/availability",
    Kind.INFO: "device/pi-0042/info",
    Kind.DESIRED: "device/pi-0042/desired",
    Kind.REPORTED: "device/pi-0042/reported",
    Kind.READY: "device/pi-0042/ready",
    Kind.GRANT: "device/pi-0042/grant",
    Kind.DEVICE_EVENT: "device/pi-0042/event/crash",
    Kind.FETCH: "device/pi-0042/fetch",
    Kind.PIECE: "device/pi-0042/piece",
    Kind.HEALTH: f"health/{shard_of('pi-0042')}/pi-0042",
    Kind.GROUP_SUMMARY: "group/vision/summary",
    Kind.HOLD: "all/hold",
    Kind.SYNC: "all/sync",
    Kind.TRUST: "all/trust",
    Kind.PEERS: "all/peers/0123456789abcdef",
    Kind.PLAN: "rollout/r-042/plan",
    Kind.STATUS: "rollout/r-042/status",
    Kind.WAVE: "rollout/r-042/wave/canary",
    Kind.GATE: "rollout/r-042/gate/canary",
    Kind.ROLLBACK: "rollout/r-042/rollback/device",
    Kind.ROLLOUT_EVENT: "rollout/r-042/event/crash",
    Kind.COMMAND: "ops/alice/cmd/start",
    Kind.REPLY: "ops/alice/reply/start",
    Kind.ORCHESTRATOR_AVAILABILITY: "orchestrator/availability",
    Kind.ORCHESTRATOR_INFO: "orchestrator/info",
    Kind.EVALUATOR_AVAILABILITY: "evaluator/evaluator-1/availability",
    Kind.EVALUATOR_SAMPLES: "evaluator/evaluator-1/samples",
    Kind.EVALUATOR_LEASE: "evaluator/evaluator-1/lease",
    Kind.PIECES_AVAILABILITY: "pieces/availability",
    Kind.AUDIT: "audit",
}
HOSTILE = ["", "+", "#", "a/b", "a\x00", "a\n", "\na", "a.b", "-a", "_a", "é", "a b", "a" * 65, "$SYS", "\ud800"]


def ids_of(kind: Kind) -> dict[str, str]:
    return {name: value for name, value in IDS.items() if f"{{{name}}}" in RULES[kind].pattern and name != "shard"}


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_built_and_parsed_back(kind: Kind) -> None:
    topic = TREE.build(kind, **ids_of(kind))

    assert topic == f"fleet/v1/{TOPICS[kind]}"
    address = TREE.parse(topic)
    assert address is not None
    assert address.kind is kind
    assert {**ids_of(kind), **address.ids} == dict(address.ids)


@pytest.mark.parametrize("kind", Kind)
def test_no_topic_is_deeper_than_six_levels(kind: Kind) -> None:
    assert TREE.build(kind, **ids_of(kind)).count("/") + 1 <= LEVEL_COUNT_MAX == 6


def test_retained_is_state_and_nothing_else() -> None:
    retained = {kind for kind, rule in RULES.items() if rule.retained}

    assert retained == {
        Kind.AVAILABILITY, Kind.INFO, Kind.DESIRED, Kind.REPORTED, Kind.GROUP_SUMMARY, Kind.HOLD, Kind.PLAN,
        Kind.STATUS, Kind.WAVE, Kind.GATE, Kind.ORCHESTRATOR_AVAILABILITY, Kind.ORCHESTRATOR_INFO,
        Kind.EVALUATOR_AVAILABILITY, Kind.EVALUATOR_LEASE, Kind.TRUST, Kind.PEERS,
        Kind.PIECES_AVAILABILITY,
    }  # fmt: skip


def test_only_health_and_what_is_asked_for_again_may_be_lost_and_nothing_is_sent_exactly_once() -> None:
    may_be_lost = {Kind.HEALTH, Kind.FETCH, Kind.PIECE}

    assert {kind: rule.qos for kind, rule in RULES.items()} == {kind: int(kind not in may_be_lost) for kind in Kind}


def test_a_device_writes_below_its_own_id_only() -> None:
    patterns = {rule.pattern for rule in RULES.values() if rule.sender is Sender.DEVICE}

    assert all("{device}" in pattern for pattern in patterns)


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("kind", [kind for kind in Kind if ids_of(kind)])
def test_an_id_that_could_change_the_topic_is_refused_when_it_is_built(kind: Kind, hostile: str) -> None:
    for name in ids_of(kind):
        with pytest.raises(TopicError):
            TREE.build(kind, **{**ids_of(kind), name: hostile})
        with pytest.raises(TopicError):
            TREE.filter(kind, **{name: hostile})


@pytest.mark.parametrize("hostile", [*HOSTILE, "x/y/z"])
def test_a_foreign_or_hostile_topic_is_not_parsed(hostile: str) -> None:
    for topic in (
        hostile,
        f"fleet/v1/device/{hostile}/info",
        f"fleet/v1/ops/{hostile}/cmd/start",
        f"fleet/v1/{hostile}",
        f"fleet/v2/device/pi-1/{hostile}",
    ):
        assert TREE.parse(topic) is None


@pytest.mark.parametrize(
    "topic",
    ["fleet/v1", "fleet/v1/", "fleet/v10/audit", "fleet/v1/audit\n", "fleet/v1/device/a/info/x", "/fleet/v1/audit"],
)
def test_a_topic_beside_the_tree_is_not_parsed(topic: str) -> None:
    assert TREE.parse(topic) is None


@pytest.mark.parametrize("ids", [{}, {"device": "a", "rollout": "r"}, {"devise": "a"}])
def test_a_topic_needs_exactly_its_ids(ids: dict[str, str]) -> None:
    with pytest.raises(TopicError, match="needs the ids"):
        TREE.build(Kind.INFO, **ids)


def test_a_filter_has_a_wildcard_for_what_is_not_given() -> None:
    assert TREE.filter(Kind.INFO) == "fleet/v1/device/+/info"
    assert TREE.filter(Kind.REPLY, actor="alice") == "fleet/v1/ops/alice/reply/+"
    assert TREE.filter(Kind.HEALTH, shard="07") == "fleet/v1/health/07/+"


def test_another_root_is_another_tree() -> None:
    other = TopicTree("edge/v2")

    assert other.build(Kind.AUDIT) == "edge/v2/audit"
    assert other.parse("edge/v2/audit") == Address(Kind.AUDIT, {})
    assert other.parse("fleet/v1/audit") is None


@pytest.mark.parametrize("root", ["", "a//b", "a/#", "+/v1", "a/b/c", "a.b"])
def test_a_root_that_breaks_topics_or_makes_them_too_deep_is_refused(root: str) -> None:
    with pytest.raises(TopicError):
        TopicTree(root)


@given(st.from_regex(ID_PATTERN, fullmatch=True))
def test_a_shard_is_two_digits_that_follow_from_the_device(device: str) -> None:
    assert shard_of(device) == f"{crc32(device.encode()) % 64:02d}"
    address = TREE.parse(TREE.build(Kind.HEALTH, device=device))
    assert address == Address(Kind.HEALTH, {"shard": shard_of(device), "device": device})


@given(st.text(max_size=70))
def test_an_id_is_what_can_stand_in_a_topic(text: str) -> None:
    if is_id(text):
        assert check_id(text) == text
        assert json.dumps(text) == f'"{text}"'
        assert not set(text) & set("/+#.$ \x00")
    else:
        with pytest.raises(TopicError):
            check_id(text)

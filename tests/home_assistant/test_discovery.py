"""What Home Assistant is told follows from the bus, is whole, and holds nothing that its user may not say."""

import json
from typing import Any

import pytest

from orchestrator.discovery import FLEET, chosen, configurations
from schemas.codec import decode
from schemas.commands import VERBS
from schemas.documents import StatusDocument
from schemas.messages import Hold
from schemas.topics import Kind, TopicTree

TREE = TopicTree()
REQUIRED = {
    "sensor": {"state_topic", "value_template"},
    "binary_sensor": {"state_topic", "value_template"},
    "button": {"command_topic", "payload_press"},
    "switch": {"command_topic", "state_topic", "payload_on", "payload_off"},
}


def rollout(name: str, phase: str, started_at: str = "2026-11-29T10:00:00Z") -> StatusDocument:
    return StatusDocument(
        rollout=name, release="app-1", version="1", phase=phase, wave="canary", paused=False, counts={}, reasons=(),
        allowed=(), started_at=started_at, started_by="alice", ts=started_at, plan_digest="ab" * 32,
    )  # fmt: skip


def told(*rollouts: StatusDocument, groups: tuple[str, ...] = (), user: str | None = "ha") -> dict[str, dict[str, Any]]:
    return configurations(TREE, {each.rollout: each for each in rollouts}, groups, user)


def entities(configs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for config in configs.values() for each in config["components"].values() if len(each) > 1]


def test_every_device_is_whole_and_every_entity_has_what_its_platform_needs() -> None:
    configs = told(rollout("r-1", "awaiting_approval"), groups=("a", "b"))

    assert set(configs) == {FLEET, "tidegate_group_a", "tidegate_group_b"}
    for name, config in configs.items():
        assert config["device"]["identifiers"] == [name]
        assert config["device"]["name"]
        assert config["origin"]["name"] == "tidegate"
        assert config["availability"] == [{"topic": "fleet/v1/orchestrator/availability"}]
    for entity in entities(configs):
        assert {"name", "unique_id"} | REQUIRED[entity["platform"]] <= entity.keys()


def test_no_two_entities_have_the_same_id() -> None:
    found = [each["unique_id"] for each in entities(told(rollout("r-1", "awaiting_approval"), groups=("a", "b")))]

    assert len(found) == len(set(found)) == 5 + 2 * 5


def test_topics_are_those_of_the_contract() -> None:
    for entity in entities(told(rollout("r-1", "awaiting_approval"), groups=("a",))):
        for key in ("state_topic", "command_topic"):
            assert key not in entity or TREE.parse(entity[key]) is not None, entity


def test_button_approves_what_is_seen_and_nothing_else() -> None:
    button = told(rollout("r-1", "awaiting_approval"))[FLEET]["components"]["approve"]

    said = json.loads(button["payload_press"])
    address = TREE.parse(button["command_topic"])
    assert address is not None
    assert (address.kind, dict(address.ids)) == (Kind.COMMAND, {"actor": "ha", "verb": "approve"})
    assert (said["rollout"], said["wave"], said["plan"]) == ("r-1", "canary", "ab" * 32)
    VERBS["approve"].model_validate(said)


@pytest.mark.parametrize("phase", ["deploying", "soaking", "halted", "completed"])
def test_button_is_taken_away_while_nothing_can_be_approved(phase: str) -> None:
    assert told(rollout("r-1", phase))[FLEET]["components"]["approve"] == {"platform": "button"}


def test_brake_is_a_retained_hold_and_its_release_an_empty_message() -> None:
    switch = told()[FLEET]["components"]["hold"]

    assert decode(Hold, switch["payload_on"].encode()).by == "ha"
    assert (switch["payload_off"], switch["retain"]) == ("", True)


def test_nothing_commands_without_a_user() -> None:
    configs = told(rollout("r-1", "awaiting_approval"), groups=("a",), user=None)

    assert not [each for each in entities(configs) if "command_topic" in each]
    assert told(user=None) == {}


def test_rollout_that_waits_is_shown_before_one_that_goes_on_before_the_newest() -> None:
    old, new = "2026-11-29T10:00:00Z", "2026-11-29T11:00:00Z"

    def shown(*rollouts: StatusDocument) -> str | None:
        found = chosen(rollouts)
        return None if found is None else found.rollout

    assert shown() is None
    assert shown(rollout("r-1", "halted", old), rollout("r-2", "soaking", new)) == "r-1"
    assert shown(rollout("r-1", "soaking", old), rollout("r-2", "completed", new)) == "r-1"
    assert shown(rollout("r-1", "completed", old), rollout("r-2", "rolled_back", new)) == "r-2"

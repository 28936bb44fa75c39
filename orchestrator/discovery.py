"""What Home Assistant is told of a fleet, in its own words; pure.

Entities read the orchestrator's retained documents themselves, and command as Home Assistant's own user of the broker.
So nothing passes through whoever publishes these configurations, and nobody can do through them what the access list
denies.

Source:
    Home Assistant, "MQTT": device discovery, with ``device``, ``origin`` and ``components``.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from orchestrator.core.rollout import TERMINAL, Phase
from orchestrator.version import VERSION
from schemas.documents import StatusDocument
from schemas.topics import Kind, TopicTree

OURS: Final = "tidegate_"
"""How the names of all our devices begin, there."""
FLEET: Final = f"{OURS}fleet"
Config = dict[str, Any]

_WAITING: Final = (Phase.AWAITING_APPROVAL, Phase.HALTED)
_PLATFORMS: Final = {
    "rollout": "sensor",
    "progress": "sensor",
    "waits": "binary_sensor",
    "approve": "button",
    "hold": "switch",
}
"""Of the fleet's entities. One that is not there for now is named with its platform alone: that takes it away."""
_ORIGIN: Final = {"name": "tidegate", "sw_version": VERSION}
_ONE_OF_WAITING: Final = f"value_json.phase in {[str(phase) for phase in _WAITING]}"
_DONE: Final = "value_json.waves | sum(attribute='done') / (value_json.waves | sum(attribute='devices') or 1)"


def chosen(rollouts: Iterable[StatusDocument]) -> StatusDocument | None:
    """Return the rollout that is shown: one that waits for a person, else one that goes on, else the newest."""
    return max(
        rollouts,
        key=lambda each: (each.phase in _WAITING, each.phase not in TERMINAL, each.started_at, each.rollout),
        default=None,
    )


def configurations(
    tree: TopicTree, rollouts: Mapping[str, StatusDocument], groups: Iterable[str], commander: str | None
) -> dict[str, Config]:
    """Return the configuration of each device that Home Assistant shall have: one for the fleet, one for each group.

    Args:
        tree: Where the fleet is on the bus.
        rollouts: Where each is.
        groups: Those with a summary.
        commander: As whom Home Assistant connects; without a name it gets nothing that commands.
    """
    rollout = chosen(rollouts.values())
    components: dict[str, Config] = {}
    if rollout is not None:
        components |= _of_rollout(tree, rollout)
    if commander is not None:
        components |= {"hold": _hold(tree, commander)}
        if rollout is not None and rollout.phase == Phase.AWAITING_APPROVAL:
            components |= {"approve": _approve(tree, rollout, commander)}
    found = {FLEET: _device(tree, FLEET, "Fleet", components)} if components else {}
    for part, platform in _PLATFORMS.items() if found else ():
        found[FLEET]["components"].setdefault(part, {"platform": platform})
    return found | {f"{OURS}group_{group}": _group(tree, group) for group in groups}


def _device(tree: TopicTree, name: str, title: str, components: Mapping[str, Config]) -> Config:
    about: Config = {"identifiers": [name], "name": f"tidegate {title}", "manufacturer": "tidegate"}
    if name != FLEET:
        about["via_device"] = FLEET
    return {
        "device": about,
        "origin": _ORIGIN,
        "availability": [{"topic": tree.build(Kind.ORCHESTRATOR_AVAILABILITY)}],
        "qos": 1,
        "components": {
            part: {
                "platform": _PLATFORMS.get(part, "sensor"),
                **component,
                "unique_id": f"{name}_{part}",
                "object_id": f"{name}_{part}",
            }
            for part, component in components.items()
        },
    }


def _of_rollout(tree: TopicTree, rollout: StatusDocument) -> dict[str, Config]:
    topic = tree.build(Kind.STATUS, rollout=rollout.rollout)
    reads = {"state_topic": topic}
    return {
        "rollout": {
            **reads, "name": "Rollout", "icon": "mdi:package-up",
            "value_template": "{{ value_json.phase }}",
            "json_attributes_topic": topic,
            "json_attributes_template": (
                "{{ {'rollout': value_json.rollout, 'release': value_json.release, 'wave': value_json.wave, "
                "'reasons': value_json.reasons, 'allowed': value_json.allowed} | tojson }}"
            ),
        },
        "progress": {
            **reads, "name": "Progress", "unit_of_measurement": "%", "icon": "mdi:progress-check",
            "value_template": f"{{{{ (100 * ({_DONE})) | round }}}}",
        },
        "waits": {
            **reads, "name": "Waits for a person", "device_class": "problem",
            "value_template": f"{{{{ 'ON' if {_ONE_OF_WAITING} else 'OFF' }}}}",
        },
    }  # fmt: skip


def _approve(tree: TopicTree, rollout: StatusDocument, commander: str) -> Config:
    """Return the button; what it says is bound to what is seen now, so a late press counts for nothing else."""
    said = {
        "rollout": rollout.rollout,
        "wave": rollout.wave,
        "plan": rollout.plan_digest,
        "reason": "approved in Home Assistant",
    }
    return {
        "name": f"Approve {rollout.rollout} after {rollout.wave}",
        "icon": "mdi:check-decagram",
        "command_topic": tree.build(Kind.COMMAND, actor=commander, verb="approve"),
        "payload_press": json.dumps({name: value for name, value in said.items() if value is not None}),
    }


def _hold(tree: TopicTree, commander: str) -> Config:
    topic = tree.build(Kind.HOLD)
    return {
        "name": "Emergency brake",
        "icon": "mdi:car-brake-alert",
        "state_topic": topic,
        "command_topic": topic,
        "retain": True,
        "value_template": "{{ 'ON' if value else 'OFF' }}",
        "state_on": "ON",
        "state_off": "OFF",
        "payload_on": json.dumps({"reason": "pulled in Home Assistant", "by": commander}),
        "payload_off": "",
    }


def _group(tree: TopicTree, group: str) -> Config:
    topic = tree.build(Kind.GROUP_SUMMARY, group=group)

    def sensor(name: str, template: str, **more: str) -> Config:
        shown = {"state_class": "measurement", "state_topic": topic}
        return {**shown, "name": name, "value_template": f"{{{{ {template} }}}}", **more}

    components = {
        "devices": sensor("Devices", "value_json.devices"),
        "heard": sensor("Heard lately", "value_json.fresh"),
        "healthy": sensor("Healthy", "value_json.healthy"),
        "errors": sensor("Error rate", "(100 * value_json.error_rate) | round(2) if value_json.error_rate is number "
                         "else None", unit_of_measurement="%"),
        "latency": sensor("Latency p95", "value_json.latency_p95_seconds", unit_of_measurement="s",
                          device_class="duration"),
    }  # fmt: skip
    return _device(tree, f"{OURS}group_{group}", f"group {group}", components)

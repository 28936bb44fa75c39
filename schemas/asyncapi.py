"""The wire contract as an AsyncAPI document: every topic, who publishes there and how, and the schema of each payload.

Written from the tables and models that the programs use, and from the orchestrator's point of view: what it sends and
what it receives. What evaluators send goes to it too; what the piece server hears and says passes it by.

Source:
    AsyncAPI 3.1.0; MQTT bindings 0.2.0; JSON Schema draft 7, which is the dialect of AsyncAPI's schemas.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.commands import VERBS
from schemas.documents import MODELS
from schemas.messages import PIECE_BYTES_MAX, Grant, PieceRefusal
from schemas.pieces import HEAD_BYTES
from schemas.topics import RULES, TOPIC_ROOT, Kind, Rule, Sender

_JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{model}"
_FIELD: Final = re.compile(r"\{(\w+)\}")
_PRESENCE: Final = frozenset({
    Kind.AVAILABILITY, Kind.ORCHESTRATOR_AVAILABILITY, Kind.EVALUATOR_AVAILABILITY, Kind.PIECES_AVAILABILITY,
})  # fmt: skip
_PLACES: Final[Mapping[str, str]] = {
    "device": "A device's id, which is its user at the broker.",
    "shard": "0 to 63, from the device's id: CRC-32 of it, modulo 64.",
    "group": "A group of devices that are compared with each other.",
    "key": "A site: the first 16 hex digits of the SHA-256 of its name.",
    "rollout": "A rollout's id.",
    "wave": "`canary`, or the name of a wave in the policy.",
    "scope": "Whom a rollback is for.",
    "kind": "What happened.",
    "actor": "A person's user at the broker; the name in the audit.",
    "verb": "What is commanded.",
    "worker": "An evaluator's user at the broker.",
}
_ENVELOPE: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "A DSSE envelope. Its payload, in base64, is the JSON of a Grant; verify first, decode after.",
    "required": ["payloadType", "payload", "signatures"],
    "properties": {
        "payloadType": {"type": "string"},
        "payload": {"type": "string", "contentEncoding": "base64"},
        "signatures": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["sig"],
                "properties": {"keyid": {"type": "string"}, "sig": {"type": "string", "contentEncoding": "base64"}},
            },
        },
    },
}


def asyncapi_document(version: str, root: str = TOPIC_ROOT) -> dict[str, Any]:
    """Return the contract as AsyncAPI 3.1.0.

    Args:
        version: Of the program that it describes.
        root: Leading levels of all topics.
    """
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for name, rule, message in _entries():
        messages[name] = message
        channels[name] = _channel(name, f"{root}/{rule.pattern}", message)
        operations[_operation_name(name, rule)] = _operation(name, rule)
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "tidegate",
            "version": version,
            "description": "Software for fleets of edge devices, rolled out in waves. Operations are the "
            "orchestrator's: `send` is what it publishes, `receive` what devices, evaluators and people publish.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _JSON,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": _schemas()},
    }


def _entries() -> list[tuple[str, Rule, dict[str, Any]]]:
    """Return each channel's name, how it travels, and its message; commands have a channel for each verb."""
    found = []
    for kind, rule in RULES.items():
        if kind is Kind.COMMAND:
            found += [
                (f"command_{verb}", _for_verb(rule, verb), _message(f"The command `{verb}`.", _reference(model)))
                for verb, model in VERBS.items()
            ]
        else:
            found.append((kind.value, rule, _payload(kind)))
    return found


def _for_verb(rule: Rule, verb: str) -> Rule:
    return Rule(rule.pattern.replace("{verb}", verb), rule.sender, rule.retained, rule.qos)


def _payload(kind: Kind) -> dict[str, Any]:
    model = MODELS.get(kind)
    if model is not None:
        return _message(_first_sentence(model), _reference(model))
    if kind in _PRESENCE:
        return _message("Presence, as plain text; the last will is `offline`.",
                        {"type": "string", "enum": ["online", "offline"]}, "text/plain")  # fmt: skip
    if kind is Kind.GRANT:
        return _message("The signed answer to `ready`: go, or wait.", dict(_ENVELOPE))
    if kind is Kind.PIECE:
        piece = {"type": "string", "format": "binary", "maxLength": PIECE_BYTES_MAX + HEAD_BYTES}
        return _message("A piece with its head in binary, or why it is not given, as JSON; the first byte tells.",
                        {"oneOf": [piece, _reference(PieceRefusal)]}, "application/octet-stream")  # fmt: skip
    if kind is Kind.PLAN:
        return _message("The accepted policy with its waves.", {"type": "object"})
    return _message("Samples in columns, between programs of the same version.",
                    {"type": "string", "format": "binary"}, "application/octet-stream")  # fmt: skip


def _message(summary: str, payload: dict[str, Any], content_type: str = _JSON) -> dict[str, Any]:
    return {"summary": summary, "contentType": content_type, "payload": payload}


def _channel(name: str, address: str, message: dict[str, Any]) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": address,
        "description": message["summary"],
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }
    places = _FIELD.findall(address)
    if places:
        channel["parameters"] = {place: {"description": _PLACES[place]} for place in places}
    return channel


def _operation(name: str, rule: Rule) -> dict[str, Any]:
    return {
        "action": "send" if rule.sender is Sender.ORCHESTRATOR else "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
        "tags": [{"name": f"published by {rule.sender.value}"}],
        "bindings": {"mqtt": {"qos": rule.qos, "retain": rule.retained, "bindingVersion": "0.2.0"}},
    }


def _operation_name(name: str, rule: Rule) -> str:
    return f"{'send' if rule.sender is Sender.ORCHESTRATOR else 'receive'}_{name}"


def _schemas() -> dict[str, Any]:
    models: dict[type[BaseModel], None] = dict.fromkeys([*MODELS.values(), *VERBS.values(), Grant, PieceRefusal])
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    found: dict[str, Any] = _draft_7(definitions["$defs"])
    return found


def _draft_7(node: Any) -> Any:  # noqa: ANN401 - JSON holds anything
    """Say fixed tuples, which only a newer dialect has a word for, as draft 7 does."""
    match node:
        case {"prefixItems": first, **rest}:
            return {**_draft_7(rest), "items": _draft_7(first)}
        case dict():
            return {key: _draft_7(value) for key, value in node.items()}
        case list():
            return [_draft_7(each) for each in node]
        case _:
            return node


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}


def _first_sentence(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())

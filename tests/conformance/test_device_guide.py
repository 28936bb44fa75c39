"""The guide for writers of devices says what is so: every example is valid, and every clause stands in its section."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from orchestrator.conformance.clauses import CLAUSES
from schemas.codec import decode
from schemas.dsse import GRANT_TYPE, unseal
from schemas.ids import shard_of
from schemas.messages import (
    Desired,
    ErrorReport,
    Grant,
    HealthSample,
    Info,
    MediaReport,
    PieceRefusal,
    PieceRequest,
    Ready,
    Reported,
)
from tests.conformance.conformance_bench import verification

GUIDE = (Path(__file__).parents[2] / "docs" / "writing-a-device.md").read_text()
EXAMPLES = dict(re.findall(r"^```json (\w+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL))
MODELS: dict[str, type[BaseModel]] = {
    "info": Info,
    "reported": Reported,
    "health": HealthSample,
    "desired": Desired,
    "ready": Ready,
    "grant": Grant,
    "error": ErrorReport,
    "media": MediaReport,
    "fetch": PieceRequest,
    "piece": PieceRefusal,
}


@pytest.mark.parametrize("name", MODELS)
def test_example_is_what_its_topic_promises_and_names_no_field_that_does_not_exist(name: str) -> None:
    decode(MODELS[name], EXAMPLES[name].encode())
    assert set(json.loads(EXAMPLES[name])) <= set(MODELS[name].model_fields)


def test_signed_example_holds_the_grant_that_is_shown_and_both_implementations_verify_it() -> None:
    (key,) = re.findall(r"signed by the key `([0-9a-f]{64})`", GUIDE)
    envelope = EXAMPLES["envelope"].encode()

    payload = unseal(GRANT_TYPE, envelope, [bytes.fromhex(key)])

    assert json.loads(payload) == json.loads(EXAMPLES["grant"])
    assert json.loads(payload)["desired_sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert verification()["unseal"](GRANT_TYPE, envelope, bytes.fromhex(key)) == payload


def test_shards_are_computed_right() -> None:
    assert set(re.findall(r"`([a-z]+-\d+)` has (\d\d)", GUIDE)) == {
        (device, shard_of(device)) for device in ("pi-7", "cam-0001")
    }


def test_every_clause_stands_in_its_section_in_the_words_of_the_kit() -> None:
    found, section = {}, ""
    for line in GUIDE.splitlines():
        if line.startswith("## "):
            section = line.split(". ", 1)[1]
        row = re.fullmatch(r"\| `([a-z-]+)` \| (.*) \|", line)
        if row is not None and row[1] in {clause.id for clause in CLAUSES}:
            found[row[1]] = (row[2], section)
    assert found == {clause.id: (clause.text, clause.section) for clause in CLAUSES}

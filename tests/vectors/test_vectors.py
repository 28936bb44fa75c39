"""Every vector of signatures and grants, against the code that runs on devices."""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device_client.adapters.artifact import Artifacts, Identity
from device_client.adapters.failure import StepError
from device_client.adapters.mqtt import Broker, Bus
from device_client.adapters.slots import Slots
from device_client.adapters.trust import ROOTS, PinnedKeys, TrustRoot
from device_client.core.device import advance
from device_client.core.effects import CheckSlot, LogRefusal, Persist, Source, StopApplication, SwitchSlot
from device_client.core.grant import GrantRefusal
from device_client.core.machine import Phase
from schemas.codec import MESSAGE, Bounds, encode
from schemas.dsse import read_envelope, unseal
from schemas.errors import DecodeError, SignatureError, TrustError
from schemas.messages import ArtifactRef, HealthCheck, ManifestRef, TrustDocument
from schemas.topics import Kind, TopicTree
from schemas.trust import Role, Root
from tests.core.trust_roots import make_root
from tests.device.device_bench import Bench
from tests.device.device_driver import unpack_here
from tests.device.device_world import sha256
from tests.vectors.generate import DESIRED, DESIRED_SHA256, FILE, generate

DOCUMENT: dict[str, Any] = json.loads(FILE.read_text())
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    f"{kind}-{each['name']}": (kind, {**each, "given": {**known["given"], **each.get("given", {})}})
    for kind, known in DOCUMENT["kinds"].items()
    for each in known["vectors"]
}


def envelope_of(vector: dict[str, Any]) -> bytes:
    text: str | None = vector.get("envelope")
    written = base64.b64decode(vector["envelope_base64"]) if text is None else text.encode()
    spaces: int = vector.get("spaces_behind", 0)
    return written + b" " * spaces


def test_file_is_what_the_table_says() -> None:
    assert FILE.read_text() == generate(), "type: python -m tests.vectors.generate"


def test_there_are_enough_vectors_and_each_has_a_name_of_its_own() -> None:
    kinds = DOCUMENT["kinds"].values()

    assert len(CASES) == sum(len(kind["vectors"]) for kind in kinds) == 361
    for kind in kinds:
        assert kind["vectors"][0]["name"] == "unchanged"
        assert kind["vectors"][0]["expected"] == "accepted"


def test_every_reason_to_refuse_a_grant_has_a_vector() -> None:
    expected = {each["expected"] for each in DOCUMENT["kinds"]["grant"]["vectors"]}

    assert set(GrantRefusal) <= expected


@pytest.mark.parametrize("name", CASES)
def test_vector(tmp_path: Path, name: str) -> None:
    kind, vector = CASES[name]

    assert judge(tmp_path, kind, vector) == vector["expected"]


def judge(folder: Path, kind: str, vector: dict[str, Any]) -> str:
    scene = Scene(folder)
    judges = {"grant": scene.grant, "manifest": scene.manifest, "root": scene.root}
    return judges[kind](envelope_of(vector), vector["given"])


def lenient(text: str) -> bytes:
    return base64.b64decode(text)


def any_of(kind: str, envelope: bytes, keys: Iterable[bytes], bounds: Bounds = MESSAGE, *, threshold: int = 1) -> bytes:
    return unseal(kind, envelope, keys, bounds)


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("schemas.dsse.verify", lambda *_: True),
        ("schemas.dsse._decode_base64", lenient),
        ("schemas.dsse.pre_authentication_encoding", lambda _, payload: payload),
        ("schemas.codec._JSON", json.JSONDecoder()),
        ("schemas.trust._check_own", lambda *_: None),
        ("schemas.trust.unseal", any_of),
        ("schemas.trust.Root.revokes", lambda *_: False),
        ("device_client.adapters.trust.unseal", any_of),
        ("device_client.adapters.artifact.Artifacts._check_fit", lambda *_: None),
        ("device_client.adapters.artifact.file_digest", lambda path: path.name.split(".")[0]),
        ("device_client.core.asking.judge_grant", lambda *_, **__: None),
    ],
)
def test_vectors_find_a_device_that_leaves_out_a_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, fault: object
) -> None:
    monkeypatch.setattr(place, fault)

    for name, (kind, vector) in CASES.items():
        (tmp_path / name).mkdir()
        try:
            if judge(tmp_path / name, kind, vector) != vector["expected"]:
                return
        except AssertionError:
            return
    pytest.fail("no vector shows it")


class Scene:
    """A device's own code around one envelope; each method also sees that a refusal has changed nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def grant(self, envelope: bytes, given: dict[str, Any]) -> str:
        device, now = self._asking(given)
        trust = PinnedKeys((), tuple(map(bytes.fromhex, given["command_keys"])))
        bus = Bus(
            Broker("localhost", 1, None, None),
            TopicTree(),
            device.id,
            trust=trust,
            clock=lambda: 0.0,
            post=lambda _: None,
        )
        try:
            event = bus._decode(Kind.GRANT, envelope, retained=False)
        except SignatureError:
            return "signature_invalid"
        except DecodeError:
            return "malformed"
        assert event is not None
        after, effects = advance(device, event, now)
        if not isinstance(effects[0], LogRefusal):
            assert isinstance(effects[0], Persist), "what is accepted is durable before anything is done"
            assert after.record.marks != device.record.marks
            return "accepted"
        assert after.record == device.record
        assert not any(isinstance(effect, CheckSlot | StopApplication | SwitchSlot | Persist) for effect in effects)
        return effects[0].reason.value

    def _asking(self, given: dict[str, Any]) -> tuple[Any, float]:
        """Bring a device to where it is given to be."""
        bench = Bench().started()
        bench.order(7, epoch=3)
        bench.grant("wait", epoch=3, seq=given["accepted_before"]["seq"])
        bench.wait(60)
        device, question = bench.device, bench.device.question
        assert question is not None
        assert (device.record.desired, device.record.desired_sha256) == (DESIRED, DESIRED_SHA256)
        assert (device.id, device.record.generation) == (given["device"], given["generation"])
        marks = device.record.marks.model_dump(exclude={"media"})
        assert marks == {**given["accepted_before"], "generation": given["generation"]}
        assert given["desired_sha256"] == DESIRED_SHA256
        if given["busy"]:
            device = replace(device, record=device.record.model_copy(update={"phase": Phase.SWITCHING}))
        if given["question"] is None:
            return replace(device, question=None), bench.now
        assert (question.step, question.nonce) == (given["question"]["step"], given["question"]["nonce"])
        return device, question.asked_at + given["question"]["age_seconds"]

    def manifest(self, envelope: bytes, given: dict[str, Any]) -> str:
        says = given["root"]
        root = make_root(
            release=Role.model_validate(says["release"]),
            revoked=tuple(says["revoked"]),
            release_counter_min=says["release_counter_min"],
        )
        slots = Slots(self.folder / "root")
        identity = Identity(**given["device"], trust=TrustRoot(root, self.folder / ROOTS))
        source = self._staged(slots, envelope, given)
        try:
            content = Artifacts(slots, identity, unpack_here).install(source, "blue", HealthCheck())
        except StepError as error:
            assert slots.verified() == {}, "nothing is installed"
            if error.code.value != "archive_invalid":
                assert list(slots.folder("blue").iterdir()) == [], "no byte has reached the slot"
            return error.code.value
        assert slots.verified() == {"blue": content}
        return "accepted"

    def _staged(self, slots: Slots, envelope: bytes, given: dict[str, Any]) -> Source:
        """Put what was fetched where it would be, under the names that were ordered."""
        archive = base64.b64decode(given["archive_base64"])
        digest = given["ordered_sha256"] or sha256(envelope)
        (slots.staging / f"{digest}.json").write_bytes(envelope)
        for named in {sha256(archive), *_named_archives(envelope)}:
            (slots.staging / f"{named}.tar.gz").write_bytes(archive)
        serving = given["serving"] or {"version": None, "release_counter": 0}
        return Source(
            ManifestRef(sha256=digest, size_bytes=len(envelope), urls=()),
            ArtifactRef(sha256=sha256(archive), size_bytes=len(archive), arch="aarch64", sources=()),
            given["order"]["release"],
            given["order"]["version"],
            serving["release_counter"],
            serving["version"],
        )

    def root(self, envelope: bytes, given: dict[str, Any]) -> str:
        first = Root.model_validate(given["trusted"])
        trust = TrustRoot(first, self.folder / ROOTS)
        try:
            text = envelope.decode()
        except UnicodeDecodeError:
            return "not_signed_by_old"  # It cannot even be said in a document.
        try:
            assert trust.learn(encode(TrustDocument(first=2, roots=(text,)))) is not None
        except TrustError as error:
            code = error.code
        except DecodeError:
            code = "not_signed_by_old"  # Larger than any document.
        else:
            assert TrustRoot(first, self.folder / ROOTS).root == trust.root != first
            return "accepted"
        assert trust.root == first
        assert list(self.folder.iterdir()) == [], "nothing is kept"
        return code


def _named_archives(envelope: bytes) -> Iterator[str]:
    """Yield the digest that a manifest names for its archive, so that what lies under it is not that."""
    try:
        artifact = json.loads(read_envelope("application/vnd.tidegate.manifest+json", envelope).payload)["artifact"]
        yield str(artifact["sha256"])
    except (SignatureError, ValueError, KeyError, TypeError):
        return

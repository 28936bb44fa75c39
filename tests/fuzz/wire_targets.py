"""Decoders of what stands on the bus: payloads, topics, signatures, samples."""

import json
import random
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

import msgpack
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_client.adapters.pieces import Pieces
from orchestrator.core.inputs import Input
from orchestrator.core.interpret import Received, Refused, interpret
from orchestrator.intake import Intake, Located
from orchestrator.telemetry.bundle import Bundle, Note, decode_bundle, encode_bundle
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.sample import Sample, decode_sample, decode_samples
from orchestrator.telemetry.sample_table import SampleTable
from schemas.codec import HEALTH, MANIFEST, MESSAGE, decode, decode_object, encode, encode_msgpack
from schemas.commands import VERBS, parse_command
from schemas.documents import MODELS
from schemas.dsse import GRANT_TYPE, MANIFEST_TYPE, MEDIA_ORDER_TYPE, seal, unseal
from schemas.errors import DecodeError, SignatureError
from schemas.ids import SHARD_COUNT, shard_of
from schemas.manifest import Manifest
from schemas.media import ORDER, MediaOrder
from schemas.messages import PIECE_BYTES_MAX, Grant, HealthSample, LatencySketch, Message, PieceRefusal
from schemas.pieces import Piece, read_piece, write_piece
from schemas.topics import RULES, Kind, TopicTree
from tests.core.test_messages import DOCUMENTS
from tests.device.hostile_archives import make_manifest
from tests.fuzz.mutator import Shape, trees
from tests.fuzz.target import Target

TREE: Final = TopicTree()
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC: Final = KEY.public_key().public_bytes_raw()
GRANT: Final = {
    "device": "pi-1", "generation": 7, "step": "activate", "epoch": 3, "seq": 1, "nonce": "5d" * 16, "decision": "go",
    "desired_sha256": "ab" * 32, "ttl_seconds": 120, "server_time": "2026-11-23T10:57:04.482Z",
    "retry_after_seconds": 3.5, "reason": "wave",
}  # fmt: skip
SAMPLE: Final = next(document for model, document in DOCUMENTS if model is HealthSample)
EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    **{model.__name__: document for model, document in DOCUMENTS},
    "Ready": {"generation": 7, "step": "activate", "nonce": "5d" * 16, "manifest_sha256": "ab" * 32},
    "Hold": {"reason": "smoke", "by": "alice"},
    "Sync": {"spread_seconds": 10.0},
    "Reply": {"status": "error", "data": {"a": [1, None]}, "error": {"code": "busy", "message": "later",
    "allowed": ["a"]}},
    "PieceRequest": {"folder": "chunks", "sha256": "ab" * 32, "offset_bytes": 32768, "length_bytes": 32768},
    "PieceRefusal": {"code": "busy", "sha256": "ab" * 32, "offset_bytes": 0, "retry_after_seconds": 5.0},
    "ShardLease": {"term": "3-1", "shards": [0, 1, 63]},
    "DeviceEvent": {"generation": 7, "version": "2", "slot": "blue", "message": "m", "ts": "2026-11-23T10:57:04Z"},
    "RolloutEvent": {"rollout": "r-1", "wave": "w", "device": "pi-1", "detail": {"a": {"b": [1]}},
    "ts": "2026-11-23T10:57:04Z"},
    "OrchestratorInfo": {
        "version": "1", "started_at": "2026-11-23T10:57:04Z", "epoch": 3, "command_keys": ["ab"], "release_keys": [],
    },
    "AuditRecord": {
        "seq": 1, "at": "2026-11-23T10:57:04Z", "epoch": 1, "kind": "k", "body": {"a": 1}, "previous_hash": "ab" * 32,
        "hash": "cd" * 32,
    },
    "TrustDocument": {"first": 1, "roots": ["{}", "{}"]},
    "PeersDocument": {"site": "s", "artifacts": [{"sha256": "ab" * 32, "urls": ["http://10.0.0.1:80"]}]},
    "Grant": GRANT,
    "Manifest": make_manifest(b"archive").model_dump(mode="json"),
    "MediaOrder": {
        "number": 1, "made_at": "2026-11-23T10:57:04Z", "not_after": "2026-12-23T10:57:04Z", "devices": ["pi-1"],
        "groups": ["vision"], "release": "app-2.4.0", "version": "2.4.0", "strategy": "blue_green", "health_check": {},
        "min_ready_seconds": 60.0, "progress_deadline_seconds": 300.0, "targets": [{
            "arch": "aarch64", "manifest_sha256": "ab" * 32, "manifest_size_bytes": 9, "artifact_sha256": "cd" * 32,
            "artifact_size_bytes": 9,
        }],
    },
}  # fmt: skip
_MODELS: Final[tuple[type[Message], ...]] = (*MODELS.values(), Grant, PieceRefusal)
_COMMANDS: Final[dict[str, dict[str, Any]]] = {
    **{verb: {"rollout": "r-1", "wave": "canary", "plan": "ab" * 32, "reason": "good",
    "transaction": "t"} for verb in VERBS},
    "start": {"release": "app-2.4.0", "policy": "careful"},
    "plan": {"release": "app-2.4.0", "policy": {"rollout": {"waves": []}}},
    "quarantine": {"device": "pi-1", "reason": "smoke"},
    "release": {"device": "pi-1"},
    "list": {"what": "devices", "where": 'region == "eu"', "limit": 3},
    "import": {
        "import_id": "i-1", "part": 1, "parts": 1, "dry_run": True,
        "devices": {"pi-1": {"region": "eu", "tags": ["a"], "time_zone": "Europe/Berlin", "maintenance": False}},
    },
}  # fmt: skip
_HOSTILE: Final = (
    b"", b"{}", b"[]", b"null", b"\xef\xbb\xbf{}", b'{"seq":1,"seq":2}', b'{"a":NaN}', b'{"a":1e999}',
    b'{"a":"\\ud800"}',
    b'{"seq":' + b"9" * 5000 + b"}", b'{"a":' + b"[" * 60_000, b'{"a":' * 9000, b"\x81\xa1a" + b"\xdc\x04\x00" * 300,
    b"\x81\xa1a" + b"\xdd\x00\x00\x04\x00" * 200, b"\x81\xa1a" * 900, b"\xdf\xff\xff\xff\xff",
    b"\x81\xa1a\xc7\x01\x01\x00",
    b"\x81\xa1a\xcb\x7f\xf8\0\0\0\0\0\0", b"\x82\xa1a\x01\xa1a\x02", b"\x81\x01\x02", b"\x81\xa2\xc3\x28\x01",
    b"\x81\xa1a\xc4\x01\x00",
)  # fmt: skip


def _documents(*names: str) -> list[bytes]:
    return [*(json.dumps(EXAMPLES[name]).encode() for name in names), *_HOSTILE]


def _whole(seeds: Sequence[bytes]) -> tuple[Shape, ...]:
    return (trees(seeds),)


def _selected(seeds: Sequence[bytes]) -> tuple[Shape, ...]:
    return (trees(seeds, prefix_bytes=1),)


def _decode_object(payload: bytes) -> None:
    for bounds in (MESSAGE, MANIFEST):
        decode_object(payload, bounds)


def _decode_message(payload: bytes) -> None:
    model = _MODELS[payload[0] % len(_MODELS)] if payload else Grant
    message = decode(model, payload[1:], HEALTH if model is HealthSample else MESSAGE)
    written = encode(message)
    if len(written) <= HEALTH.bytes_max:
        assert encode(decode(model, written)) == written


def _message_seeds() -> list[bytes]:
    known = [bytes((at,)) + json.dumps(EXAMPLES[each.__name__]).encode() for at, each in enumerate(_MODELS)]
    return [*known, *(bytes((at,)) + each for at, each in enumerate(_HOSTILE))]


def _decode_command(payload: bytes) -> None:
    verbs = tuple(VERBS)
    parse_command(verbs[payload[0] % len(verbs)] if payload else "list", payload[1:])


def _command_seeds() -> list[bytes]:
    numbered = list(enumerate(VERBS))
    bare = [bytes((at,)) + b" r-042\n" for at, _ in numbered]
    return [*(bytes((at,)) + json.dumps(_COMMANDS[verb]).encode() for at, verb in numbered), *bare]


def _parse_topic(payload: bytes) -> None:
    address = TREE.parse(topic := payload.decode(errors="surrogateescape"))
    if address is not None and address.kind is not Kind.HEALTH:
        assert TREE.build(address.kind, **address.ids) == topic


def _topic_seeds() -> list[bytes]:
    ids = {"device": "pi-1", "kind": "started", "group": "g", "rollout": "r-1", "wave": "w", "scope": "fleet",
    "actor": "alice",
           "verb": "start", "worker": "e1", "shard": "07", "key": "0f"}  # fmt: skip
    known = [f"{TREE.root}/{rule.pattern.format(**ids)}" for rule in RULES.values()]
    return [
        each.encode()
        for each in (*known, "", "/", "fleet/v1/", "fleet/v1/device/+/info", "fleet/v1/device/a\n/info", "$SYS/a")
    ]


def _interpret(payload: bytes) -> None:
    """Topic, a line feed, payload; nothing from the bus may ever be an exception in the orchestrator."""
    topic, _, rest = payload[1:].partition(b"\n")
    retained = bool(payload[:1] == b"r")
    found = interpret(TREE, Received(topic.decode(errors="replace"), rest, retained))
    assert found is None or isinstance(found, Refused | Input)


def _interpret_seeds() -> list[bytes]:
    bodies = [b"online", b"", *(json.dumps(each).encode() for each in (*EXAMPLES.values(), *_COMMANDS.values()))]
    return [b" " + topic + b"\n" + body for topic in _topic_seeds() for body in bodies if len(body) < 1500]


def _unseal(payload: bytes) -> None:
    """What comes out is what was signed, and under the type that it was signed as."""
    with suppress(SignatureError):
        assert unseal(MANIFEST_TYPE, payload, [PUBLIC, bytes(32)]) == _MANIFEST
        return
    assert unseal(GRANT_TYPE, payload, [PUBLIC, bytes(32)]) == _GRANT


_GRANT: Final = json.dumps(GRANT).encode()
_MANIFEST: Final = json.dumps(EXAMPLES["Manifest"]).encode()


def _unseal_seeds() -> list[bytes]:
    sealed = [seal(GRANT_TYPE, _GRANT, KEY), seal(MANIFEST_TYPE, _MANIFEST, KEY)]
    return [*sealed, *(bytes(msgpack.packb(json.loads(each))) for each in sealed), *_HOSTILE]


def _open_grant(payload: bytes) -> None:
    """What a signer who has gone mad may have signed."""
    decode(Grant, unseal(GRANT_TYPE, seal(GRANT_TYPE, payload, KEY), [PUBLIC]))


def _open_media_order(payload: bytes) -> None:
    """What somebody who has the command key may have put on a medium."""
    order = decode(MediaOrder, unseal(MEDIA_ORDER_TYPE, seal(MEDIA_ORDER_TYPE, payload, KEY), [PUBLIC], ORDER), ORDER)
    assert order.is_for("pi-1", "vision") == ("pi-1" in order.devices or "vision" in order.groups)
    assert order.target_for("aarch64") is None or order.target_for("aarch64") in order.targets


def _read_piece(payload: bytes) -> None:
    """What a device hears is within what it asked for, or is nothing; and it is never an exception of another kind."""
    said = read_piece(payload)
    if isinstance(said, Piece):
        assert 0 < len(said.data) <= PIECE_BYTES_MAX
        assert said.offset_bytes + len(said.data) <= said.total_bytes
        assert write_piece(said) == payload
    _ASKING.hear(payload)


_ASKING: Final = Pieces(random.Random(0))


def _piece_seeds() -> list[bytes]:
    whole = [Piece("ab" * 32, offset, 70_000, bytes(length)) for offset, length in ((0, 32768), (65_536, 4464))]
    written = [*map(write_piece, whole), write_piece(Piece("00" * 32, 2**64 - 2, 2**64 - 1, b"x"))]
    return [*written, written[0][:56], written[0] + b"x", written[0][:40], b"tgpiece1", *_documents("PieceRefusal")]


def _decode_manifest(payload: bytes) -> None:
    manifest = decode(Manifest, payload, MANIFEST)
    assert all(not file.path.startswith("/") and ".." not in file.path.split("/") for file in manifest.files)
    assert decode(Manifest, encode(manifest), MANIFEST) == manifest


def _decode_sample(payload: bytes) -> None:
    """The fast reading takes what the wire's model takes, and one bad message costs its neighbours nothing."""
    good = _GOOD_SAMPLE
    found = decode_samples([good, payload, good])
    assert isinstance(found[0], Sample)
    assert isinstance(found[2], Sample)
    try:
        slow: HealthSample | None = decode(HealthSample, payload, HEALTH)
    except DecodeError:
        slow = None
    sample = decode_sample(payload)
    if slow is not None:
        assert (sample.seq, sample.boot_id) == (slow.seq, slow.boot_id)


_GOOD_SAMPLE: Final = encode_msgpack(HealthSample.model_validate(SAMPLE))


def _sample_seeds() -> list[bytes]:
    document = HealthSample.model_validate(SAMPLE)
    return [encode(document), encode_msgpack(document), *_documents("HealthSample", "Info")]


FLEET: Final = ("a", "b", "c")


def _locate(device: str) -> Located | None:
    return Located(Place("g"), FLEET.index(device)) if device in FLEET else None


class _Door:
    """One intake for all payloads: what it keeps of a million must not grow."""

    def __init__(self) -> None:
        self.monitor = Monitor()
        self.intake = Intake(self.monitor, TREE, _locate, lambda _refused, _count: None)
        self.clock = count(1000)

    def take(self, payload: bytes) -> None:
        """Lines: a device and what it sends."""
        lines = [line.partition(b" ") for line in payload.split(b"\n\n")[:64]]
        devices = [device.decode("latin-1") for device, _, _ in lines]
        shards = np.array([_shard(device) for device in devices], dtype=np.uint8)
        self.intake.take(devices, shards, [rest for _, _, rest in lines], float(next(self.clock)))
        self.monitor.settle()

    def take_read(self, payload: bytes) -> None:
        """A bundle, checked and taken."""
        bundle = decode_bundle(payload)
        self.intake.take_read(bundle.devices, bundle.table(), bundle.bad, range(SHARD_COUNT), float(next(self.clock)))


def _shard(device: str) -> int:
    return int(shard_of(device))


_DOOR: Final = _Door()


def _batch_seeds() -> list[bytes]:
    good = [device.encode() + b" " + body for device in (*FLEET, "stranger") for body in _sample_seeds()[:3]]
    return [b"\n\n".join(good), *good, b"\n\n".join(b"b " + each for each in _HOSTILE if b"\n\n" not in each)[:60_000]]


def _bundle_seeds() -> list[bytes]:
    samples = [
        Sample.of(HealthSample(seq=seq, boot_id="b", version="2", requests_total=7, healthy=True,
        quality={"accuracy": 0.5},
                               latency=LatencySketch(gamma=1.1, offset=-20, counts=(1, 2))))
        for seq in range(3)
    ]  # fmt: skip
    table = SampleTable.of(samples)
    note = Note("fleet/v1/health/07/x", "undecodable", "why", 3)
    full = encode_bundle(Bundle.of("t", (0, 63), FLEET, table, bad=[("a", 3)], notes=[note]))
    return [full, encode_bundle(Bundle("", (1,))), full + full, *_HOSTILE]


WIRE: Final[dict[str, Target]] = {
    "object": Target(_decode_object, (DecodeError,), lambda: _documents(*EXAMPLES), _whole),
    "message": Target(_decode_message, (DecodeError,), _message_seeds, _selected),
    "command": Target(_decode_command, (DecodeError,), _command_seeds, _selected),
    "topic": Target(_parse_topic, (), _topic_seeds),
    "interpret": Target(_interpret, (), _interpret_seeds),
    "dsse": Target(_unseal, (SignatureError,), _unseal_seeds, _whole),
    "grant": Target(_open_grant, (DecodeError, SignatureError), lambda: _documents("Grant"), _whole, cost=4),
    "media_order": Target(
        _open_media_order, (DecodeError, SignatureError), lambda: _documents("MediaOrder"), _whole, cost=4
    ),
    "piece": Target(_read_piece, (DecodeError,), _piece_seeds),
    "manifest": Target(_decode_manifest, (DecodeError,), lambda: _documents("Manifest"), _whole),
    "sample": Target(_decode_sample, (DecodeError,), _sample_seeds, _whole),
    "batch": Target(_DOOR.take, (), _batch_seeds, cost=8),
    "bundle": Target(_DOOR.take_read, (DecodeError,), _bundle_seeds, lambda seeds: (trees(seeds, packed=True),)),
}

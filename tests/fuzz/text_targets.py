"""Readers of what people and applications write: policies, filters, inventories, settings, metrics."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from pydantic import ValidationError

from device_client.adapters.health import read_answer
from device_client.adapters.metrics import Counters, parse_metrics
from device_client.adapters.pushed import Totals
from device_client.settings import SettingsError, broker_of, load_settings
from orchestrator.adapters.inventories import Format, InventoryError, parse_inventory
from orchestrator.telemetry.sample import decode_sample
from schemas.codec import MESSAGE, decode_object, encode, encode_msgpack
from schemas.condition_text import parse_duration, parse_threshold, parse_trigger
from schemas.conditions import Metric
from schemas.errors import DecodeError, PolicyError
from schemas.filter_text import parse_filter
from schemas.messages import HealthSample
from schemas.policy import Policy
from schemas.policy_text import parse_policy
from tests.device.test_device_settings import GOOD
from tests.fuzz.mutator import Shape, trees
from tests.fuzz.target import Target, folder, text_of

_EXAMPLES: Final = Path(__file__).parents[2] / "examples"


def _parse_policy(payload: bytes) -> None:
    policy = parse_policy(text_of(payload))
    assert Policy.model_validate(policy.model_dump(mode="python", by_alias=True)) == policy


def _policy_seeds() -> list[bytes]:
    files = [path.read_bytes() for path in sorted((_EXAMPLES / "policies").glob("*.yaml"))]

    small = b"rollout:\n  canary: {percentage: 5}\n  waves:\n  - {name: a, percentage: 100, soak_minutes: 1}\n"
    return [
        *(each for each in files if len(each) < 1500),
        small,
        *files,
        b"",
        b"a: &a [*a]",
        b"? [a]\n: b",
        b"- a",
        b"a: b: c",
    ]


def _policy_object(payload: bytes) -> None:
    """As a start command brings it."""
    Policy.model_validate(decode_object(payload, MESSAGE))


def _policy_objects() -> list[bytes]:
    from ruamel.yaml import YAML  # noqa: PLC0415 - for these alone

    safe = YAML(typ="safe", pure=True)
    return [
        json.dumps(safe.load(path.read_text())).encode() for path in sorted((_EXAMPLES / "policies").glob("*.yaml"))
    ]


def _condition(payload: bytes) -> None:
    """What is printed reads as the same again, but for digits beyond the twelfth."""
    text = text_of(payload[1:])
    metrics = tuple(Metric)
    at = payload[0] if payload else 0
    if at < len(metrics):
        printed = str(parse_threshold(text, metrics[at]))
        assert str(parse_threshold(printed, metrics[at])) == printed
    elif at < 2 * len(metrics):
        printed = str(parse_trigger(text))
        assert str(parse_trigger(printed)) == printed
    else:
        parse_duration(text)


_THRESHOLDS: Final = (
    "baseline + 2%", "baseline * 1.5", "0", "250ms", "all_healthy", "healthy_percentage >= 95%", "baseline - 5%", "0.9",
    "growth < 1% per 10m", "baseline + 3 pp", "baseline + 3% rel", "error_rate <= 0.5",
)  # fmt: skip
_TRIGGERS: Final = (
    "device restarts > 3 in 5 minutes", "error_rate > baseline + 10%", "p95_latency > baseline * 2.0",
    "memory_growth > 5% per 10 minutes", "error_rate increasing for 3 consecutive checks of 2m",
    "failed devices > 20% of wave",
    "temperature trending toward thermal limit", "health endpoint unreachable for > 2 minutes",
    "quality < baseline - 5% rel",
)  # fmt: skip


def _condition_seeds() -> list[bytes]:
    count = len(Metric)
    known = [bytes((at,)) + text.encode() for at in range(count) for text in _THRESHOLDS]
    return [
        *known,
        *(bytes((count,)) + text.encode() for text in _TRIGGERS),
        *(b"\xff" + each for each in (b"15m", b"30 s", b"1.5 hours")),
    ]


def _condition_words(_seeds: Sequence[bytes]) -> tuple[Shape, ...]:
    words = sorted(
        {word for text in (*_THRESHOLDS, *_TRIGGERS) for word in text.split()} | {"1e9", "9" * 400, "0.0", "<=", "%"}
    )

    def shape(rng: Random) -> bytes:
        return (
            bytes((rng.randrange(2 * len(Metric) + 1),)) + " ".join(rng.choices(words, k=rng.randrange(1, 12))).encode()
        )

    return (shape,)


def _filter(payload: bytes) -> None:
    found = parse_filter(text_of(payload))
    assert parse_filter(str(found)) == found


_FILTERS: Final = (
    'type == "jetson"', 'region in ("eu", "us") and not maintenance', 'version < "2.4" or (disk_free_bytes > 1000000)',
    "not (not maintenance)", "tag in ('a', 'b')", 'online and region not in ("eu")', "maintenance == false",
    'type == "\\u00e9\\n"',
)  # fmt: skip


def _filter_seeds() -> list[bytes]:
    return [
        *(each.encode() for each in _FILTERS),
        b"",
        b"(" * 64 + b"maintenance" + b")" * 64,
        b"not " * 500 + b"maintenance",
    ]


def _filter_words(_seeds: Sequence[bytes]) -> tuple[Shape, ...]:
    words = sorted(
        {word for text in _FILTERS for word in text.replace("(", " ( ").replace(")", " ) ").split()}
        | {"and", "9" * 30, ","}
    )

    def shape(rng: Random) -> bytes:
        return " ".join(rng.choices(words, k=rng.randrange(1, 16))).encode()

    return (shape,)


def _inventory(form: Format, payload: bytes) -> None:
    found = parse_inventory(text_of(payload), form, source="fleet")
    assert found, "it names a device, or it is refused"


def _inventory_seeds(suffix: str) -> list[bytes]:
    whole = [path.read_bytes() for path in sorted((_EXAMPLES / "inventories").glob(f"*.{suffix}"))]
    return [*whole, *(b"\n".join(each.splitlines()[:6]) + b"\n" for each in whole), b"", *_SMALL.get(suffix, ())]


_SMALL: Final[dict[str, tuple[bytes, ...]]] = {
    "csv": (
        b'device,type,region,tags,maintenance,time_zone\ncam-1,pi,eu,a;b,no,Europe/Berlin\n"cam-2",,"a""b",,,\r\n',
    ),
    "yaml": (
        b"devices:\n  cam-1: {region: eu, tags: [a, b], time_zone: UTC}\n  cam-2:\n",
        b"- {device: cam-1, maintenance: yes}\n",
    ),
    "json": (
        b'{"_meta":{"hostvars":{"cam-1":{"region":"eu","tidegate_time_zone":"UTC","tags":["a"]}}},"g":{"hosts":["cam-1"]}}',
    ),
}


def _settings(payload: bytes) -> None:
    path = folder() / "agent.toml"
    path.write_bytes(payload)
    broker_of(load_settings(path))


_WHOLE_SETTINGS: Final = (
    GOOD + 'site = "plant"\ntags = ["a"]\nmaintenance = true\nsample_interval_seconds = 1.5\nencoding = "json"\n'
    'topic_root = "x/v1"\npassword_file = "agent.toml"\n'
).encode()


def _settings_seeds() -> list[bytes]:
    tls = (
        GOOD.replace("mqtt://", "mqtts://").encode()
        + b'ca_file = "ca"\ncertificate_file = "c"\nprivate_key_file = "k"\n'
    )
    return [
        GOOD.encode(),
        _WHOLE_SETTINGS,
        tls,
        b"[a]\nb = 1979-05-27T07:32:00Z\n",
        b"",
        b"a = 1\na = 2\n",
        b"[[a]]\n[a.b]\n",
    ]


def _metrics(payload: bytes) -> None:
    """An application says three things, one after the other; what is made of them can be sent."""
    counters = Counters()
    for part in payload.split(b"\n\n", 2):
        latency = counters.update(parse_metrics(text_of(part)))
        said = HealthSample(
            seq=1,
            boot_id="b",
            requests_total=counters.requests_total,
            errors_total=counters.errors_total,
            latency=latency,
        )
        assert decode_sample(encode_msgpack(said)).requests_total == counters.requests_total


def _push(payload: bytes) -> None:
    """An application pushes lines; what is made of them can be sent."""
    totals = Totals()
    for line in text_of(payload).split("\n"):
        totals.take(line)
    said = HealthSample(
        seq=1, boot_id="b", requests_total=totals.requests, errors_total=totals.errors,
        log_errors_total=totals.log_errors, latency=totals.sketch(), quality=totals.quality or None,
    )  # fmt: skip
    decode_sample(encode_msgpack(said))


def _push_seeds() -> list[bytes]:
    return [
        b"requests:3|c\nerrors:1|c\nlatency:12.5|ms\naccuracy:0.93|g",
        b"log_errors:2|c",
        b"latency:0|ms",
        _PUSHED_MOST,
    ]


_PUSHED_MOST: Final = b"requests:999999999999999|c\n" * 12


def _health(payload: bytes) -> None:
    """What an application answers can be passed on."""
    found = read_answer(payload)
    decode_sample(encode(HealthSample(seq=1, boot_id="b", version=found.version, healthy=found.ok)))


def _health_seeds() -> list[bytes]:
    return [b'{"status":"ok","version":"1.1.0"}', b'{"status":"ok","version":"1.1 (build 3)"}', b"ok", b"[" * 60_000]


def _metrics_seeds() -> list[bytes]:
    line = b'app_request_duration_seconds_bucket{path="/",le="%s"} %d\n'
    whole = b'# HELP x y\napp_requests_total 100\napp_errors_total{kind="a"} 3\n' + b"".join(
        line % (bound, 10 * at) for at, bound in enumerate((b"0.005", b"0.1", b"2.5", b"+Inf"), start=1)
    )
    return [
        whole,
        whole + b"\n" + whole.replace(b" 40", b" 90"),
        line % (b"1e308", 5),
        line % (b"5e-324", 2**52),
        line % (b"+Inf", 3),
    ]


TEXT: Final[dict[str, Target]] = {
    "policy": Target(_parse_policy, (PolicyError,), _policy_seeds, cost=100),
    "policy-object": Target(
        _policy_object, (DecodeError, ValidationError), _policy_objects, lambda seeds: (trees(seeds),), cost=20
    ),
    "condition": Target(_condition, (PolicyError,), _condition_seeds, _condition_words, cost=10),
    "filter": Target(_filter, (PolicyError,), _filter_seeds, _filter_words, cost=2),
    "inventory-csv": Target(partial(_inventory, "csv"), (InventoryError,), partial(_inventory_seeds, "csv")),
    "inventory-yaml": Target(
        partial(_inventory, "yaml"), (InventoryError,), partial(_inventory_seeds, "yaml"), cost=50
    ),
    "inventory-ansible": Target(
        partial(_inventory, "ansible"),
        (InventoryError,),
        partial(_inventory_seeds, "json"),
        lambda seeds: (trees(seeds),),
    ),
    "settings": Target(_settings, (SettingsError,), _settings_seeds, cost=2),
    "metrics": Target(_metrics, (), _metrics_seeds),
    "pushed": Target(_push, (), _push_seeds),
    "health-answer": Target(_health, (), _health_seeds, lambda seeds: (trees(seeds),)),
}

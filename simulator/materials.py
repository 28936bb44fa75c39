"""What a simulated fleet works with: devices, releases, keys, policies. All of it follows from names and the seed."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Final

from device_client.core.record import SlotContent
from device_client.core.setup import BARE, Setup
from embedded_broker.acl import parse_acl
from embedded_broker.state import Authorizer
from orchestrator.core.releases import StoredArtifact, StoredRelease
from orchestrator.examples import find_examples
from schemas.access import access_list
from schemas.manifest import NOARCH
from schemas.messages import HealthCheck
from schemas.policy import Gate, Policy
from schemas.policy_phases import CANARY_PHASES, CanaryPhases
from schemas.policy_text import parse_policy

OLD_VERSION: Final = "1.0.0"
NEW_VERSION: Final = "2.0.0"
NEW_RELEASE: Final = "app-2.0.0"
NEXT_VERSION: Final = "3.0.0"
NEXT_RELEASE: Final = "app-3.0.0"
DEVICE_TYPES: Final = ("raspberrypi4", "jetson")
_REGIONS: Final = ("eu-north", "us-east")


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """What a device is and how it is equipped; ``time_zone`` is an IANA name."""

    id: str
    device_type: str
    region: str
    group: str
    time_zone: str | None = None
    setup: Setup = BARE
    arch: str = "aarch64"
    site: str | None = None
    tags: tuple[str, ...] = ()
    single_point_of_failure: bool = False
    maintenance: bool = False
    known_issues: tuple[str, ...] = ()


def make_fleet(count: int, types: Sequence[str] = DEVICE_TYPES) -> tuple[DeviceSpec, ...]:
    """Return ``count`` devices of these types by turns, in two regions; the type is the group."""
    return tuple(
        DeviceSpec(
            id=f"d-{number:04d}",
            device_type=types[number % len(types)],
            region=_REGIONS[number // len(types) % 2],
            group=types[number % len(types)],
        )
        for number in range(count)
    )


def make_release(version: str) -> StoredRelease:
    """Return the release of ``version`` as the registry would hold it."""
    artifact = StoredArtifact(
        manifest_sha256=manifest_sha256(version),
        manifest_size_bytes=2_000,
        artifact_sha256=_digest(f"artifact {version}"),
        artifact_size_bytes=50_000_000,
        arch=NOARCH,
        unpacked_bytes=120_000_000,
        device_types=(),
    )
    return StoredRelease(
        release=f"app-{version}", version=version, release_counter=release_counter(version), by_arch={NOARCH: artifact}
    )


def make_content(version: str, health_check: HealthCheck, root_version: int = 0) -> SlotContent:
    """Return what an intact slot with ``version`` holds, verified under a trust root."""
    return SlotContent(
        release=f"app-{version}",
        version=version,
        manifest_sha256=manifest_sha256(version),
        release_counter=release_counter(version),
        command=("app",),
        health_check=health_check,
        tree_digest=_digest(f"tree {version}"),
        root_version=root_version,
    )


def manifest_sha256(version: str) -> str:
    """Return the name of the version's manifest."""
    return _digest(f"manifest {version}")


def release_counter(version: str) -> int:
    """Return the version's counter: its first number."""
    return int(version.split(".", 1)[0])


@cache
def careful_policy() -> Policy:
    """Return the policy of ``examples/policies/careful.yaml``, for devices that report half as often as it expects."""
    path = find_examples() / "policies" / "careful.yaml"
    policy = parse_policy(path.read_text(), source=path.name)
    canary = policy.rollout.canary
    canary = canary.model_copy(update={"phases": _each(canary.phases, partial(_with_samples, enough=10))})
    return policy.model_copy(update={"rollout": policy.rollout.model_copy(update={"canary": canary})})


@cache
def brisk_policy() -> Policy:
    """Return the careful policy for a small fleet: a sample a minute, two canaries, and a few minutes of watching."""
    careful = careful_policy()
    rollout = careful.rollout
    canary = rollout.canary.model_copy(
        update={
            "min_devices": 2,
            "percentage": 15.0,
            "immediate_minutes": 1.0,
            "short_term_minutes": 2.0,
            "soak_minutes": 4.0,
            "phases": _each(rollout.canary.phases, _brisk),
        }
    )
    waves = tuple(wave.model_copy(update={"soak_minutes": 3.0}) for wave in rollout.waves)
    limits = rollout.global_.model_copy(update={"health_check_interval_seconds": 60.0})
    gates = {name: _with_samples(gate, 8) for name, gate in careful.health_gates if gate is not None}
    return careful.model_copy(
        update={
            "rollout": rollout.model_copy(update={"canary": canary, "waves": waves, "global_": limits}),
            "health_gates": careful.health_gates.model_copy(update=gates),
        }
    )


def _each(phases: CanaryPhases, change: Callable[[Gate], Gate]) -> CanaryPhases:
    return phases.model_copy(update={str(phase): change(phases.gate(phase)) for phase in CANARY_PHASES})


def _with_samples(gate: Gate, enough: int) -> Gate:
    checks = (check.model_copy(update={"min_samples": min(check.min_samples, enough)}) for check in gate.checks)
    return gate.model_copy(update={"checks": tuple(checks)})


def _brisk(gate: Gate) -> Gate:
    """Ask for one sample, and leave the trends out: a few minutes with a sample in each cannot show one."""
    checks = tuple(check for check in gate.checks if not check.type.endswith("_trend"))
    return _with_samples(gate.model_copy(update={"checks": checks}), 1)


@cache
def broker_acl(*people: str) -> Authorizer:
    """Return the access list that a production broker has, for these operators."""
    text = access_list(people)
    return parse_acl(text, source="broker-config/acl").authorizer()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

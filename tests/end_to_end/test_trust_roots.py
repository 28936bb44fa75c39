"""The orchestrator and its trust roots: it tells devices of them, and rolls out only what they let in."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiomqtt
import pytest

from orchestrator.adapters.keys import load_public
from orchestrator.adapters.roots import RootFolder
from orchestrator.cli.bus import request
from schemas.codec import decode
from schemas.documents import OrchestratorInfo
from schemas.messages import TrustDocument
from schemas.topics import Kind, TopicTree
from schemas.trust import follow
from tests.core.trust_roots import make_root, role, signed
from tests.end_to_end.stage import POLICY, Stage, make_stage

TREE = TopicTree()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield make_stage(stack, tmp_path, ["d-1"])


class Roots:
    """The roots of a stage."""

    def __init__(self, stage: Stage) -> None:
        keys = stage.folder / "keys"
        self.folder = RootFolder(keys / "roots")
        self.values = {
            name: {"keys": [load_public(keys / f"{name}.pub").hex()], "threshold": 1} for name in ("release", "command")
        }
        self.first = make_root(1, root=role("root-a"), **self.values)

    def install(self, version: int, **changes: object) -> None:
        self.folder.install(signed(make_root(version, root=role("root-a"), **{**self.values, **changes}), "root-a"))


async def plan(stage: Stage, release: str) -> tuple[str, str]:
    body = {"release": release, "policy": POLICY, "rollout": "r-1"}
    reply = await request(stage.operator(), "plan", body, timeout_seconds=10)
    return (reply.error.code, reply.error.message) if reply.error is not None else ("ok", "")


async def retained(stage: Stage, user: str, kind: Kind, *, is_device: bool = False) -> list[bytes]:
    """Return what is said on a topic until it holds still for a moment."""
    url = stage.broker.url_for(user, is_device=is_device)
    heard: list[bytes] = []
    async with aiomqtt.Client(url.host, url.port, username=url.username, password=url.password) as client:
        await client.subscribe(TREE.build(kind), 1)
        try:
            async with asyncio.timeout(10):
                async for message in client.messages:
                    assert isinstance(message.payload, bytes)
                    heard.append(message.payload)
                    return heard
        except TimeoutError:
            pytest.fail(f"nothing is retained on {kind}")
    return heard


async def test_devices_hear_of_roots_and_a_revoked_release_is_not_planned(stage: Stage) -> None:
    roots = Roots(stage)
    roots.install(1)
    stage.start()
    assert await plan(stage, "lab-1.2.0") == ("ok", "")

    roots.install(2, revoked=("lab-1.2.0",))

    for _ in range(200):
        (said,) = await retained(stage, "d-1", Kind.TRUST, is_device=True)
        newest, _ = follow(roots.first, decode(TrustDocument, said))
        if newest.version == 2:
            break
        await asyncio.sleep(0.05)
    assert newest.revoked == ("lab-1.2.0",)
    code, message = await plan(stage, "lab-1.2.0")
    assert (code, message.split("; ")[0]) == (
        "not_allowed",
        "lab-1.2.0 is revoked by root 2, and no device installs it",
    )
    assert await plan(stage, "lab-1.1.0") == ("ok", "")
    for _ in range(200):  # It is told with the next tick that follows a fact.
        (said,) = await retained(stage, "alice", Kind.ORCHESTRATOR_INFO)
        if decode(OrchestratorInfo, said).root_version == 2:
            break
        await asyncio.sleep(0.05)
    assert decode(OrchestratorInfo, said).root_version == 2


async def test_nothing_is_planned_under_keys_that_do_not_count_any_more_or_a_root_that_has_expired(
    stage: Stage,
) -> None:
    roots = Roots(stage)
    roots.install(1, release=role("release-a"))
    stage.start()
    code, message = await plan(stage, "lab-1.2.0")
    assert (code, "no signature of a trusted key" in message) == ("not_allowed", True)

    roots.install(2, expires="2001-01-01T00:00:00Z")
    code, message = await plan(stage, "lab-1.2.0")

    assert (code, "root 2 has expired on 2001-01-01T00:00:00Z" in message) == ("not_allowed", True)

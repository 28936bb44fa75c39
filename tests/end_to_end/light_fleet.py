"""Devices that speak the wire contract and nothing else: no slots, no processes, an application that is a counter.

An independent implementation of the device's side, for tests of the orchestrator's process over a real broker.
"""

import asyncio
import contextlib
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import aiomqtt

from orchestrator.adapters.brokers import Broker
from schemas.codec import decode, encode
from schemas.dsse import GRANT_TYPE, unseal
from schemas.messages import Desired, Grant, HealthSample, Info, Ready, Reported
from schemas.topics import Kind, TopicTree

TREE = TopicTree()
SAMPLE_INTERVAL_SECONDS = 0.1


@dataclass
class LightDevice:
    """One device; ``bad_versions`` answer every second request with an error."""

    name: str
    command_key: bytes
    bad_versions: frozenset[str] = frozenset()
    version: str = "1.0.0"
    previous: str = "0.9.0"
    generation: int = 0
    traceparent: str | None = None
    activations: list[tuple[int, str]] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    requests: int = 0
    errors: int = 0
    sample_seq: int = 0
    report_seq: int = 0
    is_ending: bool = False

    async def run(self, broker: Broker) -> None:
        url = broker.url_for(self.name, is_device=True)
        while not self.is_ending:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(
                    url.host, url.port, username=url.username, password=url.password, identifier=self.name,
                    tls_context=url.tls_context(),
                    will=aiomqtt.Will(self.topic(Kind.AVAILABILITY), b"offline", 1, retain=True),
                ) as client:  # fmt: skip
                    await self.live(client)
            await asyncio.sleep(0.2)

    def topic(self, kind: Kind) -> str:
        return TREE.build(kind, device=self.name)

    async def live(self, client: aiomqtt.Client) -> None:
        await client.publish(self.topic(Kind.AVAILABILITY), b"online", 1, retain=True)
        info = Info(
            session=1, boot_id="b", agent="light", device_type="light", arch="noarch", region="here", group="lab",
            signals=("error_rate", "latency"), version=self.version,
        )  # fmt: skip
        await client.publish(self.topic(Kind.INFO), encode(info), 1, retain=True)
        await self.report(client, "idle")
        for kind in (Kind.DESIRED, Kind.GRANT):
            await client.subscribe(self.topic(kind), 1)
        work = asyncio.Queue[tuple[Desired, str]]()
        grants = asyncio.Queue[Grant]()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.measure(client))
            tasks.create_task(self.follow(client, work, grants))
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                if str(message.topic).endswith("/grant"):
                    grants.put_nowait(
                        Grant.model_validate(json.loads(unseal(GRANT_TYPE, message.payload, [self.command_key])))
                    )
                elif message.payload:
                    digest = hashlib.sha256(message.payload).hexdigest()
                    work.put_nowait((decode(Desired, message.payload), digest))
            raise aiomqtt.MqttError("disconnected")

    async def follow(
        self, client: aiomqtt.Client, work: "asyncio.Queue[tuple[Desired, str]]", grants: "asyncio.Queue[Grant]"
    ) -> None:
        while not self.is_ending:
            desired, digest = await work.get()
            while not work.empty():
                desired, digest = work.get_nowait()
            if desired.generation < self.generation:
                continue
            self.generation, self.traceparent = desired.generation, desired.traceparent
            if desired.action == "hold" or desired.version == self.version:
                await self.report(client, "idle")
                continue
            await self.report(client, "ready")
            if await self.ask(client, desired, digest, "activate", work, grants):
                self.activations.append((desired.generation, desired.version))
                self.version, self.previous = desired.version, self.version
                self.requests = self.errors = 0
                await self.report(client, "trial")
                if desired.action == "rollback" or await self.ask(client, desired, digest, "commit", work, grants):
                    await self.report(client, "idle")

    async def ask(  # noqa: PLR0917 - one helper of one caller
        self, client: aiomqtt.Client, desired: Desired, digest: str, step: str,
        work: "asyncio.Queue[tuple[Desired, str]]", grants: "asyncio.Queue[Grant]",
    ) -> bool:  # fmt: skip
        """Ask until it may go; false as soon as there is a newer order."""
        while work.empty() and not self.is_ending:
            ready = Ready.model_validate(
                {"generation": desired.generation, "step": step, "nonce": secrets.token_hex(16)}
            )
            await client.publish(self.topic(Kind.READY), encode(ready), 1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    while (grant := await grants.get()).nonce != ready.nonce:
                        pass
                    self.grants.append(grant)
                    if grant.decision == "go":
                        assert grant.desired_sha256 == digest
                        return True
                    await asyncio.sleep(min(grant.retry_after_seconds or 0.1, 0.1))
        return False

    async def measure(self, client: aiomqtt.Client) -> None:
        while not self.is_ending:
            self.requests += 10
            self.errors += 5 if self.version in self.bad_versions else 0
            self.sample_seq += 1
            sample = HealthSample(
                seq=self.sample_seq, boot_id=f"b-{self.version}", version=self.version, requests_total=self.requests,
                errors_total=self.errors, latency_p95_seconds=0.01, restarts_total=0, healthy=True, endpoint_up=True,
            )  # fmt: skip
            await client.publish(self.topic(Kind.HEALTH), encode(sample), 0)
            await asyncio.sleep(SAMPLE_INTERVAL_SECONDS)

    async def report(self, client: aiomqtt.Client, state: str) -> None:
        self.report_seq += 1
        reported = Reported.model_validate(
            {
                "observed_generation": self.generation,
                "seq": self.report_seq,
                "state": state,
                "installed_version": self.version,
                "previous_version": self.previous,
                "boot_id": "b",
                "traceparent": self.traceparent,
            }
        )
        await client.publish(self.topic(Kind.REPORTED), encode(reported), 1, retain=True)


@contextlib.asynccontextmanager
async def living(devices: Sequence[LightDevice], broker: Broker) -> AsyncIterator[None]:
    """Let the devices live beside the test."""
    tasks = [asyncio.ensure_future(device.run(broker)) for device in devices]
    try:
        yield
    finally:
        for device in devices:
            device.is_ending = True
        # A publish may swallow a cancellation that comes with its acknowledgement (Python 3.11's wait_for): ask again.
        pending = set(tasks)
        while pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.2)

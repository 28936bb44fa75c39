"""A first release for a device that has none, from files: what a factory image or a technician puts there.

It is verified like any other release, and it is the only way to change what serves without a grant; so it is refused on
a device that already has something active.
"""

import hashlib
from pathlib import Path

from device_client.adapters.artifact import Artifacts, Identity, read_manifest
from device_client.adapters.failure import StepError
from device_client.adapters.journal import Journal
from device_client.adapters.slots import Slots
from device_client.core.codes import ErrorCode
from device_client.core.effects import Source
from device_client.core.record import Record, SlotContent
from device_client.settings import Settings, trust_of
from schemas.manifest import Manifest
from schemas.messages import ArtifactRef, HealthCheck, ManifestRef


def provision(settings: Settings, slots: Slots, journal: Journal, manifest: Path, archive: Path) -> SlotContent:
    """Install a release into the blue slot and make it active; the agent must not run.

    Args:
        settings: For the keys that are trusted and what the release must fit to.
        slots: Of this device.
        journal: Where its record is kept.
        manifest: The signed manifest as it is published.
        archive: The archive that the manifest describes.

    Returns:
        What the slot holds.

    Raises:
        StepError: The device has an active slot, or the release does not verify.
        OSError: A file cannot be read or the record cannot be written.
        SettingsError: The keys that are trusted cannot be had.
    """
    if slots.active() is not None:
        raise StepError(ErrorCode.IO_ERROR, f"{slots.root}: {slots.active()} is active; this is for empty devices")
    trust = trust_of(settings, slots.state)
    source = _source(read_manifest(manifest.read_bytes(), trust), manifest.read_bytes())
    artifacts = Artifacts(slots, Identity(settings.arch, settings.device_type, trust))
    artifacts.stage(source, manifest, archive)
    # Until an order says otherwise, the application is asked as often as its health is reported.
    health_check = HealthCheck(interval_seconds=settings.sample_interval_seconds)
    content = artifacts.install(source, "blue", health_check)
    slots.clear_staging()
    slots.switch("blue")
    journal.save(Record(active="blue", blue=content))
    return content


def _source(described: Manifest, envelope: bytes) -> Source:
    artifact = described.artifact
    return Source(
        manifest=ManifestRef(sha256=hashlib.sha256(envelope).hexdigest(), size_bytes=len(envelope), urls=()),
        artifact=ArtifactRef(sha256=artifact.sha256, size_bytes=artifact.size_bytes, arch=artifact.arch, sources=()),
        release=described.release,
        version=described.target_version,
        release_counter_min=0,
    )

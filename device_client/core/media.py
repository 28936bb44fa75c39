"""Orders on media: which one is taken, and why another is not.

Nobody can be asked, so freshness is a number: a device takes no order that is not above all that it took. A time says
something only on a clock that may be right: one that shows an earlier time than when the order was made is wrong, and
is not asked. Everything else about the release is proven as for an order from the bus.

What came over the bus wins: while there is a session, or there was one a moment ago, an order on a medium waits if it
contradicts. It also waits for what is under way. What waits is looked at again with each look at the media.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from device_client.core.codes import MESSAGE_LENGTH_MAX, ErrorCode
from device_client.core.effects import LogMedia
from device_client.core.events import MediaOrderFound, MediaRejected, MediaSeen
from device_client.core.installing import PREPARING
from device_client.core.machine import ASKING, IN_PROGRESS
from device_client.core.orders import pursue
from device_client.core.record import MEDIA_REFUSALS_KEPT, MediaOrderRefused, MediaOrderTaken, Record
from device_client.core.state import NOTHING, Device, Outcome, note
from schemas.media import MediaOrder, MediaTarget
from schemas.messages import ArtifactRef, Desired, ManifestRef
from schemas.times import parse_timestamp

MEDIA: Final = "media"
"""Stands for rollout and wave in what such an order wants."""


class MediaWait(StrEnum):
    """Why an order is neither taken nor refused."""

    TAKEN = "taken"
    UNDER_WAY = "under_way"
    ORDER_STANDS = "order_stands"


_WORDS: Final = {
    MediaWait.TAKEN: "it was taken before",
    MediaWait.UNDER_WAY: "something else is under way",
    MediaWait.ORDER_STANDS: "another order came over the bus, which is there or was there a moment ago",
}


@dataclass(frozen=True, slots=True)
class MediaRefused:
    """This order is none for this device, now and later."""

    code: ErrorCode
    message: str


def on_media_seen(device: Device, event: MediaSeen, now: float) -> Outcome:
    """Take the newest order that is for this device, or say once why not."""
    before, there = device.media_seen, frozenset(each.sha256 for each in event.found)
    device = replace(device, media_seen=there)
    ours = [each for each in event.found if each.order.is_for(device.id, device.setup.group)]
    newest = max(ours or event.found, key=lambda each: each.order.number, default=None)
    if newest is None:
        return device, NOTHING
    judged = judge_media(device, newest, event.clock, now)
    match judged:
        case MediaRefused(code, message):
            return _refuse(device, newest.sha256, newest.order.number, code, message)
        case MediaWait.TAKEN:
            return _resume(device, newest.sha256, now, is_back=newest.sha256 not in before), NOTHING
        case MediaWait():
            return _wait(device, newest, judged)
        case _:
            return _take(device, newest, judged)


def on_media_rejected(device: Device, event: MediaRejected) -> Outcome:
    """Say once that something on a medium is no order of this fleet."""
    return _refuse(device, event.sha256, None, event.code, event.message)


def judge_media(
    device: Device, found: MediaOrderFound, clock: float, now: float
) -> MediaTarget | MediaRefused | MediaWait:
    """Return what of an order is to be installed, or why it is not.

    Args:
        device: As it is.
        found: Its signature is already verified.
        clock: What the device's clock shows, in seconds since the epoch; it may be wrong.
        now: Seconds on the boot clock.
    """
    order, record = found.order, device.record
    if not order.is_for(device.id, device.setup.group):
        return MediaRefused(ErrorCode.WRONG_DEVICE, f"order {order.number} is not for {device.id}")
    if record.media is not None and record.media.sha256 == found.sha256:
        return MediaWait.TAKEN
    if order.number == record.marks.media:
        return MediaWait.TAKEN  # and something from the bus has taken its place since
    if order.number < record.marks.media:
        return MediaRefused(ErrorCode.MEDIA_STALE, f"order {order.number} is older than {record.marks.media}")
    try:
        made_at = parse_timestamp(order.made_at)
        not_after = None if order.not_after is None else parse_timestamp(order.not_after)
    except ValueError as error:
        return MediaRefused(ErrorCode.INVALID_ORDER, f"order {order.number}: {error}")
    ahead = device.server_ahead_seconds  # of a signed grant, so better than our own clock
    shown = max(made_at, clock if ahead is None else now + ahead)
    if not_after is not None and shown > not_after:
        return MediaRefused(ErrorCode.EXPIRED, f"order {order.number} was good until {order.not_after}")
    if device.root is not None and device.root.has_expired(shown):
        return MediaRefused(ErrorCode.ROOT_EXPIRED, f"root {device.root.version} was good until {device.root.expires}")
    target = order.target_for(device.setup.arch)
    if target is None:
        return MediaRefused(ErrorCode.ARCH_MISMATCH, f"order {order.number} has nothing for {device.setup.arch}")
    return _wait_of(device, target, now) or target


def _wait_of(device: Device, target: MediaTarget, now: float) -> MediaWait | None:
    """Say whether the order must wait, and for what."""
    record = device.record
    is_preparing = record.phase in PREPARING | ASKING and record.trial is None
    is_resting = record.phase not in IN_PROGRESS and not record.deferred
    if not (is_resting or is_preparing):
        return MediaWait.UNDER_WAY
    desired = record.desired
    if desired is None or record.media is not None:
        return None
    is_same = desired.manifest is not None and desired.manifest.sha256 == target.manifest_sha256
    if is_resting and is_same:
        return None
    is_away = device.away_since is not None and now - device.away_since >= device.setup.media_wait_seconds
    return None if is_away else MediaWait.ORDER_STANDS


def _take(device: Device, found: MediaOrderFound, target: MediaTarget) -> Outcome:
    order, record = found.order, device.record
    is_followed = record.phase not in IN_PROGRESS and not record.deferred
    owes = record.media.owes if record.media is not None else not is_followed
    accepted = record.model_copy(
        update={
            "desired": _desired(order, target, record),
            "media": MediaOrderTaken(number=order.number, sha256=found.sha256, owes=owes),
            "marks": record.marks.model_copy(update={"media": order.number}),
            "attempts": 0,
            "waits": 0,
            "fetched": None,
            "deferred": True,
        }
    )
    return pursue(replace(device, record=accepted))


def _desired(order: MediaOrder, target: MediaTarget, record: Record) -> Desired:
    """Return what ``order`` wants, under the generation of the last order from the bus, which it does not raise."""
    return Desired(
        generation=record.generation,
        epoch=max(record.marks.epoch, 0 if record.desired is None else record.desired.epoch),
        rollout=MEDIA,
        wave=MEDIA,
        action="install",
        release=order.release,
        version=order.version,
        strategy=order.strategy,
        manifest=ManifestRef(sha256=target.manifest_sha256, size_bytes=target.manifest_size_bytes, urls=()),
        artifact=ArtifactRef(
            sha256=target.artifact_sha256, size_bytes=target.artifact_size_bytes, arch=target.arch, sources=()
        ),
        health_check=order.health_check,
        min_ready_seconds=order.min_ready_seconds,
        progress_deadline_seconds=order.progress_deadline_seconds,
        commit_on="local_health",
    )


def _resume(device: Device, sha256: str, now: float, *, is_back: bool) -> Device:
    """Go on at once when the medium that an install waits for is there again."""
    record = device.record
    waits = record.error is not None and record.error.code == ErrorCode.MEDIA_MISSING and device.step is None
    is_ours = record.media is not None and record.media.sha256 == sha256
    return replace(device, retry_at=now) if is_ours and waits and is_back and record.phase in PREPARING else device


def _wait(device: Device, found: MediaOrderFound, why: MediaWait) -> Outcome:
    told = (found.sha256, why.value)
    if device.media_told == told:
        return device, NOTHING
    log = LogMedia(found.order.number, why.value, _WORDS[why], is_refused=False)
    return replace(device, media_told=told), (log,)


def _refuse(device: Device, sha256: str, number: int | None, code: ErrorCode, message: str) -> Outcome:
    """Remember the refusal, which is said in the log now and in each report."""
    known = device.record.media_refused
    if any((each.sha256, each.code) == (sha256, code) for each in known):
        return device, NOTHING
    refused = MediaOrderRefused(sha256=sha256, number=number, code=code.value, message=message[:MESSAGE_LENGTH_MAX])
    kept = (*known, refused)[-MEDIA_REFUSALS_KEPT:]
    device, told = note(device, media_refused=kept)
    return device, (*told, LogMedia(number, code.value, refused.message, is_refused=True))
